"""The e1000 under the driver of Debian's generic kernel; iPXE's drives it in test_firmware.py."""
import hashlib
import os
import urllib.request

import pytest

import programs
from conftest import SLOW, Guest, guest_files, run_cli
from hostweb import HostWeb
from test_save import free_port, restored, save_and_end
from test_virtio import until

MIB = 1 << 20


@pytest.fixture
def generic(tmp_path):
    return Guest(guest_files("generic"), str(tmp_path))


@pytest.mark.parametrize("engine", [pytest.param("interp", marks=pytest.mark.slow), "jit"])
def test_linux_drives_it(generic, vms, tmp_path, engine):
    blob = os.urandom(4 * MIB)
    (tmp_path / "blob").write_bytes(blob)
    want = hashlib.sha256(blob).hexdigest()
    web, port = HostWeb(tmp_path), free_port()
    vm = vms([*generic.args("quiet root=/dev/vda"), "--engine", engine, "--disk", generic.disk(), "--net",
              f"user,model=e1000,hostfwd=tcp::{port}-:80"]).boot()
    assert vm.sh("readlink /sys/class/net/eth0/device/driver").endswith("/e1000")
    assert vm.sh("cat /sys/class/net/eth0/address /sys/class/net/eth0/speed").split() == ["52:54:00:12:34:56", "1000"]
    assert "10.0.2.15" in vm.sh("ip addr show eth0")
    # In, and out in segments that the card cuts.
    assert want in vm.sh(f"wget -qO /tmp/blob {web.url}/blob; sha256sum /tmp/blob")
    vm.sh("mkdir /tmp/www; mv /tmp/blob /tmp/www; httpd -p 80 -h /tmp/www")

    def sent():
        return [int(n) for n in vm.sh("(cd /sys/class/net/eth0/statistics; cat tx_packets tx_bytes)").split()]

    before = sent()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/blob", timeout=60 * SLOW) as r:
        assert hashlib.sha256(r.read()).hexdigest() == want
    packets, octets = (now - then for now, then in zip(sent(), before))
    # The driver counts what the card makes of a large packet: the wire's.
    assert octets > 4 * MIB and packets >= 4 * MIB / 1460, (packets, octets)
    # Each thousand frames take far fewer interrupts than that.
    interrupts = int(vm.sh("awk '/eth0/ { print $2 }' /proc/interrupts"))
    received = int(vm.sh("cat /sys/class/net/eth0/statistics/rx_packets"))
    assert interrupts < (received + packets) / 2
    assert vm.sh("(cd /sys/class/net/eth0/statistics; cat rx_errors tx_errors rx_crc_errors rx_missed_errors)").split() == ["0"] * 4
    assert vm.sh("dmesg | grep -iE 'eth0: .*(hang|timeout|reset)|nobody cared'") == ""
    vm.child.sendline("poweroff")
    assert vm.wait() == 0
    web.close()


@pytest.mark.slow
def test_saved_in_a_download(generic, vms, tmp_path):
    blob = os.urandom(8 * MIB)
    (tmp_path / "blob").write_bytes(blob)
    web, port = HostWeb(tmp_path, pause=0.03), free_port()
    vm = vms([*generic.args("quiet root=/dev/vda"), "--disk", generic.disk(), "--net", "user,model=e1000"]).boot()
    vm.child.sendline(f"until timeout 15 wget -qO /tmp/blob {web.url}/blob; do echo AG''AIN; sleep 1; done; "
                      "sha256sum /tmp/blob; echo DO''NE")
    until(lambda: web.sent > 2 * MIB)
    save_and_end(vm, tmp_path / "state")
    web.server.pause = 0
    vm = restored(vms, tmp_path / "state", "--net", f"user,hostfwd=tcp::{port}-:80")
    vm.child.expect("DONE", timeout=60 * SLOW)
    assert hashlib.sha256(blob).hexdigest() in vm.child.before
    vm.boot()
    vm.sh("mkdir /tmp/www; mv /tmp/blob /tmp/www; httpd -p 80 -h /tmp/www")
    assert urllib.request.urlopen(f"http://127.0.0.1:{port}/blob", timeout=30 * SLOW).read() == blob
    web.close()


def test_its_own_test(generic, vms, tmp_path):
    """What `ethtool -t eth0 offline` asks of the driver: registers, EEPROM, interrupts, loopback and the link."""
    programs.build(programs.SELFTEST, tmp_path / "selftest", "-static")
    web = HostWeb(tmp_path)
    vm = vms([*generic.args("quiet root=/dev/vda"), "--disk", generic.disk(), "--net", "user,model=e1000"]).boot()
    vm.sh(f"wget -qO /tmp/selftest {web.url}/selftest && chmod +x /tmp/selftest")
    text = vm.sh("/tmp/selftest eth0")
    results = dict(line.split(": ") for line in text.splitlines() if "line)" in line)
    assert len(results) == 5 and set(results.values()) == {"0"} and vm.status == 0, text + vm.sh("dmesg | grep e1000")
    # And it goes on as a card.
    vm.sh("until grep -q 1 /sys/class/net/eth0/carrier; do sleep 0.1; done")
    vm.sh(f"wget -qO /tmp/again {web.url}/selftest && cmp /tmp/again /tmp/selftest")
    assert vm.status == 0
    web.close()


def test_errors():
    for net, text in (("user,model=rtl8139", "is not one of virtio, e1000"), ("user,model=e1000,bus=mmio", "is not one of pci"),
                      ("user,model=e1000,addr=1", "taken")):
        r = run_cli("run", "--net", net, "--kernel", "/nonexistent")
        assert r.returncode == 1 and text in r.stderr and r.stderr.count("\n") == 1, r.stderr
