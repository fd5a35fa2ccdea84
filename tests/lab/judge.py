"""Decides what a client has read, from its output. Nothing here runs a program."""

import re
from dataclasses import dataclass

#: The words that each server's refusal has.
WORDS = {
    ("crate", False): "limit is 4 MiB",
    ("plain", False): "length limit exceeded",
    ("crate", True): "limit is 4 MiB",
    ("plain", True): "over the handler's limit",
}

#: A client names a write that failed in its own way.
FAILED_WRITE = re.compile(r"EPIPE|broken pipe|send failure|\bwrite\b", re.IGNORECASE)

#: The lines of an error that say nothing about it.
NOISE = re.compile(r"Warning|--trace-|SLF4J|^\s*at |^[{}\[\],]*$|^name: 'Error'|^--\d{4}-|^Connecting to|^WARNING")

TELLING = re.compile(r"error|reset|pipe|abort|closed|refused|fail|timed|not done|giving up", re.IGNORECASE)


@dataclass(frozen=True)
class Outcome:
    """One try: `whole`, `other` (another whole response) or `lost`."""

    kind: str
    #: The other status, or the client's error.
    detail: str = ""
    failed_write: bool = False


def outcome(code, out, err, ok, over, server):
    """Judges one run of a client program by its exit code and its output."""
    said = f"{out}\n{err}"
    is_grpc = over.startswith("grpc")
    if code not in ok:
        return Outcome("lost", reason(err or out, code), bool(FAILED_WRITE.search(err or out)))
    found = status(said)
    is_refusal = found == ("RESOURCE_EXHAUSTED" if is_grpc else "413")
    if is_refusal and WORDS[server, is_grpc] in said and version_fits(said, over):
        return Outcome("whole")
    if found and not is_refusal:
        return Outcome("other", found)
    return Outcome("lost", reason(said, code), bool(FAILED_WRITE.search(said)))


def outcome_of_line(line, over, server):
    """Judges the line of one try, of a program that makes several."""
    if line.startswith("lost: "):
        return outcome(1, "", line.removeprefix("lost: "), [0], over, server)
    return outcome(0, line, "", [0], over, server)


def status(said):
    """Returns the status of the response that the client has printed, or `None`."""
    patterns = [r"(\d{3}) over ", r"awaiting response\.\.\. (\d{3})", r"(RESOURCE_EXHAUSTED)"]
    # tonic prints the code as Rust's Debug does.
    said = said.replace("ResourceExhausted", "RESOURCE_EXHAUSTED")
    found = [re.search(pattern, said) for pattern in patterns]
    return next((match[1] for match in found if match), None)


def version_fits(said, over):
    """Returns whether the client has spoken the protocol, as far as it tells."""
    told = re.search(r"\d{3} over (?:HTTP/|h)(\S?)", said, re.IGNORECASE)
    if over.startswith("grpc") or not told:
        return True
    is_2 = bool(re.search(r"\d{3} over (HTTP/2|h2)", said))
    return is_2 == over.startswith("h2")


def reason(said, code):
    """Returns the line that tells most, without the addresses and ports of this run."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not NOISE.search(line)]
    telling = [line for line in lines if TELLING.search(line)]
    line = (telling or lines or [f"exit code {code}"])[0]
    line = re.sub(r"\d+\.\d+\.\d+\.\d+(:\d+)?", "ADDRESS", line)
    line = re.sub(r"0x[0-9a-f]+|\b\d{4,}\b", "N", line)
    return line[:160]
