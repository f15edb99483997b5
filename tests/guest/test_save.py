"""Saving and restoring: in the middle of disk and network I/O, to other disks and networks, and what is refused."""
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
import urllib.request
import zlib
from pathlib import Path

import pytest

import programs
import tiny
from conftest import SLOW, Vm, need_kvm, run_cli, warnings
from hostweb import HostWeb
from test_firmware import SEABIOS, seabios
from test_virtio import MIB, free_port, sha256, sparse, until


def save(vm, path, *options):
    r = run_cli("save", *options, vm.name, str(path), timeout=120)
    assert r.returncode == 0 and r.stderr == "", r.stderr


def save_and_end(vm, path):
    save(vm, path)
    assert vm.wait() == 0


def restored(vms, path, *options):
    return vms([str(path), *options], command="restore")


# --- in the middle of a write storm ---

PASSES, WRITERS, PIECE = 12, 3, 2

# Writers in parallel to parts of vdb, each piece with a flush; the parts are read back from the disk at the end.
STORM = f"""for w in $(seq 0 {WRITERS - 1}); do
    (p=0; while [ $p -lt {PASSES} ]; do
        dd if=/tmp/src of=/dev/vdb bs=64k seek=$(((w * {PASSES} + p) * {PIECE} * 16)) conv=fsync 2>/dev/null || echo FAILED
        p=$((p + 1)); echo pass-$w-$p
    done) &
done; wait
sync; echo 3 > /proc/sys/vm/drop_caches; sha256sum /dev/vdb; echo STORM-DONE
"""


@pytest.mark.parametrize("bus,cpus", [
    ("pci", 2),
    ("mmio", 1),
    pytest.param("pci", 1, marks=pytest.mark.slow),
    pytest.param("mmio", 2, marks=pytest.mark.slow),
])
def test_in_a_write_storm(busybox, vms, tmp_path, monkeypatch, bus, cpus):
    monkeypatch.setenv("LD_PRELOAD", programs.build(programs.SLOWDISK, tmp_path / "slowdisk.so", "-shared", "-fPIC"))
    monkeypatch.setenv("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0")
    root, data = busybox.disk(), sparse(tmp_path / "data.img", PASSES * WRITERS * PIECE * MIB)
    pattern = os.urandom(PIECE * MIB)
    (tmp_path / "src").write_bytes(pattern)
    (tmp_path / "storm").write_text(STORM)
    web = HostWeb(tmp_path)
    vm = vms([*busybox.args(), "--cpus", str(cpus), "--disk", f"{root},bus={bus}", "--disk", f"{data},aio=threads,bus={bus}",
              "--net", f"user,bus={bus}"]).boot()
    vm.sh(f"wget -qO /tmp/src {web.url}/src; wget -qO /tmp/storm {web.url}/storm")
    web.close()
    vm.child.sendline("sh /tmp/storm")
    seen = ""
    for n in (1, 2, 3):
        vm.child.expect(rf"pass-\d-{3 * n}\b")
        seen += vm.child.before
        state = tmp_path / "state"
        save_and_end(vm, state)
        seen += vm.child.before
        assert "STORM-DONE" not in seen, "saved too late to be in the middle"
        options = []
        if n == 2:
            # From another place.
            moved = str(tmp_path / "moved.img")
            os.rename(data, moved)
            data = moved
            options = ["--set", f"disk1.path={moved}", "--set", "disk1.aio=threads"]
        vm = restored(vms, state, *options)
    vm.child.expect("STORM-DONE", timeout=180)
    seen += vm.child.before
    assert "FAILED" not in seen
    want = sha256(pattern * PASSES * WRITERS)
    assert want in vm.child.before
    vm.boot()
    assert vm.sh("nproc") == str(cpus)
    assert warnings(vm) == ""
    vm.child.sendline("poweroff")
    assert vm.wait() == 0
    with open(data, "rb") as f:
        assert sha256(f.read()) == want
    assert subprocess.run(["e2fsck", "-fn", root], capture_output=True).returncode == 0


# --- in the middle of a download ---


