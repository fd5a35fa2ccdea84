"""Uploads over HTTP/3 with a client, and prints what it saw.

    clients.py CLIENT SCENARIO URL

CLIENT: curl (its library, by curl_cffi), aioquic or niquests. Any certificate is accepted.
Exits with 0 if each response is the expected one, otherwise with 1 and the reason.
"""

import asyncio
import concurrent.futures
import hashlib
import ssl
import sys
import threading
import urllib.parse

TIMEOUT = 30
LARGE = bytes(20_000_000)
# Above the limit, too.
MEDIUM = bytes(5_000_000)
SMALL = bytes(3_000_000)
HASH = hashlib.sha256(SMALL).hexdigest()

# The name of a scenario, and its requests: the method, the path, the body, whether its length is
# declared, and the expected status. The requests of "ten_at_once" are concurrent.
ONE_CONNECTION = [
    ("GET", "/", None, True, 200),
    ("POST", "/", MEDIUM, True, 413),
    ("POST", "/", SMALL, True, 200),
    ("POST", "/private", MEDIUM, True, 401),
]
SCENARIOS = {
    "413_declared": [("POST", "/", LARGE, True, 413)],
    "413_streamed": [("POST", "/", LARGE, False, 413)],
    "401": [("POST", "/private", LARGE, True, 401)],
    "404": [("POST", "/nothing", LARGE, True, 404)],
    "accepted": [("POST", "/", SMALL, True, 200)],
    "get": [("GET", "/", None, True, 200)],
    "twenty_on_one": ONE_CONNECTION * 5,
    "ten_at_once": [("POST", "/", MEDIUM, True, 413), ("POST", "/", SMALL, True, 200)] * 5,
}


def check(request, seen):
    method, path, body, _, expected = request
    status, version, text = seen
    if version != 3:
        raise AssertionError(f"{method} {path} went over HTTP/{version}")
    if status != expected:
        raise AssertionError(f"{method} {path}: {status} and not {expected}")
    if body is SMALL and text.decode() != HASH:
        raise AssertionError(f"{method} {path}: the server received another body")
    if method == "GET" and text != b"hello":
        raise AssertionError(f"{method} {path}: {text}")


class Curl:
    """One handle, and so one connection, for each thread."""

    def __init__(self, url):
        self.url = url
        self.local = threading.local()

    def send(self, method, path, body, declared):
        import io

        from curl_cffi import Curl as Handle
        from curl_cffi import CurlHttpVersion, CurlInfo, CurlOpt

        if not hasattr(self.local, "handle"):
            self.local.handle = Handle()
        handle = self.local.handle
        handle.reset()
        received = io.BytesIO()
        handle.setopt(CurlOpt.URL, (self.url + path).encode())
        handle.setopt(CurlOpt.HTTP_VERSION, CurlHttpVersion.V3ONLY)
        handle.setopt(CurlOpt.SSL_VERIFYPEER, 0)
        handle.setopt(CurlOpt.SSL_VERIFYHOST, 0)
        handle.setopt(CurlOpt.TIMEOUT, TIMEOUT)
        handle.setopt(CurlOpt.WRITEDATA, received)
        if body is not None:
            handle.setopt(CurlOpt.UPLOAD, 1)
            handle.setopt(CurlOpt.CUSTOMREQUEST, method.encode())
            handle.setopt(CurlOpt.READDATA, io.BytesIO(body))
            if declared:
                handle.setopt(CurlOpt.INFILESIZE_LARGE, len(body))
        handle.perform()
        status = handle.getinfo(CurlInfo.RESPONSE_CODE)
        version = {30: 3, 4: 3}.get(handle.getinfo(CurlInfo.HTTP_VERSION), 0)
        return status, version, received.getvalue()


class Niquests:
    def __init__(self, url):
        import niquests

        self.url = url
        self.session = niquests.Session(disable_http1=True, disable_http2=True)
        # An environment variable with certificates would replace `verify`.
        self.session.trust_env = False
        self.session.verify = False
        host, port = urllib.parse.urlsplit(url).netloc.split(":")
        self.session.quic_cache_layer.add_domain(host, int(port))

    def send(self, method, path, body, declared):
        data = body
        if body is not None and not declared:
            data = (body[at : at + 65536] for at in range(0, len(body), 65536))
        response = self.session.request(method, self.url + path, data=data, timeout=TIMEOUT)
        return response.status_code, response.http_version // 10, response.content


def by_threads(client, requests, concurrent_requests):
    with concurrent.futures.ThreadPoolExecutor(len(requests) if concurrent_requests else 1) as pool:
        futures = [pool.submit(client.send, *request[:4]) for request in requests]
        for request, future in zip(requests, futures):
            check(request, future.result(TIMEOUT + 5))


async def by_aioquic(url, requests, concurrent_requests):
    from aioquic.asyncio.client import connect
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.h3.connection import H3_ALPN, H3Connection
    from aioquic.h3.events import DataReceived, HeadersReceived
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.events import ConnectionTerminated, StreamReset

    class Protocol(QuicConnectionProtocol):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.http = H3Connection(self._quic)
            self.waiting = {}
            self.seen = {}

        def quic_event_received(self, event):
            if isinstance(event, ConnectionTerminated):
                for waiter in self.waiting.values():
                    if not waiter.done():
                        waiter.set_exception(OSError(f"closed: {event}"))
            if isinstance(event, StreamReset) and event.stream_id in self.waiting:
                self.waiting[event.stream_id].set_exception(OSError(f"reset: {event}"))
            for part in self.http.handle_event(event):
                if not isinstance(part, (HeadersReceived, DataReceived)):
                    continue
                status, body = self.seen.get(part.stream_id, (None, b""))
                if isinstance(part, HeadersReceived):
                    status = status or int(dict(part.headers)[b":status"])
                else:
                    body += part.data
                self.seen[part.stream_id] = status, body
                if part.stream_ended:
                    self.waiting[part.stream_id].set_result(None)

        async def send(self, method, path, body, declared):
            stream = self._quic.get_next_available_stream_id()
            self.waiting[stream] = asyncio.get_running_loop().create_future()
            headers = [
                (b":method", method.encode()),
                (b":scheme", b"https"),
                (b":authority", netloc.encode()),
                (b":path", path.encode()),
            ]
            if body is not None and declared:
                headers.append((b"content-length", str(len(body)).encode()))
            self.http.send_headers(stream, headers, end_stream=body is None)
            if body is not None:
                self.http.send_data(stream, body, end_stream=True)
            self.transmit()
            await asyncio.wait_for(self.waiting[stream], TIMEOUT)
            status, received = self.seen[stream]
            return status, 3, received

    netloc = urllib.parse.urlsplit(url).netloc
    host, port = netloc.split(":")
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE)
    async with connect(
        host, int(port), configuration=configuration, create_protocol=Protocol
    ) as client:
        if concurrent_requests:
            seen = await asyncio.gather(*(client.send(*request[:4]) for request in requests))
            for request, response in zip(requests, seen):
                check(request, response)
        else:
            for request in requests:
                check(request, await client.send(*request[:4]))


def main():
    name, scenario, url = sys.argv[1:]
    requests = SCENARIOS[scenario]
    concurrent_requests = scenario == "ten_at_once"
    if name == "aioquic":
        asyncio.run(by_aioquic(url, requests, concurrent_requests))
    else:
        client = {"curl": Curl, "niquests": Niquests}[name](url)
        by_threads(client, requests, concurrent_requests)


try:
    main()
except BaseException as error:
    sys.exit(f"{type(error).__name__}: {error}")
print("ok")
