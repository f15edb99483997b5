"""pvpanic and the 6300ESB's watchdog under the generic kernel."""
import os
import subprocess
import time

import pytest

import tiny
from conftest import SLOW, VIREO, Guest, Qmp, guest_files, run_cli, run_file


@pytest.fixture
def generic(tmp_path):
    return Guest(guest_files("generic"), str(tmp_path))


def test_a_panic_ends_the_machine(generic, vms):
    vm = vms([*generic.args("quiet panic=60"), "--device", "pvpanic"]).boot()
    qmp = vm.qmp()
    vm.child.sendline("echo c >/proc/sysrq-trigger")
    assert qmp.event("GUEST_PANICKED")["data"] == {"action": "poweroff"}
    assert qmp.event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-panic"}
    assert vm.wait() == 2


def test_a_panic_pauses_the_machine(generic, vms):
    vm = vms([*generic.args("quiet panic=60"), "--device", "pvpanic,action=pause"]).boot()
    qmp = vm.qmp()
    vm.child.sendline("echo c >/proc/sysrq-trigger")
    assert qmp.event("GUEST_PANICKED")["data"] == {"action": "pause"}
    assert qmp.execute("query-status")["status"] == "guest-panicked"


def test_a_hung_guest_is_reset(generic, vms):
    vm = vms([*generic.args("quiet"), "--device", "i6300esb", "--no-reboot"]).boot()
    qmp = vm.qmp()
    assert vm.sh("cat /sys/class/watchdog/watchdog0/identity") == "i6300ESB timer"
    # Fed for longer than it takes, and then no more.
    vm.sh("watchdog -T 4 -t 1 -F /dev/watchdog & sleep 8")
    assert not any(e["event"] == "WATCHDOG" for e in qmp.events)
    vm.sh("kill -KILL $!")
    assert qmp.event("WATCHDOG")["data"] == {"action": "reset"}
    assert vm.wait() == 2


@pytest.mark.parametrize("action,value", [("shutdown", 2), ("none", 1)])
def test_a_guest_that_panics_all_the_time(tmp_path, action, value):
    # mov dx, 505h; mov al, VALUE; again: out dx, al; jmp again
    code = b"\x66\xba\x05\x05\xb0" + bytes([value]) + b"\xee\xeb\xfd"
    name = f"p{os.getpid()}"
    # Nobody reads what it says.
    vm = subprocess.Popen([VIREO, "run", "--name", name, "--memory", "16", "--kernel", tiny.kernel(tmp_path, code), "--device",
                           f"pvpanic,action={action}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 30 * SLOW
        while not run_file(name, "qmp.sock").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(1)
        qmp = Qmp(name)
        assert qmp.execute("query-status")["status"] == "running"
        vm.terminate()
        said = vm.communicate(timeout=30 * SLOW)[1]
        assert b"panic" in said and said.count(b"\n") < 12, said[:2000]
    finally:
        vm.kill()


def test_a_panic_may_be_a_failure(tmp_path):
    code = b"\x66\xba\x05\x05\xb0\x01\xee\xeb\xfe"
    args = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-kernel", tiny.kernel(tmp_path, code), "-device", "pvpanic"]
    assert run_cli(*args).returncode == 0
    assert run_cli(*args, "-action", "panic=exit-failure").returncode == 1


@pytest.mark.slow
def test_a_hung_guest_gets_an_nmi(generic, vms):
    vm = vms([*generic.args("console=ttyS0"), "--device", "i6300esb,action=inject-nmi"]).boot()
    qmp = vm.qmp()
    vm.sh("watchdog -T 2 -t 1 -F /dev/watchdog & sleep 2; kill -KILL $!")
    assert qmp.event("WATCHDOG")["data"] == {"action": "inject-nmi"}
    vm.child.expect("NMI received")


def test_errors():
    for device, text in (("pvpanic,action=reboot", "is not one of pause, shutdown, none"), ("i6300esb,addr=0", "i6300esb.addr"),
                         ("pvpanic,ioport=0x60,", "pvpanic"), ("i6300esb,addr=1", "taken")):
        r = run_cli("run", "--device", device, "--device", "i8042", "--kernel", "/nonexistent")
        assert r.returncode == 1 and text in r.stderr and r.stderr.count("\n") == 1, r.stderr
