"""Bad input from the user: one clear line, status 1, nothing changed."""
import os
import platform
import re
import socket
import subprocess

import pytest

import tiny
from conftest import need_kvm, run_cli


def refused(*args):
    r = run_cli(*args)
    assert r.returncode == 1, r.stdout + r.stderr
    lines = r.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("vireo: "), r.stderr
    return lines[0]


def run_args(busybox, **kw):
    a = {"kernel": busybox.kernel, "initrd": busybox.initrd, **kw}
    return ["run", *(x for k, v in a.items() for x in (f"--{k}", v))]


@pytest.fixture
def good(tmp_path):
    """Arguments of a machine that powers off at once, if nothing is wrong with what is added."""
    return ["run", "--memory", "16", "--kernel", tiny.kernel(tmp_path, tiny.POWER_OFF)]


def test_more_than_there_is_room_for(good, tmp_path):
    disk = tmp_path / "d.img"
    disk.write_bytes(bytes(4096))
    many = [f"--disk={disk},format=raw,readonly=on"] * 17
    assert refused(*good, *many) == "vireo: disk16: a machine has 16 of them at most"


@pytest.mark.parametrize("first,second,says", [
    ("user", "user,mac=52:54:00:12:34:56", "net1.mac: net0 has this address already"),
    ("user,mac=2:0:0:0:0:1", "user,mac=02:00:00:00:00:01", "net1.mac: net0 has this address already"),
    ("user", "user,mac=0:0:0:0:0:0", "net1.mac: '0:0:0:0:0:0' is not a unicast MAC address (52:54:00:12:34:56)"),
    ("user", "user,mac=01:00:5e:00:00:01",
     "net1.mac: '01:00:5e:00:00:01' is not a unicast MAC address (52:54:00:12:34:56)"),
])
def test_addresses_of_network_cards(good, first, second, says):
    assert refused(*good, "--net", first, "--net", second) == f"vireo: {says}"


@pytest.mark.parametrize("option,most", [("serial", 2), ("console", 1)])
def test_ports_are_counted(good, option, most):
    assert refused(*good, *[f"--{option}", "null"] * (most + 1)) == f"vireo: {option}{most}: a machine has {most} of them at most"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="engines of x86-64 hosts")
@pytest.mark.parametrize("key,says", [
    ("jit.heat=banana", "jit.heat: 'banana' is not a number from 0 to 65535"),
    ("jit.haet=1", "unknown key 'jit.haet' (did you mean 'jit.heat'?)"),
    ("kvm.irqfd=perhaps", "kvm.irqfd: 'perhaps' is neither on nor off"),
    ("kvm.dirty_ring=1000", "kvm.dirty_ring: 1000 is not a power of two from 1024 to 65536, or 0 for the bitmap"),
])
def test_keys_of_engines_that_do_not_run(good, key, says):
    """What is wrong is wrong on all of them."""
    assert refused(*good, "--engine", "interp", "--set", key) == f"vireo: {says}"


def test_a_kernel_in_64_bit_mode_needs_lm(busybox):
    assert refused(*run_args(busybox, cpu="max,-lm")) == (
        f"vireo: cpu.model: {busybox.kernel} begins in 64-bit mode, which a CPU without lm does not have")


def test_kvm_is_named_by_what_it_lacks(good):
    """Without a place for local APICs it has no paravirtual EOI."""
    need_kvm()
    assert refused(*good, "--engine", "kvm", "--cpu", "max,+kvm-pv-eoi", "--set", "irqchip=user") == (
        "vireo: cpu.model: not available: kvm-pv-eoi, which engine kvm does not give here; -kvm-pv-eoi does without")


def test_physical_addresses_reach_the_memory(good):
    assert refused(*good, "--memory", "4G", "--cpu", "max,phys-bits=32", "--engine", "interp") == (
        "vireo: cpu.model: phys-bits '32' does not reach the end of the memory; 33 to 52 do")
    assert run_cli(*good, "--memory", "4G", "--cpu", "max,phys-bits=33").returncode == 0


def test_kvm_has_so_many_physical_addresses(good):
    need_kvm()
    with open("/proc/cpuinfo") as f:
        if ": 52 bits physical" in f.read():
            pytest.skip("this host's processor has all that there can be")
    m = re.fullmatch(r"vireo: cpu.model: phys-bits '52' is more than the (\d+) that this engine has here",
                     refused(*good, "--engine", "kvm", "--cpu", "max,phys-bits=52"))
    assert m and 32 <= int(m[1]) < 52
    assert run_cli(*good, "--engine", "kvm", "--cpu", f"max,phys-bits={m[1]}").returncode == 0


