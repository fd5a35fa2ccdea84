"""Writes the page of a run, in Markdown."""

import textwrap

from matrix import imperfect, reason, said, total, unexplained, where
from plan import DIRECT, LOSSY, SLOW

WIDTH = 100

#: The columns of the tables: a head, and the cells that count for it, by path, front and protocols.
COLUMNS = [
    ("HTTP/1.1", DIRECT.name, None, ["http1"]),
    ("HTTP/1.1, TLS", DIRECT.name, None, ["http1-tls"]),
    ("HTTP/2", DIRECT.name, None, ["h2"]),
    ("HTTP/2, TLS", DIRECT.name, None, ["h2-tls"]),
    ("gRPC", DIRECT.name, None, ["grpc", "grpc-web"]),
    ("100 ms, HTTP/1.1", SLOW.name, None, ["http1"]),
    ("100 ms, h2 or gRPC", SLOW.name, None, ["h2-tls", "grpc"]),
    ("100 ms, 1 % loss", LOSSY.name, None, ["http1"]),
    ("nginx, buffered", DIRECT.name, "nginx, buffered", ["http1"]),
    ("nginx, streaming", DIRECT.name, "nginx, streaming", ["http1"]),
    ("HAProxy", DIRECT.name, "HAProxy", ["http1"]),
    ("Apache", DIRECT.name, "Apache", ["http1"]),
    ("Caddy", DIRECT.name, "Caddy", ["http1"]),
]

#: The columns with a front.
FRONTS = [column for column in COLUMNS if column[2]]

INTRODUCTION = """\
Real clients upload {megabytes} MB to the [upload form](../../examples/upload_form/main.rs), which \
has a limit of 4 MiB and responds with 413. Once it runs with this crate, and once with `--plain`, \
the same app without it. gRPC clients call [an example](../../examples/grpc_upload/main.rs), and \
get `RESOURCE_EXHAUSTED`. A response counts if the client shows the status and the whole text, and \
reports no error."""

HOW = """\
`{command}` made the run of this page on {date}, in {minutes} minutes: {tries} tries of each cell, \
{system}, congestion control {congestion_control}, servers of cargo's profile {profile}; {crates}. The numbers \
of `--plain` vary from run to run, because the client races with the reset. [matrix.json](matrix.json) has each cell: the client, the body's shape, the errors in the \
client's words, the failed writes, the resets."""

NETWORK = """\
Client, front and server have a network namespace each. So `TcpOutRsts`, which nstat reads in the \
server's namespace, counts the resets of the server and no others. Without a delay, the link is a \
veth pair with the packet size of the loopback interface. The slow link is a pair of TUN devices \
and `tests/lab/link.py`. Resets are counted until the server has no connection left."""


