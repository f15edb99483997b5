"""Code that changes under Linux: by a disk, by programs, by the kernel's compilers and by its patching of itself."""
import gzip
import os
import re
import struct
import subprocess

import pytest

from conftest import TOP, run_cli
from test_clock import cpio_entry

INIT = b"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
modprobe -a $(cat /etc/modules) 2>/dev/null
mount -t tracefs tracing /sys/kernel/tracing
echo 1 > /proc/sys/net/core/bpf_jit_enable
/changing
echo ENDED: $?
poweroff -f
"""

BLOCKS = 2000


def loop(number):
    return bytes.fromhex("b93200000031c005") + struct.pack("<I", number) + bytes.fromhex("ffc975f7c3")


def write_disk(path):
    """As changing.c expects it."""
    with open(path, "wb") as f:
        for n in range(BLOCKS):
            code = loop((n * 2654435761 + 12345) & 0xffffffff)
            f.write((code.ljust(512, b"\xcc") + code[8:]).ljust(4096, b"\xcc"))


@pytest.fixture
def changing(busybox, tmp_path):
    """What each part of the program says on a machine."""
    program, disk, initrd = tmp_path / "changing", tmp_path / "code.img", tmp_path / "initrd"
    source = os.path.join(TOP, "tests", "guest", "changing.c")
    subprocess.run(["cc", "-O2", "-static", "-pthread", "-o", program, source], check=True)
    write_disk(disk)
    more = cpio_entry("init", INIT, 0o100755) + cpio_entry("changing", program.read_bytes(), 0o100755)
    more += cpio_entry("TRAILER!!!", b"", 0)
    initrd.write_bytes(open(busybox.initrd, "rb").read() + gzip.compress(more, 1))

    def run(*options, timeout=120):
        r = run_cli("run", "--kernel", busybox.kernel, "--initrd", str(initrd), "--append", "console=ttyS0 quiet",
                    "--disk", f"{disk},readonly=on", *options, timeout=timeout)
        assert r.returncode == 0 and "ENDED: 0" in r.stdout, r.stdout[-3000:] + r.stderr
        assert not re.search(r"BUG|WARNING|Oops|stall|lockup", r.stdout), r.stdout[-3000:]
        return dict(re.findall(r"^(\w+): (\w+, .*?)\r?$", r.stdout, re.M))

    return run


NAMES = ["dma", "mappings", "protections", "copies", "threads", "ebpf", "filters", "ftrace", "probes", "keys"]


def check(said):
    assert [n for n in NAMES if n not in said] == []
    assert {n: said[n] for n in NAMES if not said[n].startswith("ok, ")} == {}


@pytest.mark.parametrize("cpus", ["1", "2"])
def test_code_changes(changing, cpus):
    check(changing("--engine", "jit", "--cpus", cpus))


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    ("--engine", "jit", "--cpus", "4", "--jit-cache", "1M"),
    ("--engine", "jit", "--cpus", "2", "--set", "jit.heat=0"),
    ("--engine", "interp", "--cpus", "2"),
])
def test_code_changes_elsewhere(changing, options):
    check(changing(*options, timeout=600))
