"""Measures cells: starts the servers, runs the clients, and counts what they read."""

import collections
import queue
import subprocess
import threading
import time

from judge import outcome, outcome_of_line
from network import Network
from servers import Front, Server
from table import ROOT, environment

#: How long one try may take, in seconds. Without a delay, 20 MB take 2 s at most, and at 20 Mbit/s
#: they take 8 s.
TIMEOUT = 20
SLOW_TIMEOUT = 40

#: Set when the run is interrupted: no further try begins.
stopped = threading.Event()


class Lane:
    """One network, in which cells are measured one after another. One server runs at a time, with
    the front before it."""

    def __init__(self, path, front):
        self.front = front
        self.network = Network(path.link, has_front=front is not None)
        self.running = None
        self.processes = []

    def base(self, cell):
        """Returns the URL for the client, and starts what is behind it."""
        wanted = server_of(cell)
        if self.running != wanted:
            self.stop()
            self.processes.append(Server(self.network, *wanted))
            if self.front:
                self.processes.append(Front(self.network, self.front, self.processes[0]))
            self.running = wanted
        return self.processes[-1].url

    def stop(self):
        self.running = None
        while self.processes:
            self.processes.pop().close()

    def close(self):
        self.stop()
        self.network.close()


def server_of(cell):
    """Returns the server that a cell needs, and its kind."""
    if cell.over.startswith("grpc"):
        return cell.server, "grpc"
    return cell.server, "https" if cell.over.endswith("-tls") else "http"


def measure(cell, lane, tries, file):
    """Returns the cell's row of the matrix."""
    base = lane.base(cell)
    counts = [lane.network.resets(role) for role in ("server", "front")]
    start = time.monotonic()
    outcomes = attempts(cell, lane, base, tries, file)
    seconds = (time.monotonic() - start) / tries
    if cell.front is None:
        # A front keeps its connections.
        lane.network.settle()
    sent = [
        None if before is None else lane.network.resets(role) - before
        for role, before in zip(("server", "front"), counts)
    ]
    return row(cell, outcomes, sent, seconds)


def attempts(cell, lane, base, tries, file):
    client = cell.client
    if not client.repeats:
        return [attempt(cell, lane, base, file) for _ in range(tries) if not stopped.is_set()]
    command = client.command(cell.over, cell.shape, base, file, tries)
    code, out, err = execute(lane.network.within("client") + command, tries * timeout_of(cell))
    outcomes = [outcome_of_line(line, cell.over, cell.server) for line in out.splitlines() if line][:tries]
    lacking = outcome(code or 1, "", err, [0], cell.over, cell.server)
    return outcomes + [lacking] * (tries - len(outcomes))


def attempt(cell, lane, base, file):
    command = cell.client.command(cell.over, cell.shape, base, file, 1)
    code, out, err = execute(lane.network.within("client") + command, timeout_of(cell))
    return outcome(code, out, err, cell.client.ok, cell.over, cell.server)


def timeout_of(cell):
    return SLOW_TIMEOUT if cell.path.link else TIMEOUT


def execute(command, timeout):
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        out, err = process.communicate(timeout=timeout)
        return process.returncode, out, err
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        return 1, out, f"error: not done in {timeout} s"


def row(cell, outcomes, sent, seconds):
    """Returns the outcomes of a cell as data."""
    kinds = collections.Counter(outcome.kind for outcome in outcomes)

    def details(kind):
        return dict(collections.Counter(each.detail for each in outcomes if each.kind == kind))

    return {
        "client": cell.client.name,
        "over": cell.over,
        "shape": cell.shape,
        "front": cell.front,
        "path": cell.path.name,
        "server": cell.server,
        "tries": len(outcomes),
        "whole": kinds["whole"],
        "other": details("other"),
        "lost": details("lost"),
        "failed_writes": sum(each.failed_write for each in outcomes),
        "resets": sent[0],
        "front_resets": sent[1],
        "seconds": round(seconds, 2),
    }


def measure_all(cells, tries, file, report):
    """Measures the cells, those of one network after those of another. Calls `report` with each row.
    Returns the rows in the order of the cells."""
    rows = {}
    networks = dict.fromkeys((cell.path, cell.front) for cell in cells)
    for path, front in networks:
        here = [cell for cell in cells if (cell.path, cell.front) == (path, front)]
        for cell, measured in in_lanes(path, front, here, tries, file):
            rows[id(cell)] = measured
            report(measured)
    return [rows[id(cell)] for cell in cells]


def in_lanes(path, front, cells, tries, file):
    """Yields each cell with its row, as they are done."""
    todo, done = queue.SimpleQueue(), queue.SimpleQueue()
    # A lane keeps its server as long as it can.
    order = sorted(cells, key=server_of)
    lanes = min(path.lanes, len(order))
    for cell in order:
        todo.put(cell)

    def work():
        try:
            lane = Lane(path, front)
            try:
                while True:
                    cell = todo.get_nowait()
                    done.put((cell, measure(cell, lane, tries, file)))
            except queue.Empty:
                pass
            finally:
                lane.close()
        except Exception as error:
            done.put(error)

    threads = [threading.Thread(target=work) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    try:
        for _ in order:
            result = done.get()
            if isinstance(result, Exception):
                raise result
            yield result
    except BaseException:
        stopped.set()
        raise
    finally:
        while not todo.empty():
            todo.get()
        for thread in threads:
            thread.join()
