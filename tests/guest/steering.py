"""A guest with two receive queues that says which one gets what, as `ethtool -X` and `-N CARD rx-flow-hash` do, for
test_networks.py. Run as a program in name spaces of its own, it prints as JSON how many packets of many connections came by each
queue, and how many should have by a hash that is computed here, from nothing but the key and the packets.
"""
import ipaddress
import json
import random
import re
import socket
import struct
import sys

import programs
import wirelab

CONNECTIONS = 64
PORT = 9
ORDER = ["0", "1", "1"]  # of a table, repeated
TABLE = 128


def toeplitz(key, data):
    """Of both as whole numbers: the key's 32 bits at each bit of the data that is set."""
    k, d, value = int.from_bytes(key, "big"), int.from_bytes(data, "big"), 0
    for n in range(len(data) * 8):
        if d >> len(data) * 8 - 1 - n & 1:
            value ^= k >> len(key) * 8 - 32 - n
    return value & 0xffffffff


class Scene:
    def __init__(self, files):
        def steer(directory):
            return programs.build(programs.STEER, f"{directory}/steer", "-static")

        self.lab = wirelab.Lab(files, ["hashes"], steer, cpus=2)
        self.key = random.Random(1).randbytes(40)

    def begin(self):
        self.lab.boot()
        self.lab.configure()
        self.guest = self.lab.guests["a"]
        self.own, self.far = self.lab.addresses("hashes")
        self.steer("on", self.key.hex())
        for family in "46":  # neighbors find each other first
            self.guest.sh(f"ping -c 1 -W 5 {self.far[family == '6']}")

    def steer(self, *words):
        text = self.guest.sh(" ".join(("/net/steer eth0", *words)))
        if "steer: " not in text:
            raise RuntimeError(text)
        return text

    def counts(self):
        return [int(n) for _, n in sorted(re.findall(r"queue (\d) (\d+)", self.steer("count")))]

    def connections(self, family, fields, order):
        """Packets that came by each queue; and that should have."""
        v6 = family == "6"
        own, far = self.own[v6], self.far[v6]
        should, before = [0, 0], self.counts()
        for n in range(CONNECTIONS):
            with socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.bind((far, 20000 + 7 * n))
                s.sendto(b"x", (own, PORT))
            flow = ipaddress.ip_address(far).packed + ipaddress.ip_address(own).packed
            flow += struct.pack(">HH", 20000 + 7 * n, PORT) if fields == "sdfn" else b""
            should[int(order[toeplitz(self.key, flow) % TABLE % len(order)])] += 1
        wirelab.wait(lambda: sum(self.counts()) - sum(before) >= CONNECTIONS, 5)
        return [after - b for after, b in zip(self.counts(), before)], should

    def play(self):
        r = {}
        for order in (["0"], ["1"], ORDER):
            self.steer("table", *order)
            for family in "46":
                for fields in ("sd", "sdfn"):
                    self.steer("hash", family, fields)
                    r[" ".join((family, fields, *order))] = self.connections(family, fields, order)
        return r


def main(files):
    scene = Scene(files)
    try:
        scene.begin()
        print(json.dumps(scene.play()))
    finally:
        scene.lab.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