def render(result):
    """Returns the page of a matrix."""
    crate = of_server(result, "crate")
    plain = of_server(result, "plain")
    parts = [
        "# The responses that real clients read",
        paragraph(INTRODUCTION.format(megabytes=result["upload_bytes"] // 1_000_000)),
        picture(),
        summary(result, crate, plain),
        paragraph(HOW.format(**{**result, "crates": listed(result["crates"])})),
        *map(paragraph, result["notes"]),
        "## Without a front",
        paragraph(
            "Each cell is the number of responses that arrived, of the number of tries: with `--plain`, "
            "then with this crate. It counts all shapes of the body: raw, form, chunked, with `Expect`. "
            "With `--plain`, the handler of a chunked body sees an error, and responds with 400. That is not "
            "the refusal, and does not count."
        ),
        table(result, [column for column in COLUMNS if not column[2]]),
        "## Behind a front",
        table(result, FRONTS),
        "## Cells that are not perfect",
        imperfections(result),
        "## The resets of the server",
        paragraph(NETWORK),
        resets(result, plain, crate),
        "## Cells that are not run",
        not_run(result),
        "## Versions",
        versions(result),
        paragraph(
            "The [table of clients](../../tests/clients/clients.toml) has the versions that "
            "`tests/lab/run --install` installs. [PROBE.md](PROBE.md) has the results of synthetic "
            "clients against this crate, nginx, actix-web and a WSGI program."
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def of_server(result, server):
    return [row for row in result["cells"] if row["server"] == server]


def paragraph(text):
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def bullet(text):
    return textwrap.fill("- " + text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def listed(versions):
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def picture():
    return (
        "<picture>\n"
        '  <source media="(prefers-color-scheme: dark)" srcset="../images/matrix-dark.svg">\n'
        '  <img src="../images/matrix-light.svg" alt="The share of responses that arrived, of each client, '
        'without this crate and with it">\n'
        "</picture>"
    )


def summary(result, crate, plain):
    whole = sum(row["whole"] == row["tries"] for row in crate)
    lost = sum(row["whole"] < row["tries"] for row in plain)
    unknown = unexplained(result)
    words = (
        f"**With this crate, each response arrived in {whole} of {len(crate)} cells** "
        f"({arrived(crate)} responses), and the server's kernel sent {sent(crate)} resets. "
        f"With `--plain`, responses did not arrive in {lost} of {len(plain)} cells ({arrived(plain)} "
        f"arrived, and {others(plain)} were another response, such as a 502), and it sent {sent(plain)} "
        "resets. "
    )
    words += "[Some cells](#cells-that-are-not-perfect) have no known reason." if unknown else (
        "Each cell with this crate that is not perfect has [a known reason](#cells-that-are-not-perfect)."
    )
    return paragraph(words)


def arrived(rows):
    whole, tries = total(rows)
    return f"{whole} of {tries}"


def others(rows):
    return sum(sum(row["other"].values()) for row in rows)


def sent(rows):
    known = [row["resets"] for row in rows if row["resets"] is not None]
    return str(sum(known)) if known else "an unknown number of"


def cells_of(rows, column):
    _, path, front, over = column
    return [row for row in rows if (row["path"], row["front"]) == (path, front) and row["over"] in over]


def table(result, columns):
    rows = result["cells"]
    columns = [column for column in columns if cells_of(rows, column)]
    clients = dict.fromkeys(row["client"] for column in columns for row in cells_of(rows, column))
    lines = [line(["client", *(column[0] for column in columns)]), line(["---"] * (len(columns) + 1))]
    for client in clients:
        mine = [row for row in rows if row["client"] == client]
        lines.append(line([client, *(pair(cells_of(mine, column)) for column in columns)]))
    return "\n".join(lines)


def line(cells):
    return "| " + " | ".join(cells) + " |"


def pair(rows):
    """Returns the numbers of both servers, those that are not perfect in bold."""
    if not rows:
        return ""
    numbers = []
    for server in ("plain", "crate"):
        whole, tries = total([row for row in rows if row["server"] == server])
        numbers.append(f"{whole}/{tries}" if whole == tries else f"**{whole}/{tries}**")
    return " · ".join(numbers)


def imperfections(result):
    rows = imperfect(result)
    if not rows:
        return "There are none: each response arrived, and no reset was sent."
    by_reason = {}
    for row in rows:
        why = reason(result, row) or "no known reason"
        by_reason.setdefault(why, []).append(row)
    lines = [paragraph("With this crate:")]
    for why, those in by_reason.items():
        names = "; ".join(f"{where(row).removesuffix(', crate')}: {said(row)}" for row in those)
        lines.append(bullet(f"**{why[0].upper() + why[1:]}.** {names}."))
    lines.append(
        paragraph(
            "[HTTP2.md](../HTTP2.md#clients-that-lose-the-response) examines the clients that lose the "
            "response of any server over HTTP/2, and says when to raise `StreamLinger::timeout`: on the "
            "slow path with 20 s, httpx, OkHttp and Java's HttpClient read 3 of 3 responses each, by hand. "
            "[PROXIES.md](../PROXIES.md) is about proxies."
        )
    )
    return "\n\n".join([lines[0], "\n".join(lines[1:-1]), lines[-1]])


def resets(result, plain, crate):
    lines = [line(["", "`--plain`", "this crate"]), line(["---"] * 3)]
    for column in COLUMNS:
        mine = [cells_of(rows, column) for rows in (plain, crate)]
        if any(mine):
            lines.append(line([column[0], *(sent(rows) for rows in mine)]))
    writes = [
        f"{place}, clients reported {failed(plain, has_front)} failed writes with `--plain`, and "
        f"{failed(crate, has_front)} with this crate."
        for place, has_front in [("Without a front", False), ("Behind a front", True)]
    ]
    return "\n".join(lines) + "\n\n" + paragraph(" ".join(writes))


def failed(rows, has_front):
    return sum(row["failed_writes"] for row in rows if (row["front"] is not None) == has_front)


def not_run(result):
    lines = [bullet(f"{what}: {why}.") for what, why in result["not_run"]]
    gaps = [bullet(f"{what}: {why}.") for what, why in result["gaps"]]
    if not gaps:
        return "\n".join(lines) + "\n\nNo program was missing on the machine of this run."
    return "\n".join(lines) + "\n\nMissing on the machine of this run:\n\n" + "\n".join(gaps)


def versions(result):
    found = {**result["clients"], **result["fronts"]}
    lines = [line(["program", "version"]), line(["---"] * 2)]
    return "\n".join(lines + [line([name, version or "unknown"]) for name, version in found.items()])
