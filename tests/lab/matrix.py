"""The matrix: what a run has measured, as data, and what is wrong with it."""

import datetime
import json
import os
import platform
import re

import servers
import table
from plan import FRONT_REASONS, NOT_RUN

#: The libraries of the servers.
CRATES = ["axum", "hyper", "h2", "tonic", "tokio-rustls", "tower-http"]

#: Why a response may be lost with this crate, to a client that cannot stop.
PATIENT = "it cannot stop before it has sent everything, which may take longer than the 2 s of StreamLinger::timeout"

#: How such a client fails then: its stream is reset without an error, or it waits for a window.
PATIENT_ERRORS = "NO_ERROR|not done in|StreamClosedError|stream closed|EOF reached"


def gather(rows, gaps, clients, command, tries, seconds):
    """Returns the matrix of a run."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "command": command,
        "minutes": round(seconds / 60, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {os.cpu_count()} cores",
        "congestion_control": congestion_control(),
        "profile": table.profile,
        "upload_bytes": 20_000_000,
        "tries": tries,
        "crates": {crate: table.locked(crate) for crate in CRATES},
        "clients": versions(rows, clients),
        "fronts": {front: servers.front_version(front) for front in fronts(rows)},
        "reasons": reasons(clients),
        "notes": [],
        "gaps": [list(gap) for gap in gaps],
        "not_run": [list(each) for each in NOT_RUN],
        "cells": rows,
    }


def fronts(rows):
    return list(dict.fromkeys(row["front"] for row in rows if row["front"]))


def versions(rows, clients):
    ran = {row["client"] for row in rows}
    found = {}
    for client in clients:
        if client.name in ran and not found.get(client.name):
            found[client.name] = client.version()
    return found


def congestion_control():
    try:
        with open("/proc/sys/net/ipv4/tcp_congestion_control") as file:
            return file.read().strip()
    except OSError:
        return None


def reasons(clients):
    """Returns why a client may lose responses with this crate, by its name, its protocols and its
    errors."""
    found = []
    for client in clients:
        whys = {client.loses: "", PATIENT if client.patient else None: PATIENT_ERRORS}
        if client.races:
            whys[client.races["why"]] = client.races["error"]
        for why, errors in whys.items():
            if why:
                found.append({"client": client.name, "over": client.over, "errors": errors, "why": why})
    return found


def reason(result, row):
    """Returns the known reason why a cell loses responses, or `None`. A front that loses one has sent
    resets, and the server has sent none."""
    if row["front"] in FRONT_REASONS and row["front_resets"] != 0:
        return FRONT_REASONS[row["front"]]
    known = [each for each in result["reasons"] if each["client"] == row["client"] and row["over"] in each["over"]]
    whys = {explained(known, error) for error in row["lost"] or [""]}
    return None if None in whys else "; ".join(sorted(whys))


def explained(known, error):
    return next((each["why"] for each in known if re.search(each["errors"], error)), None)


def imperfect(result):
    """Returns the cells with this crate in which a response did not arrive, or a reset was sent."""
    return [
        row
        for row in result["cells"]
        if row["server"] == "crate" and (row["whole"] < row["tries"] or row["resets"])
    ]


def unexplained(result):
    """Returns what is wrong with a run, in words."""
    wrong = []
    for row in imperfect(result):
        if row["resets"] or not reason(result, row):
            wrong.append(f"{where(row)}: {said(row)}")
    return wrong


def control(result):
    """Returns what is wrong if the run has not seen the fault, which `--plain` shows."""
    plain = [row for row in result["cells"] if row["server"] == "plain"]
    if any(row["whole"] < row["tries"] or row["resets"] for row in plain):
        return []
    return ["with --plain, nothing was lost and no reset was counted, so this run shows nothing"]


def where(row):
    parts = [row["client"], row["over"], row["shape"], row["front"], row["path"], row["server"]]
    return ", ".join(part for part in parts if part)


def said(row):
    """Returns the outcome of a cell in words."""
    parts = [f"{row['whole']} of {row['tries']} arrived"]
    parts += [f"{count} × status {status}" for status, count in row["other"].items()]
    parts += [f"{count} × {error}" for error, count in row["lost"].items()]
    if row["resets"]:
        parts.append(f"{row['resets']} resets sent")
    return "; ".join(parts)


def total(rows):
    """Returns how many responses arrived, and how many were to."""
    return sum(row["whole"] for row in rows), sum(row["tries"] for row in rows)


def dump(result):
    """Returns the matrix as JSON, with a line for each cell."""
    cells = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in result["cells"])
    rest = json.dumps({key: value for key, value in result.items() if key != "cells"}, indent=2, ensure_ascii=False)
    return rest.removesuffix("\n}") + ',\n  "cells": [\n' + cells + "\n  ]\n}\n"
