"""Programs that compile while they run, in a guest and on the host: they must compute the same."""
import glob
import gzip
import os
import re
import shutil
import subprocess

import pytest

from conftest import SLOW, TOP, VIREO, run_cli
from test_clock import cpio_entry

pytestmark = pytest.mark.slow


def test_node(busybox):
    r = subprocess.run([os.path.join(TOP, "scripts", "bench"), VIREO, "--divisor", "10", "--engines", "jit,native",
                        "--mitigations", "off", "node"], capture_output=True, text=True, timeout=1800 * SLOW,
                       stdin=subprocess.DEVNULL)
    assert r.returncode == 0 and "different results" not in r.stdout, r.stdout + r.stderr
    assert re.search(r"^node +\d+\.\d+s +\d+\.\d+s ", r.stdout, re.M), r.stdout


INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
modprobe -a $(cat /etc/modules) 2>/dev/null
mount -t ext4 -o ro /dev/vda /mnt
mount --bind /proc /mnt/proc
mount --bind /dev /mnt/dev
mount -t tmpfs tmp /mnt/tmp
chroot /mnt %s
echo STATUS: $?
poweroff -f
"""
JAVA = "/jdk/bin/java -Xmx256m -XX:-UsePerfData -cp /"


def libraries(root, *programs, home="/nowhere"):
    """What they need of the host's, but for what is at home."""
    needed = subprocess.run(["ldd", *programs], capture_output=True, text=True).stdout
    for path in set(re.findall(r"(/\S+) \(0x", needed)):
        if not path.startswith(home):
            os.makedirs(root / os.path.dirname(path).lstrip("/"), exist_ok=True)
            shutil.copy(path, root / path.lstrip("/"))


def disk_of(root):
    for d in "proc", "dev", "tmp":
        (root / d).mkdir(parents=True, exist_ok=True)
    disk = root.parent / "disk.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, disk, "600M"], check=True)
    return disk


@pytest.fixture
def java(tmp_path):
    """A directory that becomes a disk: the host's Java, the libraries that it needs, and the programs."""
    if not shutil.which("javac"):
        pytest.skip("skipped: the host has no javac")
    home = os.path.dirname(os.path.dirname(os.path.realpath(shutil.which("java"))))
    root = tmp_path / "root"
    root.mkdir()
    # Some of its links lead nowhere.
    subprocess.run(["cp", "-aL", home, root / "jdk"], stderr=subprocess.DEVNULL)
    for d in "jmods", "demo", "man":
        shutil.rmtree(root / "jdk" / d, ignore_errors=True)
    (root / "jdk" / "lib" / "src.zip").unlink(missing_ok=True)
    libraries(root, *glob.glob(f"{home}/lib/*.so"), f"{home}/lib/server/libjvm.so", f"{home}/bin/java", home=home)
    subprocess.run(["javac", "-d", root, *glob.glob(os.path.join(TOP, "tests", "guest", "*.java"))], check=True)
    return root


@pytest.fixture
def node(tmp_path):
    """The same with the host's Node.js."""
    if not shutil.which("node"):
        pytest.skip("skipped: the host has no node")
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    program = os.path.realpath(shutil.which("node"))
    shutil.copy(program, root / "bin" / "node")
    libraries(root, program)
    shutil.copy(os.path.join(TOP, "tests", "guest", "warm.js"), root)
    return root


def run_from_disk(busybox, root, command, *options):
    """What it says, in a guest."""
    initrd = root.parent / "initrd"
    more = cpio_entry("init", (INIT % command).encode(), 0o100755) + cpio_entry("TRAILER!!!", b"", 0)
    initrd.write_bytes(open(busybox.initrd, "rb").read() + gzip.compress(more))
    r = run_cli("run", "--engine", "jit", "--memory", "1G", "--kernel", busybox.kernel, "--initrd", str(initrd), "--append",
                "console=ttyS0 quiet", "--disk", f"{disk_of(root)},readonly=on", *options, timeout=900)
    said = r.stdout.replace("\r", "")
    assert "STATUS: 0\n" in said, said[-3000:]
    return said[:said.index("STATUS: 0\n")]


@pytest.mark.parametrize("cpus", ["1", "2"])
def test_java(busybox, java, cpus):
    native = subprocess.run(["java", "-Xmx256m", "-cp", java, "Work"], capture_output=True, text=True, check=True).stdout
    assert native.endswith("END\n")
    assert run_from_disk(busybox, java, f"{JAVA} Work", "--cpus", cpus).endswith(native)


def warm(said):
    """Seconds from a program's start until it ran at half of its speed."""
    print(said)
    return float(re.search(r"WARM ([\d.]+) STEADY [1-9]", said)[1])


def test_node_is_half_as_fast_as_it_gets_within_two_seconds(busybox, node):
    assert warm(run_from_disk(busybox, node, "/bin/node /warm.js")) <= 2 * SLOW


def test_java_is_half_as_fast_as_it_gets_within_two_seconds(busybox, java):
    assert warm(run_from_disk(busybox, java, f"{JAVA} Warm", "--cpus", "2")) <= 2 * SLOW
