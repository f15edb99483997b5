"""Bad input from the user: one clear line, status 1, nothing changed."""
import os
import socket

import pytest

from conftest import run_cli


def refused(*args):
    r = run_cli(*args)
    assert r.returncode == 1, r.stdout + r.stderr
    lines = r.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("vireo: "), r.stderr
    return lines[0]


def run_args(busybox, **kw):
    a = {"kernel": busybox.kernel, "initrd": busybox.initrd, **kw}
    return ["run", *(x for k, v in a.items() for x in (f"--{k}", v))]


@pytest.mark.parametrize("option,value,says", [
    ("memory", "lots", "memory"),
    ("memory", "4M", "memory"),
    ("memory", "12M", "memory"),
    ("cpus", "0", "cpus"),
    ("cpus", "1000", "cpus"),
    ("cpu", "pentium9", "pentium9"),
    ("cpu", "max,+warp", "warp"),
    ("engine", "steam", "steam"),
    ("clock", "sundial", "sundial"),
    ("net", "carrier-pigeon", "carrier-pigeon"),
    ("net", "user,hostfwd=tcp:nonsense", "hostfwd"),
    ("net", "user,mac=1:2", "mac"),
    ("serial", "wall", "wall"),
    ("name", "../up", "name"),
    ("disk", "/no/such/disk", "/no/such/disk"),
    ("disk", "/dev/null", "/dev/null"),
    ("set", "no.such.key=1", "no.such.key"),
    ("initrd", "/no/such/initrd", "/no/such/initrd"),
    ("config", "/no/such/config", "/no/such/config"),
])
def test_bad_values(busybox, option, value, says):
    assert says in refused(*run_args(busybox), f"--{option}", value)


def test_unknown_option(busybox):
    assert "--no-such-option" in refused(*run_args(busybox), "--no-such-option")


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


def test_odd_disk(busybox, tmp_path):
    path = tmp_path / "odd.img"
    path.write_bytes(b"x" * 1000)
    assert "odd.img" in refused(*run_args(busybox), "--disk", str(path))
    assert path.read_bytes() == b"x" * 1000


def test_disk_of_another_machine(busybox, vms):
    disk = busybox.disk()
    vms([*busybox.args(), "--disk", disk]).boot()
    assert "disk.img" in refused(*run_args(busybox), "--disk", disk)


def test_name_that_is_taken(busybox, vms):
    vm = vms(busybox.args()).boot()
    assert vm.name in refused(*run_args(busybox), "--name", vm.name)


def test_port_that_is_taken(busybox):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        assert str(port) in refused(*run_args(busybox), "--net", f"user,hostfwd=tcp::{port}-:22")


def test_machine_that_is_not_there():
    for command in (["stop", "nobody"], ["console", "nobody"], ["save", "nobody", "/tmp/x"]):
        assert "nobody" in refused(*command)
    assert "/no/such/state" in refused("restore", "/no/such/state")
    refused("guest", "minix")


def test_help_and_engines():
    assert "interp" in run_cli("engines").stdout
    for command in ("run", "ps", "stop", "console", "save", "restore", "engines", "guest"):
        r = run_cli("help", command)
        assert r.returncode == 0 and r.stdout.startswith(f"Usage: vireo {command}")
