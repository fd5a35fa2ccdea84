"""A WSGI program that refuses uploads above 4 MiB with 400, before it reads them.

It is what many first programs do with environ['wsgi.input'], and clients lose its refusals.
"""

import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server

LIMIT = 4 * 1024 * 1024


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, *_):
        pass


def app(environ, start_response):
    """Responds with the length of the upload, or refuses it."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > LIMIT:
        start_response("400 Bad Request", [("Content-Type", "text/plain")])
        return [b"The upload is too large. The limit is 4 MiB.\n"]
    body = environ["wsgi.input"].read(length)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d bytes\n" % len(body)]


with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    sys.stderr = open("/dev/null", "w")  # resets end in tracebacks
    server.serve_forever()
