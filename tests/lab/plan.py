"""Chooses the cells of the matrix: which client uploads over which protocol, by which path, through
which front, to which server."""

import os
from dataclasses import dataclass

import servers
from table import Client

#: The same app with this crate and without it.
SERVERS = ["plain", "crate"]

#: The program between the client and the server.
FRONTS = ["nginx, buffered", "nginx, streaming", "HAProxy", "Apache", "Caddy"]

#: Why a front loses responses that the server has delivered to it.
FRONT_REASONS = {
    "Caddy": "Caddy loses it: Go's net/http reads at most 256 KiB of an unread body, and resets the "
    "client after half a second",
}


@dataclass(frozen=True)
class Path:
    name: str
    #: The round trip in ms, the rate in Mbit/s, the loss in percent. None: a link without a delay.
    link: tuple | None
    #: How many cells are measured at the same time, each in a network of its own.
    lanes: int


DIRECT = Path("no delay", None, 2)
SLOW = Path("100 ms, 20 Mbit/s", (100, 20, 0), 8)
LOSSY = Path("the same, 1 % loss", (100, 20, 1), 8)
PATHS = [DIRECT, SLOW, LOSSY]

#: What is not run, and why.
NOT_RUN = [
    (
        "fronts on slow paths",
        "the client's connection ends at the front, so the front decides what a slow client reads",
    ),
    (
        "fronts with TLS or HTTP/2 towards the client",
        "the connection between front and server is the same",
    ),
    (
        "fronts with the other bodies, and with the other clients",
        "the server sees the requests of the front, whichever client sent them",
    ),
    (
        "slow paths with TLS over HTTP/1.1 and with other bodies than the first",
        "each takes 8 s for a try, and differs only above the connection",
    ),
    ("loss with HTTP/2 and gRPC", "as above"),
    ("HTTP/2 with prior knowledge in browsers, wget, Ruby and others", "they do not speak it"),
    ("HTTP/1.1 over TLS in browsers", "they negotiate HTTP/2"),
    (
        "clients that lose each response, on slow paths",
        "they lose it without a delay already",
    ),
]

#: The protocols that are measured on each path.
OVER = {
    DIRECT.name: ["http1", "http1-tls", "h2", "h2-tls", "grpc", "grpc-web"],
    SLOW.name: ["http1", "h2-tls", "grpc"],
    LOSSY.name: ["http1"],
}


@dataclass(frozen=True)
class Cell:
    client: Client
    over: str
    shape: str
    front: str | None
    path: Path
    server: str


def plan(clients, paths=None):
    """Returns the cells in the order of their networks."""
    cells = []
    for path in paths or PATHS:
        for front in [None, *(FRONTS if path is DIRECT else [])]:
            for client in clients:
                cells += cells_of(client, path, front)
    return cells


def cells_of(client, path, front):
    if front and not client.fronts:
        return []
    if client.loses and path is not DIRECT:
        return []
    over = [each for each in client.over if each in OVER[path.name]]
    if front:
        over = [each for each in over if each == "http1"]
    shapes = client.shapes if path is DIRECT and not front else client.shapes[:1]
    return [
        Cell(client, protocol, shape, front, path, server)
        for protocol in over
        for shape in shapes
        for server in SERVERS
    ]


def runnable(cells):
    """Returns the cells that this machine can run, and a name and a reason for all others."""
    missing = {client: client.missing() for client in {cell.client for cell in cells}}
    gaps = {client.name: why for client, why in missing.items() if why}
    for front in {cell.front for cell in cells if cell.front}:
        if why := servers.front_missing(front):
            gaps[front] = why
    if os.geteuid() != 0:
        gaps["slow paths, and the counts of resets"] = "not root"
    can = [
        cell
        for cell in cells
        if not missing[cell.client]
        and cell.front not in gaps
        and (cell.path.link is None or os.geteuid() == 0)
    ]
    return can, sorted(gaps.items())