@pytest.mark.parametrize("option,value,says", [
    ("memory", "lots", "memory: 'lots' is not a size such as 512M or 2G"),
    ("memory", "4M", "memory: '4M' is not between 8M and 1T"),
    ("memory", "2T", "memory: '2T' is not between 8M and 1T"),
    ("memory", "9999999999G", "memory: '9999999999G' is not between 8M and 1T"),
    ("memory", "-1", "memory: '-1' is not a size such as 512M or 2G"),
    ("cpus", "0", "cpus: '0' is not a number from 1 to 64"),
    ("cpus", "1000", "cpus: '1000' is not a number from 1 to 64"),
    ("cpu", "pentium9", "cpu.model: 'pentium9' is not one of max, host, qemu64, kvm64, Opteron_G1, x86-64-v2, x86-64-v3, Nehalem, Westmere, SandyBridge, IvyBridge, Haswell-noTSX, Haswell, Broadwell-noTSX, Broadwell, Skylake-Server, EPYC"),
    ("cpu", "max,+warp", "cpu.model: unknown feature 'warp' ('vireo run --cpu help' lists them)"),
    ("cpu", "max,+ssse33", "cpu.model: unknown feature 'ssse33' (did you mean 'ssse3'?)"),
    ("cpu", "MAX", "cpu.model: 'MAX' is no CPU model (did you mean 'max'?)"),
    ("cpu", "haswell", "cpu.model: 'haswell' is no CPU model (did you mean 'Haswell'?)"),
    ("cpu", "qemu64,+avx2,+fma", "cpu.model: avx2 needs avx, fma needs avx, which qemu64 has not here"),
    ("cpu", "max,+svm", "cpu.model: not available: svm, which no engine of vireo has; -svm does without"),
    ("cpu", "max,phys-bits=+46", "cpu.model: phys-bits '+46' is not a number from 32 to 52"),
    ("engine", "KVM", "engine: 'KVM' is not one of those that `vireo engines` lists (did you mean 'kvm'?)"),
    ("engine", "interpr", "engine: 'interpr' is not one of those that `vireo engines` lists (did you mean 'interp'?)"),
    ("engine", "steam", "engine: 'steam' is not one of those that `vireo engines` lists"),
    ("clock", "sundial", "clock: 'sundial' is not one of host, icount"),
    ("clock", "icount,idle=often", "clock.idle: 'often' is not one of sleep, skip"),
    ("net", "carrier-pigeon", "net0.backend: 'carrier-pigeon' is not one of user, tap, socket, stream, dgram, passt, null, none, nor a network (see `vireo net list`)"),
    ("net", "user,hostfwd=tcp:nonsense", "net0.hostfwd: 'tcp:nonsense' is not [tcp|udp]:[ADDRESS]:PORT-[ADDRESS]:PORT"),
    ("net", "user,mac=1:2", "net0.mac: '1:2' is not a unicast MAC address (52:54:00:12:34:56)"),
    ("net", "user,colour=red", "unknown key 'net0.colour'"),
    ("serial", "wall", "serial0: 'wall' is not one of stdio, none, null, pty, socket, file:PATH, unix:PATH, tcp:[HOST:]PORT"),
    ("serial", "file:/no/such/file", "serial0: /no/such/file: No such file or directory"),
    ("name", "-x", "name: '-x' is not 1 to 40 letters, digits, '.', '_' or '-' that begin with none of '.' and '-'"),
    ("config", "/dev/zero", "/dev/zero:1: a line is text of at most 4096 bytes"),
    ("name", "../up", "name: '../up' is not 1 to 40 letters, digits, '.', '_' or '-' that begin with none of '.' and '-'"),
    ("uuid", "me", "uuid: 'me' is not of the form 01234567-89ab-cdef-0123-456789abcdef"),
    ("device", "warp-drive", "--device: 'warp-drive' is not one of i8042|hpet|pvpanic|i6300esb|isa-debug-exit|pc-testdev|pci-testdev"),
    ("set", "no.such.key=1", "unknown key 'no.such.key'"),
    ("set", "disk0.pat=x", "disk0.path: a disk needs a file or a block device"),
    ("set", "memory", "--set memory: expected KEY=VALUE"),
    ("config", "/no/such/config", "/no/such/config: No such file or directory"),
])
def test_bad_values(good, option, value, says):
    assert refused(*good, f"--{option}", value) == f"vireo: {says}"


def test_stdio_is_one(good):
    assert refused(*good, "--serial", "stdio", "--console", "stdio") == "vireo: console0: stdio is serial0's already"


def test_the_good_machine_is_one(good):
    r = run_cli(*good)
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")


def test_unknown_option(good):
    assert refused(*good, "--no-such-option") == "vireo: unknown option '--no-such-option' (see 'vireo help run')"
    assert refused(*good, "--memroy", "1G") == "vireo: unknown option '--memroy' (did you mean '--memory'?)"


def test_missing_initrd(busybox):
    assert "/no/such/initrd" in refused(*run_args(busybox, initrd="/no/such/initrd"))


def test_no_kernel():
    assert "kernel" in refused("run")


def test_not_a_kernel(busybox, tmp_path):
    path = tmp_path / "noise"
    path.write_bytes(os.urandom(100_000))
    assert "not a kernel" in refused(*run_args(busybox, kernel=str(path)))
    path.write_bytes(open(busybox.kernel, "rb").read(4096))
    refused(*run_args(busybox, kernel=str(path)))
    path.write_bytes(b"")
    refused(*run_args(busybox, kernel=str(path)))
    refused(*run_args(busybox, kernel=str(tmp_path)))


