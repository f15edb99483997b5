"""What `net` of scripts/bench measures: iperf3 of a guest to its host, by a tap and by the user-mode network, on the translator
and on QEMU's TCG: the same kernel, initramfs and card, in turns. Each machine has a network name space of its own with its
server, and sends nothing outside."""
import os
import re
import shutil
import signal
import statistics
import subprocess

import compare

SECONDS = 3
ADDRESS = {"tap": ("192.0.2.2", "192.0.2.1"), "user": ("10.0.2.15", "10.0.2.2")}
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
modprobe -a $(cat /etc/modules) 2>/dev/null
mkdir -p /tmp
ip link set lo up
ip link set eth0 up
stty -echo -onlcr
echo net:ready
exec sh
"""
# What runs in the name space: the server, and the machine in its place.
SPACE = """ip link set lo up
ip tuntap add tap0 mode tap vnet_hdr && ip addr add 192.0.2.1/24 dev tap0 && ip link set tap0 up
iperf3 -s >/dev/null 2>&1 &
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
        self.process = subprocess.Popen(["unshare", "--net", "sh", "-c", SPACE, "sh", *command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        self.own, self.host = ADDRESS[network]
        self.until(b"net:ready")
        self.say(f"ip addr add {self.own}/24 dev eth0")

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

    def rate(self, iperf):
        """Gbit/s that arrived at the host."""
        text = self.say(f"{iperf} -f m -t {SECONDS} -c {self.host}")
        found = re.findall(r"([\d.]+) Mbits/sec +receiver", text)
        if not found:
            raise EOFError(f"iperf3: {text[-300:]}")
        return float(found[-1]) / 1000

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def commands(vireo, guest, image, network, options):
    append, kernel = "console=ttyS0 quiet rdinit=/net-init", f"{guest}/vmlinuz"
    tap = network == "tap"
    ours = [vireo, "run", "--engine", "jit", "--cpu", compare.model("jit", options), "--memory", "512M", "--kernel", kernel,
            "--initrd", image, "--append", append, "--net", "tap,ifname=tap0" if tap else "user"]
    theirs = [shutil.which("qemu-system-x86_64"), "-accel", "tcg", "-cpu", compare.model("tcg", options), "-m", "512",
              "-display", "none", "-nodefaults", "-serial", "stdio", "-kernel", kernel, "-initrd", image, "-append", append,
              "-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no" if tap else "user,id=n", "-device",
              "virtio-net-pci,netdev=n"]
    return ours, theirs


def measure(vireo, work, network, runs, options):
    """Medians of ours and of QEMU's, in Gbit/s."""
    guest = compare.guest(vireo, "busybox")
    if not os.path.exists(f"{work}/net.img"):
        measure.made = initrd(guest, work)
    image, iperf = measure.made
    machines, rates = [], ([], [])
    try:
        for command in commands(vireo, guest, image, network, options):
            machines.append(Machine(command, network))
        for _ in range(runs):
            for machine, rate in zip(machines, rates):
                rate.append(machine.rate(iperf))
    finally:
        for machine in machines:
            machine.stop()
    return [statistics.median(r) for r in rates]
