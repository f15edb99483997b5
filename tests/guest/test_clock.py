"""Counted guest time: the same boot each time, also around a pause and a save."""
import gzip
import os
import re
import subprocess
import time

import pytest

from conftest import SLOW, VIREO, Qmp, run_cli

INIT = b"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc
/bin/busybox mount -t proc proc /proc
echo INIT-RUNS
/bin/busybox cat /proc/uptime /proc/interrupts
/bin/busybox date
/bin/busybox sleep 1
i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done
/bin/busybox cat /proc/uptime
/bin/busybox poweroff -f
"""


def cpio_entry(name, data, mode):
    """The newc format: a header of hexadecimal numbers, the name, the data, each padded to 4 bytes."""
    raw = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(b"%08x" % f for f in fields) + raw
    head += b"\0" * (-len(head) % 4)
    return head + data + b"\0" * (-len(data) % 4)


@pytest.fixture
def counted(busybox, tmp_path):
    """Options of a machine without anything that differs from run to run: no disk, no network, an init of its own."""
    initrd = tmp_path / "initrd"
    more = cpio_entry("init", INIT, 0o100755) + cpio_entry("TRAILER!!!", b"", 0)
    initrd.write_bytes(open(busybox.initrd, "rb").read() + gzip.compress(more))
    return ["--kernel", busybox.kernel, "--initrd", str(initrd), "--append", "console=ttyS0", "--stats"]


def instructions(text):
    return int(re.search(r"cpu0\.instructions +(\d+)", text).group(1))


def test_icount_boots_are_identical(counted):
    skip, again, paced = [
        run_cli("run", *counted, "--clock", f"icount,idle={idle}", timeout=120) for idle in ("skip", "skip", "sleep")]
    assert "INIT-RUNS" in skip.stdout and "Power down" in skip.stdout
    assert again.stdout == skip.stdout
    assert instructions(again.stderr) == instructions(skip.stderr)
    # Nor is it seen what executes it.
    for engine in "interp", "jit":
        r = run_cli("run", *counted, "--clock", "icount,idle=skip", "--engine", engine, timeout=120)
        assert r.stdout == skip.stdout
        assert instructions(r.stderr) == instructions(skip.stderr)
    # How idle time passes on the host is not seen by the guest.
    assert paced.stdout == skip.stdout
    assert instructions(paced.stderr) == instructions(skip.stderr)


class Counted:
    def __init__(self, args, name):
        self.process = subprocess.Popen([VIREO, *args, "--name", name], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.name = name

    def finish(self):
        return self.process.communicate(timeout=120 * SLOW)


def test_icount_pause_and_save_change_nothing(counted, tmp_path):
    whole = run_cli("run", *counted, "--clock", "icount,idle=skip", timeout=120)
    state = str(tmp_path / "state")
    first = Counted(["run", *counted, "--clock", "icount,idle=skip"], f"c{os.getpid()}")
    time.sleep(0.3 * SLOW)
    control = Qmp(first.name)
    control.execute("stop")
    control.execute("cont")
    time.sleep(0.1 * SLOW)
    r = run_cli("save", first.name, state, timeout=120)
    assert r.returncode == 0, r.stderr
    out1, err1 = first.finish()
    assert "INIT-RUNS" not in out1, "saved too late to be in the middle"
    out2, err2 = Counted(["restore", state, "--stats"], f"d{os.getpid()}").finish()
    assert out1 + out2 == whole.stdout
    assert instructions(err1) + instructions(err2) == instructions(whole.stderr)



# --- host time ---


def uptime(vm):
    return float(vm.sh("cat /proc/uptime").split()[0])


def test_the_guest_does_not_see_a_pause(busybox, vms):
    vm = vms([*busybox.args(), "--cpus", "2"]).boot()
    control = vm.qmp()
    start, before = time.monotonic(), uptime(vm)
    control.execute("stop")
    stopped = time.monotonic()
    time.sleep(3)
    pause = time.monotonic() - stopped
    control.execute("cont")
    after = uptime(vm)
    # Not less than was, and not more than went by outside of the pause, however slow the host is.
    assert before <= after <= before + (time.monotonic() - start) - pause + 0.1
    assert not [line for line in vm.sh("dmesg").splitlines() if re.search("stall|lockup|unstable", line)]


def test_time_never_runs_backwards_over_a_restore(busybox, vms, tmp_path):
    state = str(tmp_path / "state")
    vm = vms([*busybox.args(), "--cpus", "2"]).boot()
    before, wall = uptime(vm), float(vm.sh("date +%s"))
    start = time.monotonic()
    r = run_cli("save", vm.name, state, timeout=120)
    assert r.returncode == 0, r.stderr
    gone = time.monotonic() - start
    assert vm.wait() == 0
    time.sleep(3)
    start = time.monotonic()
    vm = vms([state], command="restore")
    vm.child.sendline("")
    vm.boot()
    after = uptime(vm)
    # The time in the file does not count.
    assert before <= after <= before + gone + (time.monotonic() - start) + 0.1
    assert float(vm.sh("date +%s")) >= wall
    # Timers still come.
    vm.sh("sleep 0.3")
    assert vm.status == 0
    assert not [line for line in vm.sh("dmesg").splitlines() if re.search("stall|lockup|unstable", line)]


# --- counted time again ---


def test_icount_wants_an_engine_that_counts(busybox):
    r = run_cli("run", *busybox.args(), "--clock", "icount", "--engine", "kvm")
    assert (r.returncode, r.stderr) == (
        1, "vireo: clock: icount counts instructions, which engine kvm does not; auto takes one that does\n")


def test_icount_wants_one_cpu(busybox):
    r = run_cli("run", *busybox.args(), "--clock", "icount", "--cpus", "2")
    assert (r.returncode, r.stderr) == (
        1, "vireo: clock: icount counts the instructions of one CPU, and cpus is 2\n")


def test_the_clock_may_begin_at_any_time(counted):
    r = run_cli("run", *counted, "--clock", "icount,idle=skip,base=1999-12-31T23:59:59", timeout=120)
    assert "Sat Jan  1 00:00:0" in r.stdout and " UTC 2000" in r.stdout
    r = run_cli("run", *counted, "--clock", "host,base=tomorrow")
    assert r.returncode == 1 and r.stderr.count("\n") == 1
    assert "clock.base: 'tomorrow' is neither 'host' nor a UTC time like 2026-01-31T12:00:00" in r.stderr
