"""Real guests and iperf3 on every kind of wire, for test_networks.py. Run as a program in name spaces of its own, it prints
what iperf3 said of each run as JSON: {"WIRE PROTOCOL FAMILY DIRECTION": bytes that arrived}, and which processes of back ends
are "left" when the machines have been killed.

Guest `a` has a card for each wire; at the other end is this host, guest `b`, or a guest of stock QEMU's.
"""
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VIREO = os.environ.get("VIREO", os.path.join(TOP, "build", "vireo"))
SLOW = float(os.environ.get("VIREO_SLOW", "1"))
AMOUNT = {"tcp": 600_000, "udp": 200_000}  # bytes of a run
MORE = {"user": 25}  # times: libslirp takes large frames of one family only, and one that loses the others is not done in time

sys.path.insert(0, os.path.join(TOP, "bench"))
import net as bench  # noqa: E402

# The card of each side, and the other side.
WIRES = {
    "tap": ("tap,ifname=tap0", "host"),
    "hashes": ("tap,ifname=tap1,queues=2,rss=on,hash=on", "host"),
    "hashes-alone": ("tap,ifname=tap2,queues=2,rss=on,feature.mq=off", "host"),
    "user": ("user", "host"),
    "passt": ("passt", "host"),
    "socket": ("socket,listen=127.0.0.1:4001", "socket,connect=127.0.0.1:4001,reconnect=1"),
    "stream": ("stream,listen=unix:{dir}/stream", "stream,connect=unix:{dir}/stream,reconnect=1"),
    "dgram": ("dgram,local=unix:{dir}/a,remote=unix:{dir}/b", "dgram,local=unix:{dir}/b,remote=unix:{dir}/a"),
    "udp": ("socket,udp=127.0.0.1:4003,localaddr=127.0.0.1:4002", "socket,udp=127.0.0.1:4002,localaddr=127.0.0.1:4003"),
    "network": ("lab", "lab"),
    "qemu-socket": ("socket,listen=127.0.0.1:4005", "socket,id=n{n},connect=127.0.0.1:4005"),
    "qemu-stream": ("stream,listen=127.0.0.1:4006", "stream,id=n{n},server=off,addr.type=inet,addr.host=127.0.0.1,addr.port=4006"),
}
# Of `a` and of the other side, where they are not by the wire's number.
ADDRESSES = {
    "user": (("10.0.2.15", "fec0::15"), ("10.0.2.2", "fec0::2")),
    "passt": (("198.51.100.15", "2001:db8:f::15"), ("198.51.100.2", "2001:db8:f::1")),
}
SHORT = [("tcp", "4", "out"), ("tcp", "6", "in"), ("tcp", "6", "out"), ("udp", "6", "out")]
FULL = [(p, f, d) for p in ("tcp", "udp") for f in "46" for d in ("out", "in")]
HOST = """ip link set lo up
ip link add out type veth peer name far
ip addr add 198.51.100.15/24 dev out; ip -6 addr add 2001:db8:f::15/64 dev out nodad; ip link set out up; ip link set far up
ip -6 addr add 2001:db8:f::1/128 dev lo nodad
ip route add default via 198.51.100.2; ip -6 route add default via 2001:db8:f::2
for n in 0 1 2; do ip tuntap add tap$n mode tap vnet_hdr multi_queue; done
"""
# In a guest: up MAC IPv4 IPv6.
UP = ("up() { for d in /sys/class/net/*; do read m <$d/address; [ $m = $1 ] && n=${d##*/}; done; "
      "echo 0 >/proc/sys/net/ipv6/conf/$n/accept_dad; ip link set $n up; ip addr add $2/24 dev $n; ip -6 addr add $3/64 dev $n; }")


def wait(what, seconds):
    end = time.monotonic() + seconds * SLOW
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.01)
    return False


