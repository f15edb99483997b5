"""A bridge, the servers of a network on it and machines, in network name spaces of their own that end with their processes."""
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time

from conftest import VIREO

SERVE = os.path.join(os.path.dirname(VIREO), "tests/lan/lan_serve")
GATEWAY_MAC = "52:54:00:00:00:01"
SERVER_MAC = "52:54:00:00:00:02"
# What a network is without further words.
DEFAULTS = {"ifname": "srv0", "mac": SERVER_MAC, "addr4": "10.77.0.2", "prefix4": "24", "first4": "10.77.0.100",
            "last4": "10.77.0.199", "gateway4": "10.77.0.1", "addr6": "fd77::2", "prefix6": "64", "first6": "fd77::1000",
            "last6": "fd77::1fff", "gateway6": "fe80::1", "router6": "fd77::1", "gateway_mac": GATEWAY_MAC, "mtu": "1400", "dhcp4": "on",
            "dhcp6": "on", "ra": "on", "dns": "on", "domain": "lab.internal", "uid": "65534", "gid": "65534"}


def absent():
    """Why there can be no such network here; empty if there can."""
    if os.geteuid():
        return "name spaces of networks need root"
    for tool in ("ip", "nsenter", "unshare"):
        if not shutil.which(tool):
            return f"{tool} is not installed"
    r = subprocess.run(["unshare", "-n", "ip", "link", "add", "br0", "type", "bridge"], capture_output=True, text=True)
    return f"no bridges here: {r.stderr.strip()}" if r.returncode else ""


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


class Space:
    """A network name space with a mount name space, as long as its process; whatever happens no longer than `seconds`."""

    seconds = 600

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "-n", "-m", "sh", "-c", f"echo; exec sleep {self.seconds}"],
                                       stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        self.pid = self.holder.pid
        self.children = []
        self.run("ip link set lo up")

    def command(self, words):
        words = words.split() if isinstance(words, str) else words
        return ["nsenter", "-t", str(self.pid), "-n", "-m", *words]

    def run(self, words, check=True, timeout=20):
        r = subprocess.run(self.command(words), capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
        assert not check or r.returncode == 0, (words, r.stdout, r.stderr)
        return r

    def start(self, words, **kw):
        child = subprocess.Popen(self.command(words), stdin=subprocess.DEVNULL, **kw)
        self.children.append(child)
        return child

    def enter(self, function):
        """What `function` gives, called by a thread in this name space."""
        import ctypes
        import threading
        out = []

        def body():
            fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
            assert ctypes.CDLL(None, use_errno=True).setns(fd, 0) == 0
            os.close(fd)
            out.append(function())

        t = threading.Thread(target=body)
        t.start()
        t.join()
        assert out
        return out[0]

    def close(self):
        for child in [*self.children, self.holder]:
            child.kill()
            child.wait()


class Net:
    """The host's side: a bridge with the gateway's addresses, and the servers."""

    def __init__(self, tmp_path, **keys):
        self.dir, self.spaces, self.count = tmp_path, [], 0
        os.chmod(tmp_path, 0o777)
        self.host = self.space()
        # Who forwards nothing says that it is no router, and machines believe that.
        self.host.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"])
        self.host.run(f"ip link add br0 address {GATEWAY_MAC} type bridge")
        self.host.run("ip addr add 10.77.0.1/24 dev br0")
        self.host.run("ip link set br0 up")
        self.host.run("ip addr add fe80::1/64 dev br0 nodad")
        self.host.run("ip addr add fd77::1/64 dev br0 nodad")
        self.keys = {**DEFAULTS, "control_path": f"{tmp_path}/control", "lease_path": f"{tmp_path}/leases",
                     "log_path": f"{tmp_path}/log", **keys}
        self.hosts, self.pid = [], 0

    def space(self):
        self.spaces.append(Space())
        return self.spaces[-1]

    def serve(self, *more):
        self.host.run("ip link add srv0 type veth peer name srv0b")
        self.host.run("ip link set srv0b master br0 up")
        words = [f"{k}={v}" for k, v in self.keys.items() if v is not None]
        r = self.host.run([SERVE, *words, *more], check=False)
        assert r.returncode == 0, r.stderr
        self.pid = int(r.stdout)

    def kill(self, sig=signal.SIGKILL):
        if not gone(self.pid):
            os.kill(self.pid, sig)
        for _ in range(500):
            if gone(self.pid):
                break
            time.sleep(0.01)
        self.host.run("ip link del srv0b", check=False)
        self.pid = 0

    def machine(self, mac=None):
        """A machine with one card, eth0."""
        self.count += 1
        n, m = self.count, self.space()
        mac = mac or f"52:54:00:77:00:{n:02x}"
        self.host.run(f"ip link add m{n} type veth peer name eth0 address {mac} netns {m.pid}")
        self.host.run(f"ip link set m{n} master br0 up")
        # Its link-local address is there at once.
        m.run(["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad"])
        m.run("ip link set eth0 up")
        m.mac = mac
        return m

    def ask(self, what, **arguments):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(self.keys["control_path"])
            ask = {"execute": what, **({"arguments": arguments} if arguments else {})}
            s.sendall(json.dumps(ask).encode() + b"\n")
            answer = json.loads(s.makefile().readline())
        if "error" in answer:
            raise ValueError(answer["error"]["desc"])
        return answer["return"]

    def leases(self, family=4):
        return {e["mac"]: e for e in self.ask("leases") if e["family"] == family}

    def log(self):
        with open(self.keys["log_path"]) as f:
            return f.read()

    def close(self):
        if self.pid:
            self.kill()
        for space in self.spaces:
            space.close()


def discover(mac, number):
    """A DHCPDISCOVER as a frame, with a client id of its own."""
    mac = bytes.fromhex(mac.replace(":", ""))
    m = b"\1\1\6\0" + struct.pack(">I", number) + bytes(20) + mac + bytes(202) + b"\x63\x82\x53\x63\x35\1\1\x3d\5\1" + \
        struct.pack(">I", number) + b"\xff"
    udp = struct.pack(">4H", 68, 67, 8 + len(m), 0) + m
    ip = struct.pack(">2B3H2BH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    total = sum(struct.unpack(">10H", ip))
    total = (total & 0xffff) + (total >> 16)
    return b"\xff" * 6 + mac + b"\x08\0" + ip[:10] + struct.pack(">H", ~total & 0xffff) + ip[12:] + udp


def raw_socket(machine):
    s = machine.enter(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    s.bind(("eth0", 0))
    return s
