"""The 8042 with a PS/2 keyboard and mouse under Linux, SeaBIOS and GRUB; keys come by QMP's send-key."""
import os
import re
import struct

import pytest

from conftest import Guest, Qmp, guest_files
from test_firmware import seabios
from test_ide import GRUB


def send(qmp, *names):
    qmp.execute("send-key", keys=[{"type": "qcode", "data": n} for n in names])


def test_linux_reads_keys(tmp_path, vms):
    guest = Guest(guest_files("generic"), str(tmp_path))
    vm = vms([*guest.args("quiet reboot=k"), "--device", "i8042", "--no-reboot"]).boot()
    # The mouse is asked what it is after the keyboard, while the guest goes on.
    devices = vm.sh("for i in $(seq 100); do grep -q PS/2 /proc/bus/input/devices && break; sleep 0.1; done; "
                    "cat /proc/bus/input/devices")
    assert "AT Translated Set 2 keyboard" in devices and "ImExPS/2" in devices, devices
    assert vm.sh("dmesg | grep -iE 'i8042.*(fail|error|no |timeout)|atkbd.*unknown|psmouse.*lost'") == ""
    event = re.search(r"AT Translated Set 2 keyboard(?:.|\n)*?\b(event\d+)", devices)[1]
    # The shell itself opens the device, so that it is open before the first key comes.
    vm.sh(f"exec 3</dev/input/{event}; cat <&3 >/keys & true")
    qmp = vm.qmp()
    send(qmp, "ctrl", "right", "a")
    # A scan code, a key and an end for each of six: 18 events of 24 bytes.
    vm.sh("for i in $(seq 100); do [ $(stat -c %s /keys) -ge 432 ] && break; sleep 0.1; done; kill $!")
    # struct input_event of a 64-bit machine: 16 bytes of time, type 1 (EV_KEY), code, value.
    raw = bytes.fromhex(vm.sh("hexdump -v -e '24/1 \"%02x\" \"\\n\"' /keys"))
    keys = [e[1:] for e in struct.iter_unpack("<16xHHi", raw) if e[0] == 1]
    assert keys == [(29, 1), (106, 1), (30, 1), (30, 0), (106, 0), (29, 0)]
    for bad in ([], [{"type": "qcode", "data": "nokey"}], [{"type": "number", "data": 999}], [7], [{}] * 9):
        assert "error" in qmp.ask("send-key", keys=bad)
    # By the reset line of the controller.
    vm.child.sendline("reboot -f")
    vm.wait()


def test_without_a_keyboard(busybox, vms):
    vm = vms([*busybox.args("quiet")]).boot()
    assert "No keyboard" in vm.qmp().ask("send-key", keys=[{"type": "qcode", "data": "a"}])["error"]["desc"]


@seabios
@pytest.mark.skipif(not os.path.exists(GRUB), reason="the package grub-rescue-pc is not installed")
def test_grub_reads_keys(vms):
    vm = vms(["--firmware", "bios", "--cdrom", GRUB, "--device", "i8042"], prompt="grub> ")
    vm.child.expect("GNU GRUB")
    qmp = Qmp(vm.name)
    send(qmp, "c")
    vm.child.expect("grub> ")
    for key in ("e", "c", "h", "o", "spc"):
        send(qmp, key)
    send(qmp, "shift", "h")
    send(qmp, "i")
    send(qmp, "ret")
    vm.child.expect(r"Hi\b")
    vm.child.expect("grub> ")