class Guest:
    def __init__(self, work, name, command):
        self.out = f"{work}/{name}.out"
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=open(self.out, "w"), stderr=subprocess.STDOUT,
                                        text=True)

    def text(self):
        with open(self.out, errors="replace") as f:
            return f.read()

    def until(self, text, at, seconds):
        if not wait(lambda: text in self.text()[at:], seconds):
            raise RuntimeError(f"no '{text}': {self.text()[-600:]}")
        return self.text()[at:]

    def sh(self, line, seconds=30):
        """Its output, up to the next prompt."""
        at = len(self.text())
        self.process.stdin.write(f"{line}; echo DO''NE\n")
        self.process.stdin.flush()
        return self.until("DONE\n/ # ", at, seconds)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Lab:
    def __init__(self, files, wires, *programs, cpus=1):
        self.dir = tempfile.mkdtemp(prefix="wirelab-")
        os.environ.update(VIREO_NET_DIR=self.dir, XDG_RUNTIME_DIR=self.dir, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
        self.files, self.wires, self.cpus = files, wires, cpus
        self.initrd, self.iperf = bench.initrd(files, self.dir, *(p(self.dir) for p in programs))
        subprocess.run(["sh", "-ec", HOST], check=True)
        self.servers = []
        self.guests = {}
        self.macs = {}

    def mac(self, side, wire):
        return self.macs.get((side, wire)) or f"52:54:00:00:{side:02x}:{list(WIRES).index(wire):02x}"

    def addresses(self, wire):
        """(IPv4, IPv6) of both sides."""
        n = list(WIRES).index(wire)
        return ADDRESSES.get(wire) or tuple((f"192.0.{100 + n}.{k}", f"2001:db8:{n}::{k}") for k in (1, 2))

    def boot(self):
        append, kernel = "console=ttyS0 quiet rdinit=/net-init", f"{self.files}/vmlinuz"
        cards = [[], [], []]
        for wire in self.wires:
            a, b = (w.format(dir=self.dir, n=list(WIRES).index(wire)) for w in WIRES[wire])
            place = "" if a == "lab" else f",mac={self.mac(0, wire)}"
            cards[0] += ["--net", a + place]
            if wire.startswith("qemu"):
                n = list(WIRES).index(wire)
                cards[2] += ["-netdev", b, "-device", f"virtio-net-pci,netdev=n{n},mac={self.mac(1, wire)}"]
            elif b != "host":
                cards[1] += ["--net", b + ("" if b == "lab" else f",mac={self.mac(1, wire)}")]
        for name, more in zip("ab", cards):
            if more:
                self.guests[name] = Guest(self.dir, name, [
                    VIREO, "run", "--name", name, "--memory", "256M", "--cpus", str(self.cpus), "--kernel", kernel, "--initrd", self.initrd, "--append",
                    append, *more])
        for guest in list(self.guests.values()):
            guest.until("/ # ", 0, 60)
        if cards[2]:  # it connects once
            self.guests["qemu"] = Guest(self.dir, "qemu", [
                "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "256", "-display", "none", "-nodefaults", "-serial",
                "stdio", "-kernel", kernel, "-initrd", self.initrd, "-append", append, *cards[2]])
            self.guests["qemu"].until("/ # ", 0, 120)

    def other(self, wire):
        return "host" if WIRES[wire][1] == "host" else "qemu" if wire.startswith("qemu") else "b"

    def network(self):
        """What machines may use there: their cables say it, and the prefix with what follows from a MAC."""
        r = json.loads(subprocess.run([VIREO, "net", "show", "lab", "--json"], check=True, capture_output=True, text=True).stdout)
        prefix = ipaddress.ip_network(r["subnet6"])
        out = {}
        for c in r["cables"]:
            m = bytes.fromhex(c["mac"].replace(":", ""))
            eui = bytes([m[0] ^ 2, *m[1:3], 0xff, 0xfe, *m[3:]])
            side = "ab".index(c["machine"])
            self.macs[side, "network"] = c["mac"]
            out[side] = (c["address"], str(prefix[int.from_bytes(eui, "big")]))
        ADDRESSES["network"] = (out[0], out[1])

    def configure(self):
        if "network" in self.wires:
            self.network()
        lines = {name: [UP] for name in self.guests}
        for wire in self.wires:
            own, far = self.addresses(wire)
            lines["a"].append(f"up {self.mac(0, wire)} {own[0]} {own[1]}")
            if self.other(wire) != "host":
                lines[self.other(wire)].append(f"up {self.mac(1, wire)} {far[0]} {far[1]}")
            elif "ifname=" in WIRES[wire][0]:
                tap = re.search(r"ifname=(\w+)", WIRES[wire][0])[1]
                subprocess.run(["sh", "-ec", f"ip addr add {far[0]}/24 dev {tap}; ip -6 addr add {far[1]}/64 dev {tap} nodad; "
                                f"ip link set {tap} up"], check=True)
        for name, guest in self.guests.items():
            for line in lines[name]:
                guest.sh(line)
            if name != "a":
                guest.sh(f"{self.iperf} -s -D")
        self.servers.append(subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def run(self, wire, protocol, family, direction):
        to = self.addresses(wire)[1][family == "6"]
        words = [self.iperf, "-c", to, "-n", str(AMOUNT[protocol] * (MORE.get(wire, 1) if protocol == "tcp" else 1)), "--connect-timeout 5000", "-f K"]
        words += ["-u -b 50M -l 1200"] if protocol == "udp" else []
        words += ["-R"] if direction == "in" else []
        for _ in range(3):  # its server resets who comes while it is busy with the end of the last one
            text = self.guests["a"].sh(" ".join(words))
            found = re.findall(r"sec +([\d.]+) +([KM]?)Bytes .*receiver", text)
            if "timed out" in text:
                break
            if found and float(found[-1][0]):
                return round(float(found[-1][0]) * {"": 1, "K": 1024, "M": 1024**2}[found[-1][1]])
        return text[-500:]

    def left(self):
        """Processes that outlive their machines: in this name space there are no others of these names."""
        for guest in self.guests.values():
            guest.kill()

        def found():
            text = subprocess.run(["ps", "-eo", "stat,comm"], check=True, capture_output=True, text=True).stdout
            return re.findall(r"^[^Z]\S* +(passt.*|vireo:net.*)", text, re.M)
        wait(lambda: not found(), 5)
        return found()

    def end(self):
        for guest in self.guests.values():
            guest.kill()
        for server in self.servers:
            server.kill()
        if "network" in self.wires:
            subprocess.run([VIREO, "net", "delete", "--force", "lab"], capture_output=True)
        shutil.rmtree(self.dir, ignore_errors=True)


def main(files, choice, *wires):
    lab = Lab(files, wires)
    try:
        if "network" in wires:
            subprocess.run([VIREO, "net", "create", "lab", "--isolated"], check=True, stdout=subprocess.DEVNULL)
        lab.boot()
        lab.configure()
        r = {}
        for wire in wires:
            for run in FULL if choice == "full" else SHORT:
                r[" ".join((wire, *run))] = lab.run(wire, *run)
        r["left"] = lab.left()
        print(json.dumps(r))
    finally:
        lab.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
