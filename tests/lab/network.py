"""Networks of the lab's own: a namespace for the client, one for the front, one for the server.

The server has a namespace to itself, so its kernel's counters tell how many resets it has sent.
Without root there are no namespaces: then everything runs on the loopback interface, and nothing is
counted.
"""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

CLIENT, FRONT, SERVER = "10.79.1.1", "10.79.1.2", "10.79.2.2"

#: The largest packet of the loopback interface, in bytes. A link without a delay has it, too.
LOOPBACK_MTU = "65535"

#: How long connections may linger after their client has ended, in seconds.
SETTLES = 40

_numbers = itertools.count()


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


class Network:
    """The namespaces of one lane. `link` is the link of the client: `None`, or its round trip in ms,
    its rate in Mbit/s and its loss in percent."""

    def __init__(self, link, has_front):
        self.is_isolated = os.geteuid() == 0
        self.emulator = None
        self.names = {}
        self.server_address = self.front_address = "127.0.0.1"
        if not self.is_isolated:
            return
        roles = ["client", "front", "server"] if has_front else ["client", "server"]
        prefix = f"lab{os.getpid()}x{next(_numbers)}"
        try:
            for role in roles:
                self.names[role] = f"{prefix}{role[0]}"
                run("ip", "netns", "add", self.names[role])
                run("ip", "-n", self.names[role], "link", "set", "lo", "up")
            near = "front" if has_front else "server"
            self.server_address, self.front_address = FRONT, FRONT
            self._connect(link, "client", CLIENT, near, FRONT)
            if has_front:
                self.server_address = SERVER
                self._connect(None, "front", "10.79.2.1", "server", SERVER)
        except BaseException:
            self.close()
            raise

    def _connect(self, link, left, left_address, right, right_address):
        ends = [(self.names[left], left_address), (self.names[right], right_address)]
        if link is not None:
            self._emulate(link, ends)
            return
        [(a, _), (b, _)] = ends
        devices = [f"to-{right}", f"to-{left}"]
        run("ip", "link", "add", devices[0], "netns", a, "type", "veth", "peer", "name", devices[1], "netns", b)
        for device, (name, address) in zip(devices, ends):
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
            run("ip", "-n", name, "link", "set", device, "mtu", LOOPBACK_MTU, "up")

    def _emulate(self, link, ends):
        program = Path(__file__).with_name("link.py")
        command = [sys.executable, program, *map(str, link), *itertools.chain(*ends)]
        self.emulator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if self.emulator.stdout.readline().strip() != "ready":
            raise RuntimeError("link.py did not start; is there /dev/net/tun?")

    def within(self, role):
        """Returns the words that run a command in a namespace."""
        return ["ip", "netns", "exec", self.names[role]] if role in self.names else []

    def resets(self, role="server"):
        """Returns how many resets the namespace's kernel has sent, or `None` if it is not known."""
        if role not in self.names:
            return None
        out = subprocess.run(
            [*self.within(role), "nstat", "-asz", "TcpOutRsts"], capture_output=True, text=True, check=True
        )
        return parse_resets(out.stdout)

    def settle(self):
        """Waits until the server has no connection, because lingering ones may still send a reset."""
        if "server" not in self.names:
            return
        ends = time.monotonic() + SETTLES
        command = [*self.within("server"), "ss", "-Htn", "state", "connected", "exclude", "time-wait"]
        while time.monotonic() < ends:
            if not subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip():
                return
            time.sleep(0.02)

    def close(self):
        if self.emulator:
            self.emulator.terminate()
            self.emulator.wait()
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def parse_resets(said):
    """Reads the counter from the output of nstat."""
    for line in said.splitlines():
        words = line.split()
        if words[:1] == ["TcpOutRsts"]:
            return int(words[1])
    raise ValueError(f"no TcpOutRsts in: {said}")
