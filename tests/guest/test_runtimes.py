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


INIT = b"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
modprobe -a $(cat /etc/modules) 2>/dev/null
mount -t ext4 -o ro /dev/vda /mnt
mount --bind /proc /mnt/proc
mount --bind /dev /mnt/dev
mount -t tmpfs tmp /mnt/tmp
chroot /mnt /jdk/bin/java -Xmx256m -XX:-UsePerfData -cp / Work
echo STATUS: $?
poweroff -f
"""


@pytest.fixture
def java_disk(tmp_path):
    """A disk with the host's Java, the libraries that it needs, and the program."""
    if not shutil.which("javac"):
        pytest.skip("skipped: the host has no javac")
    home = os.path.dirname(os.path.dirname(os.path.realpath(shutil.which("java"))))
    root, disk = tmp_path / "root", tmp_path / "java.img"
    for d in "proc", "dev", "tmp":
        (root / d).mkdir(parents=True)
    # Some of its links lead nowhere.
    subprocess.run(["cp", "-aL", home, root / "jdk"], stderr=subprocess.DEVNULL)
    for d in "jmods", "demo", "man":
        shutil.rmtree(root / "jdk" / d, ignore_errors=True)
    (root / "jdk" / "lib" / "src.zip").unlink(missing_ok=True)
    libraries = glob.glob(f"{home}/lib/*.so") + [f"{home}/lib/server/libjvm.so", f"{home}/bin/java"]
    needed = subprocess.run(["ldd", *libraries], capture_output=True, text=True).stdout
    for path in set(re.findall(r"(/\S+) \(0x", needed)):
        if not path.startswith(home):
            os.makedirs(root / os.path.dirname(path).lstrip("/"), exist_ok=True)
            shutil.copy(path, root / path.lstrip("/"))
    subprocess.run(["javac", "-d", root, os.path.join(TOP, "tests", "guest", "Work.java")], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, disk, "600M"], check=True)
    return root, disk


@pytest.mark.parametrize("cpus", ["1", "2"])
def test_java(busybox, java_disk, tmp_path, cpus):
    root, disk = java_disk
    native = subprocess.run(["java", "-Xmx256m", "-cp", root, "Work"], capture_output=True, text=True, check=True).stdout
    assert native.endswith("END\n")
    initrd = tmp_path / "initrd"
    more = cpio_entry("init", INIT, 0o100755) + cpio_entry("TRAILER!!!", b"", 0)
    initrd.write_bytes(open(busybox.initrd, "rb").read() + gzip.compress(more))
    r = run_cli("run", "--engine", "jit", "--cpus", cpus, "--memory", "1G", "--kernel", busybox.kernel, "--initrd",
                str(initrd), "--append", "console=ttyS0 quiet", "--disk", f"{disk},readonly=on", timeout=900)
    said = r.stdout.replace("\r", "")
    assert "STATUS: 0\n" in said, said[-3000:]
    assert said[:said.index("STATUS: 0\n")].endswith(native)
