"""What `lan` of scripts/bench measures, in a name space of its own: making and removing a network; two guests in one, from its
making to their first ping, and how long they wait for their leases."""
import os
import shutil
import statistics
import struct
import subprocess
import time

MODELS = "nat", "isolated", "routed"
ROUTES = 500_000
PATIENCE = 120


def missing():
    for program, package in ("nft", "nftables"), ("ip", "iproute2"):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            return f"{package} is not installed"
    return None if os.getuid() == 0 else "networks need root"


class Space:
    """A network name space: whoever holds it open outlives none of its networks."""

    def __init__(self, vireo, work):
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"],
                                       stdout=subprocess.PIPE)
        self.env = dict(os.environ, VIREO_NET_DIR=f"{work}/lan", XDG_RUNTIME_DIR=work)
        self.within = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        self.vireo = [*self.within, vireo]
        self.holder.stdout.readline()

    def fill(self, routes):
        """A table of so many routes, as a router of the internet's has it."""
        lines = ["tuntap add up0 mode tap", "link set up0 up", "addr add 192.0.2.1/24 dev up0",
                 *(f"route add {20 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.0/24 via 192.0.2.2" for n in range(routes))]
        subprocess.run([*self.within, "ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)

    def run(self, *words):
        subprocess.run([*self.vireo, *words], env=self.env, check=True, stdout=subprocess.DEVNULL)

    def end(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


def measure(vireo, work, runs, models=MODELS, routes=0):
    """(model, seconds to create and to delete) for each: medians of runs in turns."""
    space = Space(vireo, work)
    times = {model: ([], []) for model in models}
    try:
        if routes:
            space.fill(routes)
        for _ in range(runs):
            for model, both in times.items():
                for command, figures in zip((["create", "bench", f"--{model}"], ["delete", "bench"]), both):
                    begin = time.monotonic()
                    space.run("net", *command)
                    figures.append(time.monotonic() - begin)
    finally:
        space.end()
    for model, both in times.items():
        yield model, *map(statistics.median, both)


# --- two guests ---


class Guest:
    def __init__(self, space, work, guest, name):
        self.capture = f"{work}/{name}.pcap"
        self.process = subprocess.Popen(
            [*space.vireo, "run", "--engine", "jit", "--name", name, "--memory", "256M", "--kernel", f"{guest}/vmlinuz", "--initrd",
             f"{guest}/initrd.img", "--append", "console=ttyS0 quiet", "--disk", f"{guest}/disk.img,snapshot=on", "--net",
             f"bench,dump={self.capture}"],
            env=space.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def until(self, text):
        seen, end = b"", time.monotonic() + PATIENCE
        while text not in seen:
            got = os.read(self.process.stdout.fileno(), 65536)
            if not got or time.monotonic() > end:
                raise EOFError(f"the guest has ended: {seen[-300:]}")
            seen += got

    def say(self, line):
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def frames(self):
        """(seconds since the epoch, IPv4 protocol, what is behind the IPv4 header) of what its card saw."""
        with open(self.capture, "rb") as f:
            data = f.read()
        at = 24
        while at + 16 <= len(data):
            seconds, micro, size = struct.unpack_from("<III", data, at)
            frame = data[at + 16:at + 16 + size]
            at += 16 + size
            if frame[12:14] == b"\x08\x00" and len(frame) > 34:
                yield seconds + micro / 1e6, frame[23], frame[14 + (frame[14] & 15) * 4:]

    def lease(self):
        """Seconds from its first DHCPDISCOVER to the DHCPACK. Its card sees what the other one asks, too."""
        asked = {}
        for when, protocol, body in self.frames():
            ports, who, options = body[:4] if protocol == 17 else b"", body[36:42], body[248:]
            if ports == b"\0\x44\0\x43" and b"\x35\x01\x01" in options:
                asked.setdefault(who, when)
            if ports == b"\0\x43\0\x44" and b"\x35\x01\x05" in options:
                return when - asked[who]
        raise EOFError("the guest has no lease")

    def ping(self):
        """When the first answer to a ping came."""
        return next(when for when, protocol, body in self.frames() if protocol == 1 and body[:1] == b"\0")


def meet(space, work, guest):
    begin = time.time()
    space.run("net", "create", "bench", "--nat")
    guests = []
    try:
        for name in "one", "two":
            guests.append(Guest(space, work, guest, name))
        for g in guests:
            g.until(b"/ # ")
        guests[0].say(b"ping -c 1 two; echo DO''NE\n")
        guests[0].until(b"DONE")
        return [g.lease() for g in guests], guests[0].ping() - begin
    finally:
        for g in guests:
            g.stop()
        space.run("net", "delete", "bench")


def first_ping(vireo, work, guest, runs):
    """The longest wait for a lease and the median; the median of the times from `net create` to the first ping, guests' boots
    among them. In seconds."""
    space = Space(vireo, work)
    try:
        met = [meet(space, work, guest) for _ in range(runs)]
    finally:
        space.end()
    leases = [lease for both, _ in met for lease in both]
    return max(leases), statistics.median(leases), statistics.median(ping for _, ping in met)
