"""Uploads a file and prints the response.

    upload.py CLIENT form|raw|chunked URL FILE

CLIENT is a module: http.client, requests, urllib3, niquests, aiohttp, tornado, pycurl or httpx.
httpx speaks HTTP/2, pycurl speaks it if it is called pycurl-h2, and the others speak HTTP/1.1.
Any certificate is accepted.

Prints the status and the version in the first line and the body after it. Exits with 0
if a whole response was read, otherwise with 1 and the error.
"""

import http.client
import io
import pathlib
import ssl
import sys
import urllib.parse
import warnings

# The form's certificate is self-signed, and some libraries warn of that.
warnings.simplefilter("ignore")

TIMEOUT = 120
BOUNDARY = "a-boundary-that-is-in-no-file"
RAW_TYPE = "application/octet-stream"
PIECE = 64 * 1024


def multipart(content):
    head = (
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="photopicker"; filename="a.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def pieces(content):
    """Yields the content. Libraries send a generator with chunked coding."""
    for at in range(0, len(content), PIECE):
        yield content[at : at + PIECE]


def encoded(shape, content):
    """Returns the body and its type, for libraries that do not make forms."""
    if shape == "form":
        return multipart(content), f"multipart/form-data; boundary={BOUNDARY}"
    return (pieces(content) if shape == "chunked" else content), RAW_TYPE


def arguments(shape, content, raw="data"):
    """Returns the arguments of a library with the interface of requests."""
    if shape == "form":
        return {"files": {"photopicker": ("a.bin", content)}}
    return {raw: pieces(content) if shape == "chunked" else content}


def anyone():
    return ssl._create_unverified_context()


def by_http_client(shape, url, content):
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.netloc, timeout=TIMEOUT, context=anyone())
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)
    body, kind = encoded(shape, content)
    connection.request(
        "POST", parts.path or "/", body, {"Content-Type": kind}, encode_chunked=shape == "chunked"
    )
    response = connection.getresponse()
    return response.status, f"HTTP/{response.version / 10}", response.read().decode()


def by_requests(shape, url, content):
    import requests

    response = requests.post(url, **arguments(shape, content), timeout=TIMEOUT, verify=False)
    return response.status_code, f"HTTP/{response.raw.version / 10}", response.text


def by_urllib3(shape, url, content):
    import urllib3

    body, kind = encoded(shape, content)
    with urllib3.PoolManager(cert_reqs="CERT_NONE", retries=False, timeout=TIMEOUT) as pool:
        response = pool.request("POST", url, body=body, headers={"Content-Type": kind})
        return response.status, f"HTTP/{response.version / 10}", response.data.decode()


def by_niquests(shape, url, content):
    import niquests

    with niquests.Session(disable_http2=True, disable_http3=True) as session:
        response = session.post(url, **arguments(shape, content), timeout=TIMEOUT, verify=False)
        return response.status_code, f"HTTP/{response.http_version / 10}", response.text


def by_httpx(shape, url, content):
    import httpx

    # Without TLS there is no negotiation, so the client must know that this is HTTP/2.
    negotiated = url.startswith("https:")
    with httpx.Client(http1=negotiated, http2=True, verify=False, timeout=TIMEOUT) as client:
        response = client.post(url, **arguments(shape, content, raw="content"))
        return response.status_code, response.http_version, response.text


def by_httpx_1(shape, url, content):
    import httpx

    with httpx.Client(verify=False, timeout=TIMEOUT) as client:
        response = client.post(url, **arguments(shape, content, raw="content"))
        return response.status_code, response.http_version, response.text


def by_aiohttp(shape, url, content):
    import asyncio

    import aiohttp

    async def upload():
        body = content
        if shape == "form":
            body = aiohttp.FormData()
            body.add_field("photopicker", content, filename="a.bin")
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.post(url, data=body, ssl=False) as response:
                version = f"HTTP/{response.version.major}.{response.version.minor}"
                return response.status, version, await response.text()

    return asyncio.run(upload())


def by_tornado(shape, url, content):
    import asyncio

    from tornado.httpclient import AsyncHTTPClient, HTTPRequest

    async def upload():
        body, kind = encoded(shape, content)
        request = HTTPRequest(
            url,
            method="POST",
            body=body,
            headers={"Content-Type": kind},
            request_timeout=TIMEOUT,
            validate_cert=False,
        )
        # Its client does not tell the version: it speaks HTTP/1.1 only.
        response = await AsyncHTTPClient(max_body_size=1 << 30).fetch(request, raise_error=False)
        if response.code == 599:
            raise response.error
        return response.code, "HTTP/1.1", (response.body or b"").decode()

    return asyncio.run(upload())


def by_pycurl(shape, url, content, over=None):
    import pycurl

    body, kind = encoded(shape, content)
    text = io.BytesIO()
    curl = pycurl.Curl()
    if over is None:
        over = pycurl.CURL_HTTP_VERSION_1_1
    curl.setopt(pycurl.URL, url)
    curl.setopt(pycurl.HTTP_VERSION, over)
    curl.setopt(pycurl.POST, True)
    curl.setopt(pycurl.POSTFIELDSIZE_LARGE, len(body))
    curl.setopt(pycurl.READFUNCTION, io.BytesIO(body).read)
    curl.setopt(pycurl.HTTPHEADER, [f"Content-Type: {kind}", "Expect:"])
    curl.setopt(pycurl.SSL_VERIFYPEER, False)
    curl.setopt(pycurl.SSL_VERIFYHOST, 0)
    curl.setopt(pycurl.TIMEOUT, TIMEOUT)
    curl.setopt(pycurl.WRITEFUNCTION, text.write)
    curl.perform()
    is_2 = curl.getinfo(pycurl.INFO_HTTP_VERSION) == pycurl.CURL_HTTP_VERSION_2_0
    version = "HTTP/2" if is_2 else "HTTP/1.1"
    return curl.getinfo(pycurl.RESPONSE_CODE), version, text.getvalue().decode()


def by_pycurl_h2(shape, url, content):
    import pycurl

    negotiated = url.startswith("https:")
    known = pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE
    over = pycurl.CURL_HTTP_VERSION_2TLS if negotiated else known
    return by_pycurl(shape, url, content, over)


CLIENTS = {
    "http.client": by_http_client,
    "requests": by_requests,
    "urllib3": by_urllib3,
    "niquests": by_niquests,
    "httpx": by_httpx,
    "httpx-h1": by_httpx_1,
    "aiohttp": by_aiohttp,
    "tornado": by_tornado,
    "pycurl": by_pycurl,
    "pycurl-h2": by_pycurl_h2,
}

client, shape, url, file = sys.argv[1:]
try:
    status, version, body = CLIENTS[client](shape, url, pathlib.Path(file).read_bytes())
except Exception as error:  # Each library has errors of its own.
    # The cause below: libraries wrap it.
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    sys.exit(" < ".join(f"{type(cause).__name__}: {cause}" for cause in causes))
print(status, "over", version)
print(body)
