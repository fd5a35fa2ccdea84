"""A link with a delay, a rate and loss, between two network namespaces.

    link.py RTT RATE LOSS NAMESPACE ADDRESS NAMESPACE ADDRESS

RTT is in ms, RATE in Mbit/s each way, LOSS in percent each way. Prints `ready`, and carries packets
until it is ended. It needs root and /dev/net/tun, and works where the kernel has no netem: each end
is a TUN device, and the packets pass through this process.
"""

import collections
import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000

#: What the router holds before it drops packets, in bytes: half of the delay times the rate, and
#: some. More would add to the delay.
QUEUE = 256 * 1024

#: The packets that are read from one end before the other end gets a turn.
BATCH = 32


class Direction:
    """The packets from one end to the other."""

    def __init__(self, source, sink, delay, rate, loss, clock=time.monotonic, chance=random.random):
        self.source, self.sink = source, sink
        #: In seconds, in bytes per second, and from 0 to 1.
        self.delay, self.rate, self.loss = delay, rate, loss
        self.clock, self.chance = clock, chance
        #: When the router has sent what it holds.
        self.free_at = 0.0
        #: Packets on their way, with the time at which they arrive.
        self.packets = collections.deque()

    def send(self, packet):
        """Takes a packet, unless it is lost or the queue is full."""
        now = self.clock()
        start = max(now, self.free_at)
        if self.chance() < self.loss or (start - now) * self.rate > QUEUE:
            return
        self.free_at = start + len(packet) / self.rate
        self.packets.append((self.free_at + self.delay, packet))

    def arrived(self):
        """Yields the packets that have arrived by now."""
        now = self.clock()
        while self.packets and self.packets[0][0] <= now:
            yield self.packets.popleft()[1]

    def wait(self):
        """Returns the time until the next packet arrives, in seconds, or `None`."""
        return max(0.0, self.packets[0][0] - self.clock()) if self.packets else None


def tun(name, namespace, address):
    """Makes a device in a namespace, and returns its file descriptor, which stays here."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    for command in (
        ["ip", "link", "set", name, "netns", namespace],
        ["ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", name],
        ["ip", "-n", namespace, "link", "set", name, "mtu", "1500", "txqueuelen", "1000", "up"],
    ):
        subprocess.run(command, check=True)
    return device


def carry(directions):
    """Carries packets until a device is gone."""
    by_source = {direction.source: direction for direction in directions}
    while True:
        waits = [wait for direction in directions if (wait := direction.wait()) is not None]
        ready, _, _ = select.select(list(by_source), [], [], min(waits, default=None))
        for source in ready:
            for _ in range(BATCH):
                try:
                    by_source[source].send(os.read(source, 65536))
                except BlockingIOError:
                    break
        for direction in directions:
            for packet in direction.arrived():
                try:
                    os.write(direction.sink, packet)
                except BlockingIOError:
                    pass  # Its queue is full, so the packet is dropped.


def main():
    round_trip, rate, loss = map(float, sys.argv[1:4])
    ends = [sys.argv[4:6], sys.argv[6:8]]
    left, right = (tun(f"lab{os.getpid()}{side}", *end) for side, end in zip("ab", ends))
    figures = round_trip / 2000, rate * 1e6 / 8, loss / 100
    print("ready", flush=True)
    carry([Direction(left, right, *figures), Direction(right, left, *figures)])


if __name__ == "__main__":
    main()
