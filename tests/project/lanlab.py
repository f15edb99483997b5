"""A host, an outside host and machines, each a network name space, for the tests of `vireo net`. Run as a program in name
spaces of its own (`unshare -rn`), it carries out a scenario of test_lan.py and prints what came of it as JSON. An agent is
the process in one of those name spaces that reaches others and is reached.
"""
import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VIREO = os.environ.get("VIREO", os.path.join(TOP, "build", "vireo"))
CABLE = os.path.join(os.path.dirname(VIREO), "tests", "lan", "lan_cable")
PORT = 7007
ECHO = 7008  # by TCP, for as long as the other end goes on
CLONE_NEWNET = 0x40000000
PROTOCOLS = ("tcp", "udp", "icmp")

# --- the agent ---


def serve_tcp(s):
    while True:
        c, _ = s.accept()
        c.sendall(b"yes")
        c.close()


def serve_udp(s):
    while True:
        data, who = s.recvmsg(2000)[0::3]
        try:
            s.sendto(data, who)
        except OSError:
            pass  # no way back


def echo(c):
    try:
        while data := c.recv(100):
            c.sendall(data)
    except OSError:
        pass


def serve_echo(s):
    while True:
        threading.Thread(target=echo, args=(s.accept()[0],), daemon=True).start()


def serve():
    for kind, answer, port in ((socket.SOCK_STREAM, serve_tcp, PORT), (socket.SOCK_STREAM, serve_echo, ECHO), (socket.SOCK_DGRAM, serve_udp, PORT)):
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            s = socket.socket(family, kind)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.bind((any_address, port))
            if kind == socket.SOCK_STREAM:
                s.listen(20)
            threading.Thread(target=answer, args=(s,), daemon=True).start()


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff


def reach_icmp(family, to, deadline):
    six = family == socket.AF_INET6
    s = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
    ident = int.from_bytes(os.urandom(2), "big")
    echo = lambda total: struct.pack("!BBHHH", 128 if six else 8, 0, total, ident, 1)
    s.settimeout(0.05)
    sent = 0
    while time.monotonic() < deadline:
        if time.monotonic() - sent > 0.3:
            s.sendto(echo(0 if six else checksum(echo(0))), to)
            sent = time.monotonic()
        try:
            data = s.recv(2000)
        except socket.timeout:
            continue
        data = data if six else data[(data[0] & 15) * 4:]
        if data[0] == (129 if six else 0) and data[4:6] == struct.pack("!H", ident):
            return True
    return False


def reach_tcp(family, to, deadline):
    while time.monotonic() < deadline:
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.settimeout(max(0.05, deadline - time.monotonic()))
            try:
                s.connect(to)
                return s.recv(10) == b"yes"
            except ConnectionRefusedError:
                return False
            except OSError:
                time.sleep(0.05)
    return False


def reach_udp(family, to, deadline):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(0.2)
        while time.monotonic() < deadline:
            try:
                s.sendto(b"hello", to)
                return s.recv(100) == b"hello"
            except OSError:
                time.sleep(0.02)
    return False


FLOWS = {}


def reach_flow(family, to, deadline):
    """The connection that there was before, if there was one."""
    s = FLOWS.get(to)
    if not s:
        s = FLOWS[to] = socket.socket(family, socket.SOCK_STREAM)
        s.settimeout(deadline - time.monotonic())
        s.connect(to)
    s.settimeout(deadline - time.monotonic())
    s.sendall(b"still")
    return s.recv(100) == b"still"


def reach_long(family, to, deadline):
    """By UDP in fragments."""
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(0.3)
        while time.monotonic() < deadline:
            try:
                s.sendto(b"hello" * 500, to)
                return s.recv(100)[:5] == b"hello"
            except OSError:
                time.sleep(0.02)
    return False


def reach(ask):
    deadline = time.monotonic() + ask["patience"]
    family = socket.AF_INET6 if ":" in ask["to"] else socket.AF_INET
    to = (ask["to"], 0 if ask["protocol"] == "icmp" else ask.get("port", PORT))
    try:
        return {"tcp": reach_tcp, "udp": reach_udp, "icmp": reach_icmp, "flow": reach_flow, "long": reach_long}[ask["protocol"]](family, to, deadline)
    except OSError:
        return False


