"""What `net` of scripts/bench measures: iperf3 of a guest to its host, by a tap, with one queue and with several, and by the
user-mode network, on the translator and on QEMU's TCG: the same kernel, initramfs and card, in turns. Each machine has a network
name space of its own with its servers, and sends nothing outside."""
import os
import re
import shutil
import signal
import statistics
import subprocess

import compare

SECONDS = 3
STREAMS = 4  # of the guest with several queues, each a process
ADDRESS = {"tap0": ("192.0.2.2", "192.0.2.1"), "tap1": ("192.0.2.2", "192.0.2.1"), "user": ("10.0.2.15", "10.0.2.2"),
           "user6": ("fec0::15", "fec0::2")}
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
modprobe -a $(cat /etc/modules) 2>/dev/null
mkdir -p /tmp
ip link set lo up
echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
ip link set eth0 up
stty -echo -onlcr
echo net:ready
exec sh
"""
# What runs in the name space: the servers, and the machine in its place. tap1 has several queues.
SPACE = """ip link set lo up
ip tuntap add tap0 mode tap vnet_hdr && ip tuntap add tap1 mode tap vnet_hdr multi_queue
for tap in tap0 tap1; do ip link set $tap up; done
ip addr add 192.0.2.1/24 dev "$1"
shift
for port in 5201 5202 5203 5204; do iperf3 -s -p $port >/dev/null 2>&1 & done
exec "$@"
"""


def missing():
    programs = {"iperf3": "iperf3", "ip": "iproute2", "qemu-system-x86_64": "qemu-system-x86"}
    for program, package in programs.items():
        if not shutil.which(program):
            return f"{package} is not installed"
    if os.getuid() or not os.path.exists("/dev/net/tun"):
        return "taps need root and /dev/net/tun"
    return None


def initrd(guest, work, *more):
    """The guest's with iperf3, its libraries and an init that sets the card up; more programs beside them, if they need none."""
    root, out = f"{work}/net", f"{work}/net.img"
    os.makedirs(f"{root}/net")
    program = shutil.which("iperf3")
    listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    for path in [program, *re.findall(r"(/\S+) \(", listed), *more]:
        shutil.copy(path, f"{root}/net")
    with open(f"{root}/net-init", "w") as f:
        f.write(INIT)
    os.chmod(f"{root}/net-init", 0o755)
    names = subprocess.run(["find", "."], cwd=root, check=True, capture_output=True).stdout
    own = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], input=names, cwd=root, check=True,
                         stdout=subprocess.PIPE).stdout
    with open(f"{guest}/initrd.img", "rb") as f:
        image = f.read()
    with open(out, "wb") as f:
        f.write(image + bytes(-len(image) % 4) + own)
    loader = next(n for n in os.listdir(f"{root}/net") if n.startswith("ld-"))
    return out, f"/net/{loader} --library-path /net /net/iperf3"


class Machine:
    def __init__(self, command, network):
        space = ["unshare", "--net", "sh", "-c", SPACE, "sh", "tap1" if network == "tap1" else "tap0"]
        self.process = subprocess.Popen([*space, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        self.own, self.host = ADDRESS[network]
        self.until(b"net:ready")
        self.say(f"ip addr add {self.own}/{64 if ':' in self.own else 24} dev eth0")

    def say(self, line):
        # The quotes tell its output from its echo.
        self.process.stdin.write(f"{line}\necho DO''NE\n".encode())
        self.process.stdin.flush()
        return self.until(b"DONE")

    def until(self, text):
        seen = b""
        while text not in seen:
            got = os.read(self.process.stdout.fileno(), 65536)
            if not got:
                raise EOFError(f"the guest has ended: {seen[-200:]}")
            seen += got
        return seen.decode(errors="replace")

    def rate(self, iperf, streams=1):
        """Gbit/s that arrived at the host, of all processes."""
        clients = "".join(f"{iperf} -f m -t {SECONDS} -c {self.host} -p {5201 + n} >/tmp/{n} & " for n in range(streams))
        text = self.say(f"{clients} wait; cat /tmp/[0-9]")
        found = re.findall(r"([\d.]+) Mbits/sec +receiver", text)
        if len(found) != streams:
            raise EOFError(f"iperf3: {text[-300:]}")
        return sum(map(float, found)) / 1000

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Engine:
    """The command lines of both, for the same guest."""

    def __init__(self, vireo, work, options):
        self.vireo, self.options, self.guest = vireo, options, compare.guest(vireo, "busybox")
        if not os.path.exists(f"{work}/net.img"):
            Engine.made = initrd(self.guest, work)
        self.image, self.iperf = Engine.made
        self.append = "console=ttyS0 quiet rdinit=/net-init"

    def ours(self, net, cpus=1):
        return [self.vireo, "run", "--engine", "jit", "--cpu", compare.model("jit", self.options), "--memory", "512M", "--cpus",
                str(cpus), "--kernel", f"{self.guest}/vmlinuz", "--initrd", self.image, "--append", self.append, "--net", net]

    def theirs(self, net, card="", cpus=1):
        return [shutil.which("qemu-system-x86_64"), "-accel", "tcg", "-cpu", compare.model("tcg", self.options), "-m", "512",
                "-smp", str(cpus), "-display", "none", "-nodefaults", "-serial", "stdio", "-kernel", f"{self.guest}/vmlinuz",
                "-initrd", self.image, "-append", self.append, "-netdev", f"{net},id=n", "-device",
                f"virtio-net-pci,netdev=n{card}"]


def medians(places, runs, rate):
    """Of machines that run beside each other, in turns: each a command and its network."""
    machines, rates = [], [[] for _ in places]
    try:
        for command, network in places:
            machines.append(Machine(command, network))
        for _ in range(runs):
            for machine, figures in zip(machines, rates):
                figures.append(rate(machine))
    finally:
        for machine in machines:
            machine.stop()
    return [statistics.median(r) for r in rates]


def measure(vireo, work, network, runs, options):
    """Gbit/s of ours and of QEMU's."""
    e = Engine(vireo, work, options)
    tap = network == "tap0"
    ours = e.ours("tap,ifname=tap0" if tap else "user")
    theirs = e.theirs("tap,ifname=tap0,script=no,downscript=no" if tap else "user")
    return medians([(ours, network), (theirs, network)], runs, lambda machine: machine.rate(e.iperf))


def queues(vireo, work, runs, options):
    """Gbit/s of several streams of a guest with two processors: ours with two queues and with one, QEMU's with two."""
    e = Engine(vireo, work, options)
    places = [(e.ours("tap,ifname=tap1,queues=2", 2), "tap1"), (e.ours("tap,ifname=tap0", 2), "tap0"),
              (e.theirs("tap,ifname=tap1,queues=2,script=no,downscript=no", ",mq=on,vectors=6", 2), "tap1")]
    return medians(places, runs, lambda machine: machine.rate(e.iperf, STREAMS))