@pytest.mark.parametrize("what,says", [
    ("missing", "disk.img: no such file; make an image first"),
    ("directory", "disk.img is a directory; a disk must be a regular file or a block device"),
    ("1000", "disk.img: its size of 1000 bytes is no multiple of 512"),
    ("1048575", "disk.img: its size of 1048575 bytes is no multiple of 512"),
])
def test_odd_disk(good, tmp_path, what, says):
    path = tmp_path / "disks" / "disk.img"
    path.parent.mkdir()
    if what == "directory":
        path.mkdir()
    elif what != "missing":
        path.write_bytes(b"x" * int(what))
    for readonly in ("off", "on"):
        # An image that is to be read has to come from somewhere.
        wanted = "disk.img: no such file" if (what, readonly) == ("missing", "on") else says
        assert wanted in refused(*good, "--disk", f"{path},readonly={readonly}")
    assert os.listdir(path.parent) == ([] if what == "missing" else ["disk.img"])
    assert not path.is_file() or path.read_bytes() == b"x" * int(what)


def test_disk_of_another_machine(good, tmp_path, vms):
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"x" * 65536)

    def machine(*options):
        vm = vms(["--memory", "16", "--kernel", tiny.kernel(tmp_path, tiny.ECHO, "echo"), "--disk", *options])
        vm.child.expect_exact(">")
        return vm

    vm = machine(f"{disk},format=raw")
    for readonly, says in (("off", "is in use by another VM"), ("on", "is being written by another VM")):
        assert f"disk.img {says}" in refused(*good, "--disk", f"{disk},format=raw,readonly={readonly}")
    # A machine that is restored takes the lock like any other.
    assert run_cli("save", "--keep", vm.name, str(tmp_path / "state")).returncode == 0
    assert "disk.img is in use by another VM" in refused("restore", str(tmp_path / "state"), "--name", "other")
    vm.kill()
    # Some that only read may share; none that writes.
    for _ in range(2):
        machine(f"{disk},format=raw,readonly=on")
    assert "disk.img is in use by another VM" in refused(*good, "--disk", f"{disk},format=raw")
    assert disk.read_bytes() == b"x" * 65536


def test_disk_that_cannot_be_written(good, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    disk = inside / "disk.img"
    disk.write_bytes(bytes(65536))
    disk.chmod(0o444)
    # For root, a file of a file system that is mounted read-only.
    root = os.getuid() == 0
    if root and subprocess.run(["mount", "--bind", "-o", "ro", inside, inside], capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    try:
        line = refused(*good, "--disk", f"{disk},format=raw")
        assert "disk.img" in line and "readonly=on" in line
        r = run_cli(*good, "--disk", f"{disk},format=raw,readonly=on")
        assert (r.returncode, r.stderr) == (0, "")
    finally:
        if root:
            subprocess.run(["umount", "-l", inside], check=True)


def test_name_that_is_taken(good, tmp_path, vms):
    vm = vms(["--memory", "16", "--kernel", tiny.kernel(tmp_path, tiny.ECHO, "echo")])
    vm.child.expect_exact(">")
    assert refused(*good, "--name", vm.name) == f"vireo: name: a machine named '{vm.name}' is running"
    # The other one is none the worse for it.
    assert vm.name in run_cli("ps").stdout
    vm.child.send("here")
    vm.child.expect_exact("here")


@pytest.mark.parametrize("protocol,kind", [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])
def test_port_that_is_taken(good, protocol, kind):
    with socket.socket(type=kind) as s:
        s.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            s.listen()
        port = s.getsockname()[1]
        line = refused(*good, "--net", f"user,hostfwd={protocol}:127.0.0.1:{port}-:22")
        assert str(port) in line and "in use" in line


def test_run_directory_that_cannot_be(good, tmp_path):
    for where, says in [("/no/such/place", "XDG_RUNTIME_DIR: /no/such/place/vireo: No such file or directory"),
                        ("/proc", "XDG_RUNTIME_DIR: /proc/vireo: No such file or directory")]:
        r = run_cli(*good, env={**os.environ, "XDG_RUNTIME_DIR": where})
        assert (r.returncode, r.stderr) == (1, f"vireo: {says}\n")
        # Where there can be no machine, none is listed.
        assert run_cli("ps", env={**os.environ, "XDG_RUNTIME_DIR": where}).returncode == 0


def test_machine_that_is_not_there():
    for command in (["stop", "nobody"], ["console", "nobody"], ["save", "nobody", "/tmp/x"], ["pause", "nobody"],
                    ["resume", "nobody"], ["reset", "nobody"], ["stop", "--force", "nobody"]):
        assert "nobody" in refused(*command)
    assert "/no/such/state" in refused("restore", "/no/such/state")
    refused("guest", "minix")
