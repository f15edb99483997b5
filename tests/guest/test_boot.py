"""Boots of the Debian cloud kernel."""
import re

import pytest

from conftest import run_cli


def report(busybox, *options):
    r = run_cli("run", *busybox.args("quiet vireo.report readonly"), *options, timeout=120)
    assert r.returncode == 0, r.stdout[-2000:] + r.stderr
    return dict(re.findall(r"^(\w+): +(.*?)\r?$", r.stdout, re.M)), r


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_report_from_disk(busybox, cpus):
    got, _ = report(busybox, "--cpus", str(cpus), "--disk", f"{busybox.image},readonly=on", "--net", "user")
    assert got["kernel"].startswith("Linux 6.")
    assert got["cpus"].startswith(f"{cpus} ")
    assert got["disk"] == "vda 64 MiB, root ext4"
    assert got["network"] == "eth0 10.0.2.15/24"


def test_memory_above_the_pci_hole(busybox):
    got, _ = report(busybox, "--memory", "4G", "--disk", f"{busybox.image},readonly=on")
    assert int(got["memory"].split()[0]) > 3800


def test_virtio_mmio(busybox):
    got, _ = report(busybox, "--disk", f"{busybox.image},readonly=on,bus=mmio", "--net", "user,bus=mmio")
    assert got["disk"] == "vda 64 MiB, root ext4"
    assert got["network"] == "eth0 10.0.2.15/24"


def test_threads_instead_of_io_uring(busybox):
    got, _ = report(busybox, "--disk", f"{busybox.image},readonly=on,aio=threads")
    assert got["disk"] == "vda 64 MiB, root ext4"


def test_stats_count_instructions(busybox):
    _, r = report(busybox, "--disk", f"{busybox.image},readonly=on", "--stats")
    assert int(re.search(r"cpu0\.instructions +(\d+)", r.stderr).group(1)) > 100_000_000


def test_initramfs_only(busybox, vms):
    vm = vms(busybox.args()).boot()
    assert "Linux" in vm.sh("uname -a")
    vm.child.sendline("poweroff -f")
    assert vm.wait() == 0


def test_kernel_panic_with_reset_ends_with_no_reboot(busybox):
    r = run_cli("run", "--kernel", busybox.kernel, "--append", "console=ttyS0 panic=-1", "--no-reboot", timeout=120)
    assert r.returncode == 0
    assert "Kernel panic" in r.stdout