def answer(ask, out, lock):
    ask["reached"] = reach(ask)
    with lock:
        out.write(json.dumps(ask) + "\n")
        out.flush()


def agent():
    """Reads questions, all at once; answers as they come."""
    lock = threading.Lock()
    serve()
    print("ready", flush=True)
    for line in sys.stdin:
        threading.Thread(target=answer, args=(json.loads(line), sys.stdout, lock), daemon=True).start()


# --- the lab ---


def sh(line, check=True, ns=None):
    words = ["sh", "-c", line]
    if ns:
        words = ["nsenter", "-t", str(ns), "-n"] + words
    r = subprocess.run(words, capture_output=True, text=True, timeout=60)
    if check and r.returncode:
        raise RuntimeError(f"{line}: {r.stderr.strip()}")
    return r.stdout


def followed():
    """Connections that the kernel follows, but closed ones."""
    with open("/proc/net/nf_conntrack") as f:
        return sum(" CLOSE " not in line for line in f)


class Fork:
    """`function` in a process that is a copy of this one (a new interpreter takes longer), in a network name space."""

    def __init__(self, function, own):
        (self.child_in, to), (answer, self.child_out) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                self.run(function, own)
            finally:
                os._exit(1)
        os.close(self.child_in)
        os.close(self.child_out)
        self.stdin, self.stdout = os.fdopen(to, "w"), os.fdopen(answer)

    def run(self, function, own):
        os.dup2(self.child_in, 0)
        os.dup2(self.child_out, 1)
        os.closerange(3, 1024)
        if not own and ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        sys.stdin, sys.stdout = open(0), open(1, "w")
        function()

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class Space:
    """A network name space with an agent in it; `own`: the one that this process is in."""

    def __init__(self, lab, name, own=False):
        self.lab, self.name, self.asked = lab, name, 0
        self.agent = Fork(agent, own)
        self.pid = None if own else self.agent.pid
        self.addresses = {}
        assert self.agent.stdout.readline() == "ready\n"
        self.sh("ip link set lo up")

    def sh(self, line, check=True):
        return sh(line, check, self.pid)

    def ask(self, to, protocol, patience, port=PORT):
        self.asked += 1
        self.agent.stdin.write(json.dumps({"id": self.asked, "to": to, "protocol": protocol, "patience": patience,
                                           "port": port}) + "\n")
        self.agent.stdin.flush()
        return self.asked

    def answers(self):
        found = {}
        while len(found) < self.asked:
            a = json.loads(self.agent.stdout.readline())
            found[a["id"]] = a["reached"]
        self.asked = 0
        return found

    def end(self):
        self.agent.end()