@pytest.mark.parametrize("bus", ["pci", pytest.param("mmio", marks=pytest.mark.slow)])
def test_in_a_download_and_with_another_network(busybox, vms, tmp_path, bus):
    blob = os.urandom(8 * MIB)
    (tmp_path / "blob").write_bytes(blob)
    web = HostWeb(tmp_path, pause=0.03)
    old, new = free_port(), free_port()
    vm = vms([*busybox.args(), "--disk", f"{busybox.disk()},bus={bus}", "--net",
              f"user,hostfwd=tcp::{old}-:80,bus={bus}"]).boot()
    vm.sh("mkdir /tmp/www; echo from the guest > /tmp/www/f; httpd -p 80 -h /tmp/www")
    assert urllib.request.urlopen(f"http://127.0.0.1:{old}/f", timeout=30 * SLOW).read() == b"from the guest\n"
    vm.child.sendline(f"until timeout 15 wget -qO /tmp/blob {web.url}/blob; do echo AG''AIN; sleep 1; done; "
                      "sha256sum /tmp/blob; echo DO''NE")
    until(lambda: web.sent > 2 * MIB)
    save_and_end(vm, tmp_path / "state")
    assert web.sent < 6 * MIB and "DONE" not in vm.child.before
    web.server.pause = 0
    vm = restored(vms, tmp_path / "state", "--net", f"user,hostfwd=tcp::{new}-:80")
    # TCP connections ended with the process: the guest waits in vain and makes a new one.
    vm.child.expect("AGAIN", timeout=60)
    vm.child.expect("DONE", timeout=60)
    assert sha256(blob) in vm.child.before
    assert urllib.request.urlopen(f"http://127.0.0.1:{new}/f", timeout=30 * SLOW).read() == b"from the guest\n"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", old), timeout=5)
    vm.boot()
    assert vm.sh("udhcpc -q -n -i eth0 -s /etc/udhcpc.script >/dev/null 2>&1; echo $?") == "0"
    web.close()


# --- the other devices ---


@pytest.mark.parametrize("bus", ["pci", "mmio"])
def test_all_devices_go_on(busybox, vms, tmp_path, bus):
    out = tmp_path / "console.out"
    vm = vms([*busybox.args(), "--cpus", "2", "--disk", f"{busybox.disk()},bus={bus}", "--serial", "stdio",
              "--console", f"file:{out}", "--set", f"console0.bus={bus}", "--set", f"rng.bus={bus}",
              "--set", "balloon=on", "--set", f"balloon.bus={bus}"]).boot()
    q = vm.qmp()
    q.execute("balloon", value=400 * MIB)
    until(lambda: q.execute("query-balloon")["actual"] == 400 * MIB)
    vm.sh("(stty raw; echo before) < /dev/hvc0 > /dev/hvc0")
    until(lambda: out.read_bytes() == b"before\n")
    vm.sh("date -s 2001-02-03; dd if=/dev/hwrng of=/tmp/r1 bs=512 count=1 2>/dev/null")
    save_and_end(vm, tmp_path / "state")
    vm = restored(vms, tmp_path / "state")
    vm.child.sendline("")
    vm.boot()
    q = vm.qmp()
    assert q.execute("query-balloon")["actual"] == 400 * MIB
    q.execute("balloon", value=512 * MIB)
    until(lambda: q.execute("query-balloon")["actual"] == 512 * MIB)
    vm.sh("(stty raw; echo after) < /dev/hvc0 > /dev/hvc0")
    until(lambda: out.read_bytes() == b"after\n")
    assert vm.sh("dd if=/dev/hwrng of=/tmp/r2 bs=512 count=1 2>/dev/null; wc -c < /tmp/r2") == "512"
    assert vm.sh("cmp -s /tmp/r1 /tmp/r2; echo $?") == "1"
    assert warnings(vm) == ""


def test_save_keeps_running_on_request(busybox, vms, tmp_path):
    vm = vms([*busybox.args(), "--disk", busybox.disk()]).boot()
    save(vm, tmp_path / "s", "--keep")
    assert vm.sh("echo on") == "on"


