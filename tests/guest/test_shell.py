"""The terminal, the shell, and what the user does around it."""
import http.server
import os
import socket
import subprocess
import threading
import time

import pexpect

from conftest import VIREO, run_cli


def boot(busybox, vms, *more, cpus=2):
    return vms([*busybox.args(), "--cpus", str(cpus), "--disk", busybox.disk(), *more]).boot()


def test_shell_and_poweroff(busybox, vms):
    vm = boot(busybox, vms)
    assert vm.sh("nproc") == "2"
    vm.sh("echo kept > /root/file && sync")
    vm.child.sendline("poweroff")
    assert vm.wait() == 0


def test_reboot(busybox, vms):
    vm = boot(busybox, vms)
    vm.child.sendline("reboot")
    vm.child.expect("Welcome to Linux")
    vm.boot()
    assert vm.sh("echo up") == "up"


def test_http_from_the_host(busybox, vms, tmp_path):
    (tmp_path / "file").write_bytes(os.urandom(300_000))
    want = subprocess.run(["md5sum", tmp_path / "file"], capture_output=True, text=True).stdout.split()[0]

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *a):
            super().__init__(*a, directory=str(tmp_path))

        def log_message(self, *a):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    vm = boot(busybox, vms, "--net", "user")
    assert want in vm.sh(f"wget -q -O - http://10.0.2.2:{server.server_port}/file | md5sum")
    server.shutdown()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_port_forwarding(busybox, vms):
    port = free_port()
    vm = boot(busybox, vms, "--net", f"user,hostfwd=tcp::{port}-:7777")
    vm.child.sendline("echo hello from inside | nc -l -p 7777")
    time.sleep(1)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
        assert s.makefile().readline() == "hello from inside\n"


def test_virtio_console(busybox, vms):
    vm = vms(["--kernel", busybox.kernel, "--initrd", busybox.initrd, "--append", "console=hvc0 quiet",
              "--disk", busybox.disk(), "--console", "stdio"]).boot()
    assert vm.sh("cat /sys/class/tty/console/active") == "hvc0"
    assert vm.sh("stty size") == "40 120"
    vm.child.setwinsize(50, 100)
    time.sleep(1)
    assert vm.sh("stty size") == "50 100"


def test_idle_guest_sleeps(busybox, vms):
    vm = boot(busybox, vms)
    time.sleep(2)

    def ticks():
        with open(f"/proc/{vm.child.pid}/stat") as f:
            parts = f.read().rsplit(")", 1)[1].split()
        return int(parts[11]) + int(parts[12])

    before = ticks()
    time.sleep(10)
    used = (ticks() - before) / os.sysconf("SC_CLK_TCK") / 10
    assert used < 0.03, f"{used:.1%} of a core"


def test_stop_and_console(busybox, vms):
    vm = boot(busybox, vms, cpus=1)
    con = pexpect.spawn(VIREO, ["console", vm.name], timeout=60, encoding="utf-8", codec_errors="replace")
    con.expect("Attached")
    con.sendline("echo from the si''de")
    con.expect("from the side")
    con.send("\x01x")
    con.expect(pexpect.EOF)
    r = run_cli("stop", vm.name, timeout=90)
    assert (r.returncode, r.stderr) == (0, "")
    assert vm.wait() == 0