class Machine(Space):
    """A cable of a network with a name space at its other end."""

    def __init__(self, lab, network, name, mac="-", trust=False):
        super().__init__(lab, name)
        self.network = network
        self.cable = subprocess.Popen([CABLE, network, name, mac, f"/proc/{self.pid}/ns/net", *(["trust"] if trust else [])],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.cable.stdout.readline().split()
        if len(line) != 2:
            raise RuntimeError(f"{name}: {self.cable.stderr.read()}")
        self.mac, self.tap = line
        # A question to a neighbor that is lost under load is asked again before patience ends.
        self.sh("sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.router_solicitation_delay=0 "
                "net.ipv4.neigh.eth0.retrans_time_ms=150 net.ipv6.neigh.eth0.retrans_time_ms=150; "
                "ip link set eth0 up")

    def shown(self):
        show = json.loads(self.lab.vireo("net", "show", self.network, "--json"))
        return next(c for c in show["cables"] if c["mac"] == self.mac)

    def configure(self):
        """The addresses that the network keeps for it, without asking anybody."""
        show = json.loads(self.lab.vireo("net", "show", self.network, "--json"))
        c, d = self.shown(), show["definition"]
        if "subnet" in d:
            base = d["subnet"].split("/")
            gateway = base[0].rsplit(".", 1)[0] + ".1"
            self.sh(f"ip addr add {c['address']}/{base[1]} dev eth0; ip route add default via {gateway}")
            self.addresses["4"] = c["address"]
        if "subnet6" in d:
            prefix = d["subnet6"].split("/")[0]
            self.sh(f"ip addr replace {c['address6']}/64 dev eth0 nodad; ip -6 route replace default via {prefix}1")
            self.addresses["6"] = c["address6"]

    def end(self):
        self.cable.kill()
        self.cable.wait()
        super().end()


class Lab:
    VIREO = VIREO

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="lanlab-")
        os.environ["VIREO_NET_DIR"] = self.dir
        os.environ["PATH"] += ":/usr/sbin:/sbin"
        self.host = Space(self, "host", own=True)
        self.outside = Space(self, "outside")
        self.machines = []
        sh("ip link add up0 type veth peer name out0; sysctl -qw net.ipv6.conf.up0.accept_dad=0")
        sh(f"ip link set out0 netns {self.outside.pid}")
        sh("ip addr add 192.0.2.1/24 dev up0; ip addr add 2001:db8::1/64 dev up0 nodad; ip link set up0 up; "
           "ip route add default via 192.0.2.2; ip -6 route add default via 2001:db8::2")
        self.outside.sh("ip addr add 192.0.2.2/24 dev out0; ip addr add 2001:db8::2/64 dev out0 nodad; ip link set out0 up")
        self.host.addresses = {"4": "192.0.2.1", "6": "2001:db8::1"}
        self.outside.addresses = {"4": "192.0.2.2", "6": "2001:db8::2"}

    def vireo(self, *args, check=True):
        r = subprocess.run([VIREO, *args], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        if check and r.returncode:
            raise RuntimeError(f"vireo {' '.join(args)}: {r.stderr.strip()}")
        return r.stdout if check else r

    def machine(self, network, name, mac="-", configure=True, trust=False):
        m = Machine(self, network, name, mac, trust)
        if configure:
            m.configure()
        self.machines.append(m)
        return m

    def table(self, pairs, patience=0.8):
        """{"a>b tcp4": reached}, for pairs of spaces, all at once."""
        asked, found = [], {}
        for a, b in pairs:
            for family, to in b.addresses.items():
                for p in PROTOCOLS:
                    asked.append((f"{a.name}>{b.name} {p}{family}", a, a.ask(to, p, patience)))
        answers = {s: s.answers() for s in {a for a, _ in pairs}}
        for name, a, n in asked:
            found[name] = answers[a][n]
        return found

    def left(self):
        """What there is of ours in links, filters and the run directory."""
        links = [l["ifname"] for l in json.loads(sh("ip -j link")) if l["ifname"] not in ("lo", "up0")]
        tables = [l for l in sh("nft list tables").splitlines() if "vireo" in l]
        run = os.path.join(self.dir, "run")
        files = [os.path.join(d, f) for d, ds, fs in os.walk(run) for f in ds + fs] if os.path.isdir(run) else []
        return {"links": links, "tables": tables, "files": files,
                "forward": [sh("sysctl -n net.ipv4.ip_forward").strip(), sh("sysctl -n net.ipv6.conf.all.forwarding").strip()]}

    def end(self):
        for m in self.machines:
            m.end()
        for name in os.listdir(os.path.join(self.dir, "networks")) if os.path.isdir(os.path.join(self.dir, "networks")) else []:
            self.vireo("net", "delete", "--force", name.removesuffix(".json"), check=False)
        self.host.end()
        self.outside.end()
        shutil.rmtree(self.dir, ignore_errors=True)


def play(scenes):
    """The scenario that the command line names, in a lab of its own; what came of it is printed."""
    lab = Lab()
    try:
        print(json.dumps(scenes[sys.argv[1]](lab, *sys.argv[2:])))
    finally:
        lab.end()


if __name__ == "__main__":
    import lanscenes
    play(vars(lanscenes))