# --- from one engine to the other ---


def wrmsr(msr, low):
    return b"\xb9" + struct.pack("<I", msr) + b"\xb8" + struct.pack("<I", low) + b"\x31\xd2\x0f\x30"


AT_THE_LOCAL_APIC = {
    # mov dword [0xfee000f0], 0x1ff; mov dword [0xfee00300], 0x44003: an IPI to itself
    "vector 3": b"\xc7\x05\xf0\x00\xe0\xfe\xff\x01\x00\x00\xc7\x05\x00\x03\xe0\xfe\x03\x40\x04\x00",
    "off": wrmsr(0x1b, 0xfee00000),
    "not the boot processor": wrmsr(0x1b, 0xfee00800),
}


def goes_on_counting(vm, vms, tmp_path, engines):
    """tiny.COUNT, which is moved to each of these engines in turn."""
    for n, engine in enumerate(engines):
        vm.child.send("x")
        vm.child.expect_exact(str(n))
        save_and_end(vm, tmp_path / "state")
        vm = restored(vms, tmp_path / "state", "--engine", engine)
    vm.child.send("x")
    vm.child.expect_exact(str(len(engines)))


@pytest.mark.parametrize("code", AT_THE_LOCAL_APIC.values(), ids=AT_THE_LOCAL_APIC.keys())
def test_what_a_guest_does_to_kvms_local_apic_can_be_restored(vms, tmp_path, code):
    need_kvm()
    vm = vms(["--kernel", tiny.kernel(tmp_path, code + tiny.COUNT), "--memory", "16M", "--engine", "kvm"])
    goes_on_counting(vm, vms, tmp_path, ["kvm", "interp"])


def test_it_goes_from_engine_to_engine(vms, tmp_path):
    """It begins where less is to be had: a KVM may lack features that the interpreter has, and a way to scale the TSC."""
    need_kvm()
    vm = vms(["--kernel", tiny.kernel(tmp_path, tiny.COUNT), "--memory", "16M", "--engine", "kvm"])
    goes_on_counting(vm, vms, tmp_path, ["interp", "kvm", "interp"])


def test_a_place_of_the_local_apics_is_no_demand_of_a_saved_machine(vms, tmp_path):
    """Every engine can have them in user space; a software engine has no other place."""
    need_kvm()
    kernel = tiny.kernel(tmp_path, tiny.COUNT)
    vm = vms(["--kernel", kernel, "--memory", "16M", "--engine", "kvm", "--set", "irqchip=split"])
    goes_on_counting(vm, vms, tmp_path, ["interp", "kvm", "kvm", "interp"])
    # Whoever asks for it now is told.
    r = run_cli("restore", str(tmp_path / "state"), "--engine", "interp", "--set", "irqchip=split")
    assert (r.returncode, r.stderr) == (1, "vireo: irqchip: 'split' is not where engine interp can have local APICs\n")


def store(address, value):
    return b"\xc7\x05" + struct.pack("<II", address, value)  # mov dword [ADDRESS], VALUE


# The second processor prints 'A' (mov dx, 3f8h; mov al, 'A'; out dx, al; hlt; jmp to it), once it has got an INIT and,
# after 's' was received, a SIPI. What is received is sent back.
STARTS_ANOTHER = (store(0x8000, 0xb003f8ba) + store(0x8004, 0xebf4ee41) + store(0x8008, 0xfd) +
                  store(0xfee000f0, 0x1ff) + store(0xfee00310, 1 << 24) + store(0xfee00300, 0x4500) +
                  b"\x66\xba\xf8\x03\xb0\x3e\xee"        # mov dx, 3f8h; mov al, '>'; out dx, al
                  b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xf7"  # again: mov dx, 3fdh; in al, dx; test al, 1; jz again
                  b"\x66\xba\xf8\x03\xec\xee\x3c\x73\x75\xed"  # mov dx, 3f8h; in al, dx; out dx, al; cmp al, 's'; jne again
                  + store(0xfee00300, 0x4608) + tiny.HALT)


