"""Uploads a file and prints the response.

    upload.py http.client|requests|httpx form|raw URL FILE

httpx speaks HTTP/2, and the others HTTP/1.1. Any certificate is accepted.

Prints the status and the version in the first line and the body after it. Exits with 0
if a whole response was read, otherwise with 1 and the error.
"""

import http.client
import pathlib
import ssl
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
    if parts.scheme == "https":
        anyone = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(parts.netloc, timeout=60, context=anyone)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    if shape == "form":
        content = multipart(content)
        kind = f"multipart/form-data; boundary={BOUNDARY}"
    else:
        kind = "application/octet-stream"
    connection.request("POST", parts.path or "/", content, {"Content-Type": kind})
    response = connection.getresponse()
    return response.status, f"HTTP/{response.version / 10}", response.read().decode()


def by_requests(shape, url, content):
    import requests

    if shape == "form":
        response = requests.post(url, files={"photopicker": ("a.bin", content)}, timeout=60)
    else:
        response = requests.post(url, data=content, timeout=60)
    return response.status_code, f"HTTP/{response.raw.version / 10}", response.text


def by_httpx(shape, url, content):
    import httpx

    # Without TLS there is no negotiation, so the client must know that this is HTTP/2.
    negotiated = url.startswith("https:")
    body = {"files": {"photopicker": ("a.bin", content)}} if shape == "form" else {"content": content}
    with httpx.Client(http1=negotiated, http2=True, verify=False, timeout=60) as client:
        try:
            response = client.post(url, **body)
        except httpx.HTTPError as error:
            raise OSError(repr(error)) from error
        return response.status_code, response.http_version, response.text


client, shape, url, file = sys.argv[1:]
upload = {"http.client": by_http_client, "requests": by_requests, "httpx": by_httpx}[client]
try:
    status, version, body = upload(shape, url, pathlib.Path(file).read_bytes())
except OSError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(status, "over", version)
print(body)
