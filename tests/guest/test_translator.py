"""The translator runs what the interpreter runs: kernels, programs, states that come from the other."""
import re

import pytest

import tiny
from conftest import run_cli
from test_boot import report
from test_save import restored, save_and_end

JIT = ["--engine", "jit"]


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_report_from_disk(busybox, cpus):
    got, _ = report(busybox, *JIT, "--cpus", str(cpus), "--disk", f"{busybox.image},readonly=on", "--net", "user")
    assert got["cpus"].startswith(f"{cpus} ")
    assert got["disk"] == "vda 64 MiB, root ext4"
    assert got["network"] == "eth0 10.0.2.15/24"


def test_most_of_a_boot_is_translated(busybox):
    _, r = report(busybox, *JIT, "--disk", f"{busybox.image},readonly=on", "--stats")
    assert int(re.search(r"cpu0\.translations +(\d+)", r.stderr).group(1)) > 10_000
    # The interpreter executes ten times as many.
    assert int(re.search(r"cpu0\.instructions +(\d+)", r.stderr).group(1)) < 100_000_000


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_cache_of_1_mib(busybox, cpus):
    """Everything is forgotten some hundred times in a boot."""
    got, _ = report(busybox, *JIT, "--jit-cache", "1M", "--cpus", str(cpus), "--disk", f"{busybox.image},readonly=on",
                    "--net", "user", timeout=240)
    assert got["cpus"].startswith(f"{cpus} ")
    assert got["network"] == "eth0 10.0.2.15/24"


@pytest.mark.parametrize("size,says", [
    ("1023K", "jit.cache: '1023K' is not between 1M and 1G"),
    ("1025M", "jit.cache: '1025M' is not between 1M and 1G"),
    ("much", "jit.cache: 'much' is not a size such as 512M or 2G"),
])
def test_sizes_of_the_cache(tmp_path, size, says):
    args = ["run", "--memory", "16", "--kernel", tiny.kernel(tmp_path, tiny.POWER_OFF), "--jit-cache", size]
    r = run_cli(*args, *JIT)
    assert (r.returncode, r.stderr) == (1, f"vireo: {says}\n")
    # It says nothing to an engine that has no such cache.
    assert run_cli(*args, "--engine", "interp").returncode == 0


@pytest.mark.parametrize("first,then", [("jit", "interp"), ("interp", "jit")])
def test_a_state_goes_from_one_to_the_other(busybox, vms, tmp_path, first, then):
    vm = vms([*busybox.args(), "--engine", first, "--cpus", "2", "--disk", busybox.disk()]).boot()
    vm.sh("seq 1 2000 | awk '{ s += $1 * 0.5 } END { print s }' > /tmp/before")
    save_and_end(vm, tmp_path / "state")
    vm = restored(vms, tmp_path / "state", "--engine", then)
    vm.child.sendline("")
    vm.boot()
    assert vm.sh("seq 1 2000 | awk '{ s += $1 * 0.5 } END { print s }' | cmp - /tmp/before; echo $?") == "0"
    assert vm.sh("dmesg -r | grep '^<[0-4]>'") == ""
