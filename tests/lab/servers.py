"""The servers and the fronts, as processes in their namespaces."""

import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from table import ROOT, first_number, said, target

#: What to build before a run.
BUILD = ["cargo", "build", "--all-features", "--example", "upload_form", "--example", "grpc_upload"]

LIMIT = "4MiB"
PORTS = {"http": 3000, "https": 3443, "grpc": 3050}
FRONT_PORT = 3080

#: How long a program may take to start, in seconds.
PATIENCE = 60

#: For each front: the program, its configuration, and the words that replace those in it.
NGINX = ROOT / "testkit/proxies/nginx.conf"
HTTP_1_1 = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering '
CONFIGS = Path(__file__).with_name("fronts")
FRONTS = {
    "nginx, buffered": ("nginx", NGINX, {"SETTINGS": HTTP_1_1 + "on;", "LIMIT": "0"}),
    "nginx, streaming": ("nginx", NGINX, {"SETTINGS": HTTP_1_1 + "off;", "LIMIT": "0"}),
    "HAProxy": ("haproxy", ROOT / "testkit/proxies/haproxy.cfg", {"SETTINGS": ""}),
    "Apache": ("apache2", CONFIGS / "apache.conf", {}),
    "Caddy": ("caddy", CONFIGS / "Caddyfile", {}),
}
APT = ["nginx", "haproxy", "apache2", "caddy", "iproute2"]

COMMANDS = {
    # Without `-e`, nginx writes its first messages to a system log.
    "nginx": ["-e", "error.log", "-p", "FOLDER", "-c", "CONFIG"],
    "haproxy": ["-db", "-f", "CONFIG"],
    "apache2": ["-X", "-d", "FOLDER", "-f", "CONFIG"],
    "caddy": ["run", "--adapter", "caddyfile", "--config", "CONFIG"],
}


def program(name):
    """Finds a front. Debian installs some in a folder that is only on root's `PATH`."""
    found = said(["which", name]) or said(["which", f"/usr/sbin/{name}"])
    return found


def front_missing(front):
    name = FRONTS[front][0]
    return None if program(name) else f"no {name}"


def front_version(front):
    name = FRONTS[front][0]
    flag = "version" if name == "caddy" else "-v"
    # nginx writes it to standard error.
    out = subprocess.run([program(name), flag], capture_output=True, text=True)
    return first_number(out.stdout + out.stderr)


class Process:
    """A running program. It ends with `close`."""

    def __init__(self, command, **options):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Server(Process):
    """The upload form or the gRPC example, with this crate or without."""

    def __init__(self, network, server, kind):
        program = target() / "examples" / ("grpc_upload" if kind == "grpc" else "upload_form")
        port = PORTS[kind] if network.is_isolated else 0
        command = [*network.within("server"), program, "--addr", f"{network.server_address}:{port}"]
        command += ["--limit", LIMIT]
        command += ["--tls"] if kind == "https" else []
        command += ["--plain"] if server == "plain" else []
        super().__init__(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        lines = iter(self.process.stdout.readline, "")
        line = next((line for line in lines if "listening on " in line), None)
        if line is None:
            raise RuntimeError(f"{program} does not say where it listens: run {' '.join(BUILD)}")
        self.url = line.split("listening on ")[1].split()[0]
        # Whatever it prints later must not block it.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()


class Front(Process):
    """A proxy in front of a server."""

    def __init__(self, network, name, server):
        self.folder = tempfile.TemporaryDirectory(prefix="lab-front-")
        program_name, template, words = FRONTS[name]
        address = f"{network.front_address}:{FRONT_PORT}"
        upstream = server.url.split("://")[1]
        is_haproxy = program_name == "haproxy"
        words = {
            **words,
            "SERVERS": f"server form0 {upstream}" if is_haproxy else f"server {upstream};",
            "UPSTREAM": server.url,
            "LISTEN": address,
            "FOLDER": self.folder.name,
            "NAME": "front",
        }
        config = Path(self.folder.name, "front.conf")
        config.write_text(fill(template.read_text(), words))
        places = {"FOLDER": self.folder.name, "CONFIG": str(config)}
        arguments = [places.get(word, word) for word in COMMANDS[program_name]]
        self.log = open(Path(self.folder.name, "output.log"), "w+")
        super().__init__(
            [*network.within("front"), program(program_name), *arguments],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            cwd=self.folder.name,
            # Caddy stores its configuration below it.
            env={**os.environ, "HOME": self.folder.name},
        )
        self.url = f"http://{address}"
        self._comes_up(network, name)

    def _comes_up(self, network, name):
        command = [*network.within("front"), "ss", "-Hltn", f"sport = :{FRONT_PORT}"]
        ends = time.monotonic() + PATIENCE
        while not said(command):
            if self.process.poll() is not None or time.monotonic() > ends:
                self.close()
                self.log.seek(0)
                raise RuntimeError(f"{name} does not start: {self.log.read()}")
            time.sleep(0.02)

    def close(self):
        super().close()
        self.folder.cleanup()


def fill(template, words):
    """Replaces the words in capitals. The comment of a template names them, and may lose them."""
    for word, value in words.items():
        template = template.replace(word, value)
    return template
