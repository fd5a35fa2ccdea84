"""The client programs of `tests/clients/clients.toml`: their command lines, and what they need."""

import os
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "target/lab"
TABLE = ROOT / "tests/clients/clients.toml"

#: The profile of cargo: `debug` or `release`.
profile = "debug"


def target():
    """Returns the folder of the programs that cargo builds."""
    return ROOT / "target" / profile


@dataclass(frozen=True, eq=False)
class Client:
    """One entry of the table, and its program."""

    entry: dict
    program: dict

    @property
    def name(self):
        return self.entry["name"]

    @property
    def over(self):
        return self.entry["over"]

    @property
    def shapes(self):
        return self.entry["shapes"]

    @property
    def fronts(self):
        return self.entry.get("fronts", False)

    @property
    def loses(self):
        """Why each response to it is lost, or `None`."""
        return self.entry.get("loses")

    @property
    def races(self):
        """The error of a race within the client, and why there is one, or `None`."""
        return self.entry.get("races")

    @property
    def patient(self):
        return self.entry.get("patient", False)

    @property
    def ok(self):
        return self.program.get("ok", [0])

    @property
    def repeats(self):
        """Whether the program makes all tries itself."""
        return self.program.get("tries", False)

    def command(self, over, shape, base, file, tries):
        """Returns the command line of an upload to the server at `base`."""
        _, address = base.split("://")
        words = {
            "client": self.entry.get("client", self.name),
            "url": base + ("/" if shape.startswith("form") else "/raw"),
            "address": address,
            "file": str(file),
            "tries": str(tries),
        }
        tables = {"{shape}": ("shape", shape), "{over}": ("over", over)}
        command = []
        for word in self.program["run"]:
            kind, value = tables.get(word, (None, None))
            command += self.program.get(kind, {}).get(value, [value]) if kind else [word]
        return [self.fill(word, words) for word in command]

    def fill(self, word, words=None):
        places = {"lab": LAB, "target": target(), "jars": "/usr/share/java", **(words or {})}
        if "{python}" in word:
            places["python"] = self.python() or "python3"
        for name, value in places.items():
            word = word.replace("{" + name + "}", str(value))
        return word

    def python(self):
        """Returns the first Python that has the client's module, or `None`."""
        if "import" not in self.entry:
            return None
        venv = LAB / self.venv / "bin/python3"
        named = os.environ.get("PYTHON")
        candidates = [str(venv), named, "python3", "/usr/bin/python3"]
        return next((each for each in candidates if each and has(each, self.entry["import"])), None)

    @property
    def venv(self):
        return "python-" + self.entry["venv"] if "venv" in self.entry else "python"

    def missing(self):
        """Returns what this machine lacks for the client, or `None`."""
        first = self.program["run"][0]
        if first == "{python}":
            return None if self.python() else f"no Python with {self.entry['import']}"
        if "npm" in self.entry and not (LAB / "node_modules" / self.npm()).exists():
            return f"no npm package {self.npm()}"
        program = self.fill(first)
        if not shutil.which(program):
            return f"no {program}"
        files = [ROOT / self.fill(file) for file in self.program.get("files", [])]
        absent = [str(file) for file in files if not file.exists()]
        if not absent and "browser" == self.entry["program"]:
            absent = [] if self.version() else [self.entry["client"]]
        return f"no {absent[0]}" if absent else None

    def npm(self):
        name, _, _ = self.entry["npm"].rpartition("@")
        return name

    def version(self):
        """Returns the version that would run, or `None` if nothing tells it."""
        entry = self.entry
        if "version" in entry:
            return first_number(said([self.fill(word) for word in entry["version"]]))
        if "pip" in entry:
            name = entry["pip"].partition("==")[0].partition("[")[0]
            program = f"import importlib.metadata as m; print(m.version({name!r}))"
            return said([self.python() or "python3", "-c", program])
        if "npm" in entry:
            package = LAB / "node_modules" / self.npm() / "package.json"
            return said(["node", "-p", f"require({str(package)!r}).version"])
        if "cargo" in entry:
            return locked(entry["cargo"])
        if "apt" in entry:
            return said(["dpkg-query", "-W", "-f", "${Version}", entry["apt"].split()[0]])
        return None


def environment():
    """Returns the variables of the client programs."""
    return {**os.environ, "NODE_PATH": str(LAB / "node_modules")}


def load(path=TABLE):
    with open(path, "rb") as file:
        table = tomllib.load(file)
    return [Client(entry, table["program"][entry["program"]]) for entry in table["client"]]


@cache
def has(python, module):
    return said([python, "-c", f"import {module}"]) is not None


def said(command):
    """Returns the output of a command, or `None` if it fails."""
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    except OSError:
        return None
    return out.stdout.strip() if out.returncode == 0 else None


def first_number(text):
    """Returns the first word with a digit and a dot, without what is around the version."""
    for word in (text or "").replace("/", " ").split():
        word = word.lstrip("vgo").rstrip(",")
        if word[:1].isdigit() and "." in word:
            return word
    return None


def locked(crate):
    """Returns the newest version of a crate in `Cargo.lock`."""
    with open(ROOT / "Cargo.lock", "rb") as file:
        packages = tomllib.load(file)["package"]
    versions = [package["version"] for package in packages if package["name"] == crate]
    return max(versions, key=lambda version: [int(part) for part in version.split("+")[0].split("-")[0].split(".")])
