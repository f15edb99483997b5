"""The HPET under the generic kernel; Xen's driver is in test_media.py."""
import pytest

from conftest import Guest, guest_files, run_cli
from test_save import restored, save_and_end


@pytest.fixture
def generic(tmp_path):
    return Guest(guest_files("generic"), str(tmp_path))


def timer(vm):
    """What has come by interrupt 0 so far."""
    return sum(int(n) for n in vm.sh("awk '/timer$/ && $1 == \"0:\" { print $2, $3 }' /proc/interrupts").split() if n.isdigit())


@pytest.mark.parametrize("engine", [pytest.param("interp", marks=pytest.mark.slow), "jit"])
def test_clock_source_and_legacy_replacement(generic, vms, tmp_path, engine):
    # Without what Linux would rather have: kvmclock, an invariant TSC and the local APICs' timers.
    vm = vms([*generic.args("quiet clocksource=hpet nolapic_timer"), "--device", "hpet", "--engine", engine, "--cpu",
              "max,-kvmclock,-invtsc"]).boot()
    assert vm.sh("cat /sys/devices/system/clocksource/clocksource0/current_clocksource") == "hpet"
    assert "hpet" in vm.sh("dmesg | grep 'ACPI: HPET id: 0x8086a201 base: 0xfed00000'").lower()
    assert vm.sh("grep -A1 'Clock Event Device: hpet' /proc/timer_list").startswith("Clock Event Device: hpet")
    before = timer(vm)
    took = vm.sh("time sleep 2")
    assert "real\t0m 2.0" in took or "real\t0m 2.1" in took, took
    assert timer(vm) > before
    assert vm.sh("dmesg | grep -iE 'hpet.*(fail|lost|broken)|unstable'") == ""
    # A saved machine's time goes on.
    save_and_end(vm, tmp_path / "state")
    vm = restored(vms, tmp_path / "state")
    took = vm.sh("time sleep 1")
    assert "real\t0m 1.0" in took or "real\t0m 1.1" in took, took


def test_it_is_there_when_it_is_asked_for(generic, vms):
    vm = vms([*generic.args("quiet")]).boot()
    assert vm.sh("dmesg | grep -i 'ACPI: HPET'; grep -i hpet /proc/iomem") == ""


def test_timers_that_send_messages(generic, vms):
    vm = vms([*generic.args("quiet nolapic_timer"), "--device", "hpet,msi=on,timers=8", "--cpu",
              "max,-kvmclock,-invtsc,-arat,vendor=GenuineIntel"]).boot()
    assert "8 comparators" in vm.sh("dmesg | grep hpet0")
    assert vm.sh("grep -c -i 'hpet' /proc/interrupts") != "0"


def test_errors():
    for device, text in (("hpet,timers=2", "hpet.timers"), ("hpet,msi=maybe", "hpet.msi")):
        r = run_cli("run", "--device", device, "--kernel", "/nonexistent")
        assert r.returncode == 1 and text in r.stderr and r.stderr.count("\n") == 1, r.stderr