@pytest.mark.parametrize("ways", [["kvm"], ["interp"], ["interp", "kvm"]], ids="-".join)
def test_a_processor_between_init_and_sipi_is_started(vms, tmp_path, ways):
    need_kvm()
    vm = vms(["--kernel", tiny.kernel(tmp_path, STARTS_ANOTHER), "--memory", "16M", "--engine", "kvm", "--cpus", "2"])
    vm.child.expect_exact(">")
    for engine in ways:
        save_and_end(vm, tmp_path / "state")
        vm = restored(vms, tmp_path / "state", "--engine", engine)
        vm.child.send("x")
        vm.child.expect_exact("x")
    vm.child.send("s")
    vm.child.expect_exact("sA")


def cr4(bits):
    return b"\x0f\x20\xe0\x0d" + struct.pack("<I", bits) + b"\x0f\x22\xe0"  # mov eax, cr4; or eax, BITS; mov cr4, eax


def test_control_bits_that_the_model_lacks_do_not_stay(vms, tmp_path):
    """CR4.PCE and CR4.DE, which any KVM lets a guest set."""
    need_kvm()
    vm = vms(["--kernel", tiny.kernel(tmp_path, cr4(0x108) + tiny.COUNT), "--memory", "16M", "--engine", "kvm",
              "--cpu", "max,-de"])
    goes_on_counting(vm, vms, tmp_path, ["kvm", "interp"])


def test_a_cpu_that_could_not_be_restored_is_not_saved(vms, tmp_path):
    """CR4.PSE says how pages are walked: the machine runs on."""
    need_kvm()
    vm = vms(["--kernel", tiny.kernel(tmp_path, cr4(0x10) + tiny.COUNT), "--memory", "16M", "--engine", "kvm",
              "--cpu", "max,-pse"])
    vm.child.send("x")
    vm.child.expect_exact("0")
    r = run_cli("save", vm.name, str(tmp_path / "state"), timeout=120)
    assert r.returncode == 1 and r.stderr == (
        f"vireo: {vm.name}: CPU 0 cannot be saved as it is: CR4 is 0x10, of which the CPU model lacks 0x10\n"), r.stderr
    assert not (tmp_path / "state").exists()
    vm.child.send("x")
    vm.child.expect_exact("1")


# --- what is refused ---


