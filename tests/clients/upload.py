"""Uploads a file and says what came back.

    upload.py http.client|requests form|raw URL FILE

Prints the status in the first line and the body after it, exits with 0 when a
whole response was read, and with 1 and the error when not.
"""

import http.client
import pathlib
import sys
import urllib.parse

BOUNDARY = "a-boundary-that-is-in-no-file"


def multipart(content):
    head = (
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="photopicker"; filename="a.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def by_http_client(shape, url, content):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    if shape == "form":
        content = multipart(content)
        kind = f"multipart/form-data; boundary={BOUNDARY}"
    else:
        kind = "application/octet-stream"
    connection.request("POST", parts.path or "/", content, {"Content-Type": kind})
    response = connection.getresponse()
    return response.status, response.read().decode()


def by_requests(shape, url, content):
    import requests

    if shape == "form":
        response = requests.post(url, files={"photopicker": ("a.bin", content)}, timeout=60)
    else:
        response = requests.post(url, data=content, timeout=60)
    return response.status_code, response.text


client, shape, url, file = sys.argv[1:]
upload = {"http.client": by_http_client, "requests": by_requests}[client]
try:
    status, body = upload(shape, url, pathlib.Path(file).read_bytes())
except OSError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(status)
print(body)
