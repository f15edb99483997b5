"""The virtio devices under the Debian cloud kernel, over PCI and over MMIO."""
import hashlib
import os
import subprocess
import time

import pytest

from conftest import SLOW, run_cli

MIB = 1 << 20


def sparse(path, size):
    with open(path, "wb") as f:
        f.truncate(size)
    return str(path)


def allocated(path):
    return os.stat(path).st_blocks * 512


def boot(busybox, vms, *more, cpus=1, bus="pci"):
    """From the root disk, which is also vda."""
    return vms([*busybox.args(), "--cpus", str(cpus), "--disk", f"{busybox.disk()},bus={bus}", *more]).boot()


def until(fn, timeout=30):
    end = time.monotonic() + timeout * SLOW
    while not fn():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)


@pytest.fixture
def small_fs(tmp_path):
    """A file system of 8 MiB."""
    at = tmp_path / "small"
    at.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", at], capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    yield at
    subprocess.run(["umount", "-l", at], check=True)


def test_guest_waits_for_space_on_the_host(busybox, vms, small_fs, tmp_path):
    disk = sparse(small_fs / "disk.img", 64 * MIB)
    ballast = small_fs / "ballast"
    ballast.write_bytes(b"x" * 5 * MIB)
    vm = boot(busybox, vms, "--disk", disk)
    q = vm.qmp()
    vm.child.sendline("dd if=/dev/vda of=/dev/vdb bs=64k count=96 conv=fsync; echo STATUS-$?")
    until(lambda: q.execute("query-status")["status"] == "io-error")
    assert "no space" in q.ask("cont")["error"]["desc"]
    r = run_cli("save", vm.name, str(tmp_path / "state"))
    assert r.returncode == 1 and "no space" in r.stderr
    assert q.execute("query-status")["status"] == "io-error"
    q.execute("stop")
    assert q.execute("query-status")["status"] == "paused"
    ballast.unlink()
    time.sleep(1)
    assert q.execute("query-status")["status"] == "paused"  # who stopped it lets it go on
    q.ask("cont")
    until(lambda: q.execute("query-status")["status"] == "running")
    vm.child.expect("STATUS-0")
    vm.child.sendline("poweroff")
    assert vm.wait() == 0
    with open(disk, "rb") as f, open(busybox.image, "rb") as g:
        # The root file system was in use: compare what lies beyond its first blocks.
        f.seek(4 * MIB)
        g.seek(4 * MIB)
        assert hashlib.md5(f.read(2 * MIB)).digest() == hashlib.md5(g.read(2 * MIB)).digest()