class State:
    """A saved state as bytes, to be changed by one who knows how to make its checksums right (docs/state.md)."""

    def __init__(self, path):
        self.data = bytearray(path.read_bytes())
        self.program = 12
        program_len, = struct.unpack_from("<I", self.data, self.program)
        self.config = self.program + 4 + program_len
        self.config_len, = struct.unpack_from("<I", self.data, self.config)

    def replace(self, old, new):
        """The last: sections are behind the memory, where anything may be. The configuration is before it."""
        assert len(old) == len(new)
        head = self.data.find(old, self.config, self.config + self.config_len)
        return self.put(head if head >= 0 else self.data.rindex(old), new)

    def put(self, at, value):
        self.data[at:at + len(value)] = value
        return self

    def field(self, section, name):
        """Where the value of a scalar field is."""
        at = self.data.rindex(bytes([len(section)]) + section)
        return self.data.index(bytes([len(name)]) + name, at) + 1 + len(name) + 5

    def sealed(self):
        text = self.config + 4
        self.put(text + self.config_len, struct.pack("<I", zlib.crc32(self.data[text:text + self.config_len])))
        return bytes(self.data[:-4]) + struct.pack("<I", zlib.crc32(self.data[:-4]))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A machine that was saved before its first instruction: its state and its disk."""
    tmp = tmp_path_factory.mktemp("small")
    disk = sparse(tmp / "disk.img", MIB)
    vm = Vm(["--kernel", tiny.kernel(tmp, tiny.ECHO), "--memory", "16M", "--cpu", "max,+smap",
             "--disk", f"{disk},format=raw", "--net", "user", "--paused"])
    until(lambda: run_cli("save", vm.name, str(tmp / "state")).returncode == 0)
    vm.wait()
    return tmp / "state", tmp / "disk.img"


CHANGES = {
    "format": (lambda s: s.put(8, struct.pack("<I", 7)), "saved in format 7 by vireo"),
    "machine": (lambda s: s.replace(b"machine = pc-1.0", b"machine = pc-7.0"), "pc-7.0"),
    "cpu model": (lambda s: s.replace(b"max,+smap", b"max,-smap"), "the saved CPU has smap, which this engine does not give here"),
    "unknown cpu": (lambda s: s.replace(b"max,+smap", b"max,+smax"), "smax"),
    "memory": (lambda s: s.replace(b"memory = 16M", b"memory = 17M"), "memory: the saved state has 16777216 bytes"),
    "unknown key": (lambda s: s.replace(b"net0.backend", b"net0.backens"), "net0.backens"),
    "unknown device": (lambda s: s.replace(b"\x0avirtio-rng", b"\x0avirtio-gun"), "virtio-gun"),
    "other instance": (lambda s: s.replace(b"\x0avirtio-rng\x07", b"\x0avirtio-rng\x06"), "virtio-rng"),
    "version of a device": (lambda s: s.put(s.data.rindex(b"\x07pit8254\x010") + 10, struct.pack("<H", 99)), "pit8254"),
    "missing field": (lambda s: s.replace(b"\x05index", b"\x05indey"), "inde"),
    "value out of range": (lambda s: s.put(s.field(b"virtio-blk", b"status"), b"\xff"), "virtio-blk"),
    "cut": (lambda s: setattr(s, "data", s.data[:-100]) or s, "ends too early"),
    "more": (lambda s: setattr(s, "data", s.data[:-4] + b"x" * 20) or s, "something follows"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_changed_states_are_refused(small, tmp_path, what):
    state, disk = small
    change, says = CHANGES[what]
    path = tmp_path / "changed"
    path.write_bytes(change(State(state)).sealed())
    before = path.read_bytes(), disk.read_bytes(), os.stat(disk).st_mtime_ns
    r = run_cli("restore", str(path))
    assert r.returncode == 1, r.stdout + r.stderr
    lines = r.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("vireo: ") and says in lines[0], r.stderr
    assert (path.read_bytes(), disk.read_bytes(), os.stat(disk).st_mtime_ns) == before


def test_the_changes_alone_are_why(small, vms, tmp_path):
    """What is sealed without a change is good: the refusals above are none of the seal."""
    path = tmp_path / "same"
    path.write_bytes(State(small[0]).sealed())
    vm = restored(vms, path, "--set", "paused=off")
    vm.child.expect_exact(">")


def test_a_disk_that_has_changed_is_taken_on_request(small, vms, tmp_path):
    """A copy with its time is the same disk, without a word."""
    state, disk = small
    same, other = shutil.copy2(disk, tmp_path / "same"), shutil.copy(disk, tmp_path / "other")
    os.utime(other, ns=(1, 1))
    for n, wish in enumerate((f"{same},format=raw", f"{other},format=raw,changed=accept")):
        vm = restored(vms, state, "--set", "paused=off", "--disk", wish)
        vm.child.expect_exact(">")
        if n:
            # It was said of this one run.
            save_and_end(vm, tmp_path / "again")
            os.utime(other, ns=(2, 2))
            r = run_cli("restore", str(tmp_path / "again"))
            assert r.returncode == 1 and "other was written after" in r.stderr, r.stderr


def test_it_goes_on_in_the_background(small, tmp_path):
    """With what belongs to one run of the program, as `vireo run` has it."""
    pidfile = tmp_path / "pid"
    r = run_cli("restore", str(small[0]), "--daemonize", "--pidfile", str(pidfile), "--log", str(tmp_path / "log"), "--set", "paused=off")
    assert (r.returncode, r.stderr) == (0, "")
    pid = int(pidfile.read_text())
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGTERM)
    until(lambda: not pidfile.exists())


@pytest.mark.parametrize("options,says", [
    (["--set", "disk0.bus=mmio"], "disk0.bus"),
    (["--disk", "OTHER,bus=mmio"], "disk0.bus"),
    (["--net", "user,bus=mmio"], "net0.bus"),
    (["--net", "user,mac=52:54:00:00:00:01"], "net0.mac"),
    (["--disk", "SHORT"], "has 1024 sectors, but had 2048"),
    (["--disk", "OTHER"], "other was written after the state was saved, or is a copy with another time; with disk0.changed=acc"),
    (["--disk", "OTHER,changed=yes"], "disk0.changed"),
    (["--disk", "/no/such/disk"], "/no/such/disk: no such file"),
    (["--set", "memory=128M"], "memory: '128M' is not what the saved machine has ('16M')"),
    (["--set", "cpus=2"], "cpus"),
    (["--set", "balloon=on"], "balloon"),
    (["--set", "disk1.path=OTHER"], "disk1: the saved machine has no such device, and a restore cannot change that"),
    (["--set", "cdrom0.path=OTHER"], "cdrom0: the saved machine has no such device"),
    (["--net", "user", "--net", "user"], "net1: the saved machine has no such device"),
    (["--net", "none"], "net0: the saved machine has this device, and a restore cannot change that"),
    (["--serial", "null", "--serial", "null"], "serial1: the saved machine has no such device"),
    (["--serial", "none"], "serial0: the saved machine has this device"),
    (["--console", "null"], "console0: the saved machine has no such device"),
    (["--set", "agent=socket"], "console0: the saved machine has no such device"),
    (["--set", "debugcon=null"], "debugcon: the saved machine has no such device"),
    (["--engine", "steam"], "steam"),
    (["--set", "firmware=bios"], "firmware: 'bios' would change the saved machine, which was made without it"),
    (["--set", "firmware=/dev/null"], "firmware: '/dev/null' would change the saved machine"),
])
def test_wishes_that_cannot_be_granted(small, tmp_path, options, says):
    state, _ = small
    sparse(tmp_path / "other", MIB)
    sparse(tmp_path / "short", MIB // 2)
    options = [o.replace("OTHER", str(tmp_path / "other")).replace("SHORT", str(tmp_path / "short")) for o in options]
    r = run_cli("restore", str(state), *options)
    assert r.returncode == 1, r.stdout + r.stderr
    lines = r.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("vireo: ") and says in lines[0], r.stderr


@seabios
@pytest.mark.parametrize("wish,says", [
    ("kernel=KERNEL", "kernel: 'KERNEL' would change the saved machine, which was made without it"),
    ("firmware=uefi", "firmware: 'uefi' is not what the saved machine has ('bios')"),
    ("firmware=COPY", None),
    ("cpu.model=max", None),
    ("cpu.model=qemu64", "cpu.model: 'qemu64' is not what the saved machine has ('maxWIDTH')"),
])
def test_a_machine_keeps_what_it_begins_with(vms, tmp_path, wish, says):
    """A copy of the firmware does as well, and the user's own word for the CPU, to which firmware's width was added."""
    vm = vms(["--firmware", "bios", "--cpu", "max", "--memory", "16M", "--paused"])
    until(lambda: run_cli("save", vm.name, str(tmp_path / "state")).returncode == 0)
    vm.wait()
    copy = shutil.copy(SEABIOS, tmp_path / "rom")
    bits = re.search(r"address sizes\s*: (\d+) bits physical", Path("/proc/cpuinfo").read_text())
    words = {"KERNEL": tiny.kernel(tmp_path, tiny.ECHO), "COPY": str(copy),
             "WIDTH": ",phys-bits=40" if int(bits[1]) > 40 else ""}
    for word, path in words.items():
        wish, says = wish.replace(word, path), says and says.replace(word, path)
    if not says:
        vm = restored(vms, tmp_path / "state", "--set", wish)
        vm.child.expect("waits")
        return
    r = run_cli("restore", str(tmp_path / "state"), "--set", wish)
    assert (r.returncode, r.stderr) == (1, f"vireo: {says}\n")
