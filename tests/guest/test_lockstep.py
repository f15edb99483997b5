"""The interpreter and the translator beside each other: the same registers and memory at the same instructions."""
import gzip
import os
import re
import subprocess

import pytest

import programs
from conftest import SLOW, TOP, VIREO
from test_clock import cpio_entry

PROGRAM = os.path.join(os.path.dirname(VIREO), "tests", "vm", "lockstep")

# Something of everything that the shell has: processes, pipes, signals, floating point, text, compression.
INIT = b"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /tmp /bin2
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin2
export PATH=/bin2
echo INIT-RUNS
seq 1 3000 | awk '{ s += ($1 - 1234.5) * $1 / 3; t = t "" int(s) % 7 } END { printf "%.9f %d\\n", s, length(t) }'
md5sum /bin/busybox; sha512sum /bin/busybox
gzip -c /bin/busybox | gunzip | cksum
seq 1 2000 | sort -r | uniq | sed 's/7/seven/g' | grep -c seven
[ -x /legacy ] && /legacy
if grep -q changing /proc/cmdline; then
	mkdir -p /sys
	mount -t sysfs sys /sys
	mount -t tracefs tracing /sys/kernel/tracing
	echo 1 > /proc/sys/net/core/bpf_jit_enable
	/changing
fi
i=0; while [ $i -lt 40 ]; do (echo $i | cat >/dev/null) & i=$((i+1)); done; wait
sleep 100 & kill -9 $!; wait $!; echo "killed: $?"
dd if=/dev/zero of=/tmp/zero bs=64k count=64 2>/dev/null; cksum /tmp/zero
cat /proc/interrupts /proc/meminfo
date; sleep 1; cat /proc/uptime
poweroff -f
"""


def is_amd():
    with open("/proc/cpuinfo") as f:
        return "AuthenticAMD" in f.read()


@pytest.fixture
def lockstep(busybox, tmp_path):
    """Runs the program with a machine that has nothing but the shell above."""
    if not os.path.exists(PROGRAM):
        pytest.skip("skipped: the unit tests are not built")
    initrd = tmp_path / "initrd"
    more = cpio_entry("init", INIT, 0o100755)
    try:
        programs.build_legacy(tmp_path / "legacy")
        more += cpio_entry("legacy", (tmp_path / "legacy").read_bytes(), 0o100755)
    except subprocess.CalledProcessError:
        print("no compiler for 32-bit programs: none is run")
    source = os.path.join(TOP, "tests", "guest", "changing.c")
    subprocess.run(["cc", "-O2", "-static", "-pthread", "-o", tmp_path / "changing", source], check=True)
    more += cpio_entry("changing", (tmp_path / "changing").read_bytes(), 0o100755)
    more += cpio_entry("TRAILER!!!", b"", 0)
    initrd.write_bytes(open(busybox.initrd, "rb").read() + gzip.compress(more))

    def run(*options, timeout=300):
        if "--lax" not in options and not is_amd():
            pytest.skip("skipped: undefined flags are the same only where the host's processor is AMD's")
        r = subprocess.run([PROGRAM, "--kernel", busybox.kernel, "--initrd", str(initrd), *options], capture_output=True,
                           text=True, timeout=timeout * SLOW)
        places, rams, instructions = re.match(
            r"(\d+) places compared, memory at (\d+) of them, (\d+) instructions\n", r.stdout).groups()
        return r, int(places), int(rams), int(instructions)

    return run


def test_the_beginning_of_a_boot(lockstep):
    r, places, rams, instructions = lockstep("--most", "250000000")
    assert r.returncode == 0, r.stdout + r.stderr
    assert places > 40_000 and rams > 8 and instructions > 200_000_000


def test_a_difference_is_found(lockstep):
    """Where nobody looks at flags any more they may be any: unless that is forbidden, that is a difference."""
    r, places, _, _ = lockstep("--most", "250000000", "--set", "jit.strict=off")
    assert r.returncode == 1 and places < 40_000
    assert re.search(r"after them, at \d+ ns:\n  interp: cpu-x86:0.rflags = .*\n  jit: cpu-x86:0.rflags = ", r.stdout)
    assert len(re.findall(r"^  [0-9a-f]{16}  (?:[0-9a-f]{2} ){14}[0-9a-f]{2}$", r.stdout, re.M)) > 10


def test_registers_through_a_boot(lockstep):
    """As machines are by default: flags that nobody looks at any more may be any."""
    r, places, _, instructions = lockstep("--lax", "1")
    assert r.returncode == 0, r.stdout + r.stderr
    assert places > 200_000 and instructions > 1_000_000_000


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    ("--seed", "1"),
    ("--seed", "2", "--every", "500", "--ram-every", "5000000"),
    ("--seed", "3", "--every", "500000", "--set", "jit.heat=0"),
    ("--seed", "4", "--set", "jit.cache=1M"),
    ("--seed", "6", "--set", "jit.share=off", "--set", "jit.extend=off"),
    ("--seed", "7", "--set", "jit.link=off"),
    # The kernel patches and compiles code: tests/guest/changing.c
    ("--seed", "5", "--append", "console=ttyS0 changing"),
])
def test_a_whole_boot(lockstep, options):
    r, places, rams, instructions = lockstep(*options, timeout=1200)
    assert r.returncode == 0, r.stdout + r.stderr
    assert places > 2_000 and rams > 50 and instructions > 1_000_000_000
