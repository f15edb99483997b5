"""The control of machines by QMP and the other commands."""
import json
import os
import pathlib
import resource
import signal
import subprocess
import time

import pexpect
import pytest

import tiny
from conftest import SLOW, VIREO, run_cli, run_file


@pytest.fixture
def guest(vms, tmp_path):
    """Start a machine in a terminal, with a guest of a few bytes."""
    def start(code=tiny.ECHO, *more):
        vm = vms(["--memory", "16", "--kernel", tiny.kernel(tmp_path, code), *more])
        if code == tiny.ECHO:
            vm.child.expect_exact(">")
        else:
            while not run_file(vm.name, "qmp.sock").exists():
                time.sleep(0.05)
        return vm

    return start


def spawn(*args):
    """Another command, in a terminal of its own."""
    return pexpect.spawn(VIREO, list(args), timeout=60 * SLOW, encoding="utf-8", codec_errors="replace")


def answer(vm, text):
    vm.child.send(text)
    vm.child.expect_exact(text)
    return True


def machines():
    return {m["name"]: m for m in json.loads(run_cli("ps", "--json").stdout)}


# --- QMP ---

def test_stop_and_cont(guest):
    vm = guest()
    q = vm.qmp()
    assert q.execute("query-status") == {"status": "running", "running": True, "singlestep": False}
    q.execute("stop")
    assert q.execute("query-status") == {"status": "paused", "running": False, "singlestep": False}
    before = q.execute("x-vireo-stats")["cpu0.instructions"]
    vm.child.send("held")
    with pytest.raises(pexpect.TIMEOUT):
        vm.child.expect_exact("held", timeout=0.5)
    assert q.execute("x-vireo-stats")["cpu0.instructions"] == before
    q.execute("cont")
    vm.child.expect_exact("held")
    assert q.ask("no-such-command")["error"]["class"] == "CommandNotFound"


def test_quit(guest):
    vm = guest()
    q = vm.qmp()
    q.execute("quit")
    assert q.event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-qmp-quit"}
    assert vm.wait() == 0
    assert not run_file(vm.name, "").exists()


def test_power_button(guest):
    vm = guest(tiny.BUTTON)
    q = vm.qmp()
    q.execute("system_powerdown")
    assert q.event("POWERDOWN")
    assert q.event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-shutdown"}
    assert vm.wait() == 0


def test_reset(guest):
    vm = guest()
    q = vm.qmp()
    q.execute("system_reset")
    assert q.event("RESET")["data"] == {"guest": False, "reason": "host-qmp-system-reset"}
    vm.child.expect_exact(">")  # it has begun again
    assert answer(vm, "and works")


def test_clients_that_mean_harm_harm_nobody(guest):
    vm = guest()
    q = vm.qmp()
    # Many requests in one piece, with garbage between them.
    q.file.write('{"execute": "query-name", "id": 1}{"execute": "query-status", "id": 2}\n' * 500 + "{nonsense}\n"
                 + '{"execute": "query-name", "id": 3}\n')
    q.file.flush()
    replies = [q.next() for _ in range(1002)]
    assert [r.get("id") for r in replies] == [1, 2] * 500 + [None, 3]
    assert "error" in replies[1000]
    # One that never ends is refused, and what comes after it is heard.
    bad = vm.qmp()
    for _ in range(64):
        bad.sock.sendall(b'{"execute": "' + b"x" * 65536)
    assert bad.next()["error"]["desc"] == "JSON token size limit exceeded"
    bad.sock.sendall(b'\n{"execute": "query-name", "id": 4}\n')
    while (reply := bad.next()).get("id") != 4:
        assert "error" in reply
    assert "return" in reply
    assert q.execute("query-status")["running"] and answer(vm, "alive")


# --- the monitor ---

def test_one_command_of_the_monitor(guest):
    vm = guest(tiny.HALT)
    r = run_cli("monitor", vm.name, "info", "status")
    assert (r.returncode, r.stdout, r.stderr) == (0, "VM status: running\n", "")
    assert run_cli("monitor", vm.name, "p/x 16").stdout == "0x10\n"
    assert run_cli("monitor", vm.name, "nonsense").stdout == "unknown command: 'nonsense'\n"
    r = run_cli("monitor", "nobody", "info status")
    assert r.returncode == 1 and "nobody" in r.stderr


def test_the_monitor_in_a_terminal_and_in_a_pipe(guest):
    vm = guest(tiny.HALT)
    t = spawn("monitor", vm.name)
    t.expect_exact("(qemu) ")
    t.send("info stx\x7f\t\r")  # a mistake, and the rest of the word
    t.expect_exact("VM status: running\r\n(qemu) ")
    t.send("stop\r")
    t.expect_exact("(qemu) ")
    t.send("\x1b[A\x1b[A\r")
    t.expect_exact("VM status: paused\r\n(qemu) ")
    t.send("\x04")
    t.expect(pexpect.EOF)
    t.close()
    assert t.exitstatus == 0
    r = subprocess.run([VIREO, "monitor", vm.name], input="info status\ncont\nxp/20000xw 0\n", capture_output=True,
                       text=True, timeout=60 * SLOW)
    assert "VM status: paused" in r.stdout and r.stdout.count("\n") > 5000
    t = spawn("monitor", vm.name)
    t.expect_exact("(qemu) ")
    t.send("quit\r")
    t.expect(pexpect.EOF)
    assert vm.wait() == 0


def test_the_monitor_behind_the_escape_key(guest):
    vm = guest()
    vm.child.send("\x01c")
    vm.child.expect_exact("(qemu) ")
    vm.child.send("info name\r")
    vm.child.expect_exact(f"{vm.name}\r\n(qemu) ")
    vm.child.send("\x01c")
    assert answer(vm, "to the guest")
    vm.child.send("\x01c")
    vm.child.expect_exact("(qemu) ")
    vm.child.send("\x1b[A\r")
    vm.child.expect_exact(f"{vm.name}\r\n(qemu) ")


def test_stdio_is_the_monitors_or_qmps(tmp_path):
    kernel = tiny.kernel(tmp_path, tiny.HALT)
    run = [VIREO, "run", "--memory", "16", "--kernel", kernel, "--serial", "null"]
    r = subprocess.run([*run, "--set", "monitor0=stdio"], input="info status\nquit\n", capture_output=True, text=True,
                       timeout=60 * SLOW)
    assert r.returncode == 0 and "VM status: running" in r.stdout
    said = tmp_path / "requests"
    said.write_text('{"execute": "qmp_capabilities"}{"execute": "query-status"}{"execute": "quit"}')
    with said.open() as f:
        r = subprocess.run([*run, "--set", "qmp0=stdio"], stdin=f, capture_output=True, text=True, timeout=60 * SLOW)
    assert r.returncode == 0
    assert json.loads(r.stdout.splitlines()[2])["return"]["status"] == "running"
    run[-1] = "stdio"
    r = subprocess.run([*run, "--set", "terminal.escapes=always"], input="\x01cinfo status\nquit\n", capture_output=True,
                       text=True, timeout=60 * SLOW)
    assert r.returncode == 0 and "VM status: running" in r.stdout


def test_qmp_of_the_command_line(guest):
    vm = guest(tiny.HALT)
    assert json.loads(run_cli("qmp", vm.name, "query-name").stdout) == {"name": vm.name}
    r = run_cli("qmp", vm.name, "human-monitor-command", "command-line=info status", "cpu-index=0")
    assert (r.returncode, r.stdout) == (0, "VM status: running\n")
    r = run_cli("qmp", vm.name, '{"execute": "stop"}')
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")
    for args, words in ((["migrate"], "Parameter 'uri' is missing"), (["migrate", "uri"], "'uri' is not KEY=VALUE"),
                        (["{nonsense}"], "the request is not JSON"), (["{}"], 'the request has no "execute"'),
                        (["nonsense"], "The command nonsense has not been found")):
        r = run_cli("qmp", vm.name, *args)
        assert r.returncode == 1 and words in r.stderr, r.stderr


# --- ps ---

def test_ps(guest):
    a, b = guest(tiny.HALT, "--cpus", "2"), guest(tiny.HALT, "--paused")
    rows = {line.split()[0]: line.split()[1:] for line in run_cli("ps").stdout.splitlines()}
    assert rows["NAME"] == ["PID", "STATUS", "CPUS"]
    assert rows[a.name] == [str(a.child.pid), "running", "2"]
    assert rows[b.name] == [str(b.child.pid), "prelaunch", "1"]
    assert machines()[a.name] == {"name": a.name, "pid": a.child.pid, "status": "running", "cpus": 2}
    # What a killed one left is not shown, and goes.
    os.kill(a.child.pid, signal.SIGKILL)
    a.child.wait()
    assert run_file(a.name, "qmp.sock").exists()
    assert a.name not in machines() and b.name in machines()
    assert not run_file(a.name, "").exists()


def test_a_machine_that_hangs_hides_no_other(guest):
    a, b = guest(tiny.HALT), guest(tiny.HALT)
    os.kill(a.child.pid, signal.SIGSTOP)
    try:
        seen = machines()
        assert seen[a.name]["status"] == "no answer" and seen[b.name]["status"] == "running"
    finally:
        os.kill(a.child.pid, signal.SIGCONT)


def test_pause_resume_reset(guest):
    vm = guest()
    assert run_cli("pause", vm.name).returncode == 0
    assert machines()[vm.name]["status"] == "paused"
    assert run_cli("resume", vm.name).returncode == 0
    assert machines()[vm.name]["status"] == "running"
    assert run_cli("reset", vm.name).returncode == 0
    vm.child.expect_exact(">")


# --- stop ---

def test_stop_presses_the_power_button(guest):
    vm = guest(tiny.BUTTON)
    q = vm.qmp()
    r = run_cli("stop", vm.name)
    assert (r.returncode, r.stderr) == (0, "")
    assert q.event("SHUTDOWN")["data"]["reason"] == "guest-shutdown"
    assert vm.wait() == 0


def test_stop_resumes_a_paused_machine_so_that_it_hears(guest):
    vm = guest(tiny.BUTTON, "--paused")
    r = run_cli("stop", vm.name)
    assert (r.returncode, r.stderr) == (0, "")
    assert vm.wait() == 0


def test_stop_ends_who_does_not_react(guest):
    vm, other = guest(tiny.HALT), guest(tiny.HALT)
    began = time.monotonic()
    r = run_cli("stop", "--timeout", "1", vm.name)
    assert time.monotonic() - began >= 1
    assert (r.returncode, r.stderr) == (0, f"vireo: {vm.name} did not power off within 1 s and was ended\n")
    assert vm.wait() == 0
    # Whoever waits longer is told of it once.
    third = guest(tiny.HALT)
    r = run_cli("stop", "--timeout", "6", third.name)
    assert (r.returncode, r.stderr) == (
        0, f"vireo: {third.name} has not powered off yet; it has 1 s more (--force ends it)\n"
        f"vireo: {third.name} did not power off within 6 s and was ended\n")
    began = time.monotonic()
    r = run_cli("stop", "--force", "nobody", other.name)
    # The one that is not there does not save the other.
    assert (r.returncode, r.stderr) == (1, "vireo: no machine named 'nobody' is running (see `vireo ps`)\n")
    assert time.monotonic() - began < 5 * SLOW
    assert other.wait() == 0


# --- console ---

def test_a_limit_of_file_sizes_ends_no_machine(guest, tmp_path):
    python_ignores_it = signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    vm = guest()
    signal.signal(signal.SIGXFSZ, python_ignores_it)
    resource.prlimit(vm.child.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    r = run_cli("save", vm.name, str(tmp_path / "state"))
    assert r.returncode == 1 and "File too large" in r.stderr, r.stderr
    assert not list(tmp_path.glob("state*"))
    answer(vm, "on")


def test_console(guest):
    vm = guest()
    consoles = [spawn("console", vm.name) for _ in range(2)]
    for c in consoles:
        c.expect_exact(f"Attached to {vm.name}; Ctrl-A x detaches.")
    # Whoever types, all see the answer.
    for text, who in (("one", consoles[0]), ("two", consoles[1]), ("three", vm.child)):
        who.send(text)
        for c in (*consoles, vm.child):
            c.expect_exact(text)
    consoles[0].send("\x01h")
    consoles[0].expect_exact("Ctrl-A x       detach")
    consoles[0].send("\x01\x01")
    vm.child.expect_exact("\x01")
    consoles[0].send("\x01x")
    consoles[0].expect_exact(f"Detached from {vm.name}.")
    consoles[0].expect(pexpect.EOF)
    assert answer(vm, "goes on")
    # The others are told of the end.
    vm.child.send("\x01x")
    consoles[1].expect_exact(f"{vm.name} has ended.")
    consoles[1].expect(pexpect.EOF)
    for c in consoles:
        c.close()
        assert c.exitstatus == 0


def test_console_restores_its_terminal(guest, tmp_path):
    vm = guest()
    for ending, status in (("key", 0), ("TERM", 143)):
        c = pexpect.spawn("/bin/sh", ["-c", f'stty -a >{tmp_path}/a; "{VIREO}" console {vm.name}; echo STATUS=$?; '
                                            f'stty -a >{tmp_path}/b; echo DONE'], timeout=60 * SLOW, encoding="utf-8")
        c.expect_exact("Attached")
        if ending == "key":
            c.send("\x01x")
        else:
            children = pathlib.Path(f"/proc/{c.pid}/task/{c.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGTERM)
        c.expect_exact(f"STATUS={status}")
        c.expect_exact("DONE")
        assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()
        c.close()


def test_console_without_a_terminal(guest):
    vm = guest()
    p = subprocess.Popen([VIREO, "console", vm.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdin.write(b"text \x01x.")  # no escape keys here
    p.stdin.flush()
    vm.child.expect(r"text .*\.")
    vm.qmp().execute("quit")
    assert p.communicate(timeout=20 * SLOW) == (b"text \x01x.", b"")
    assert p.returncode == 0


def test_console_log(guest):
    vm = guest()
    assert answer(vm, "kept")
    r = run_cli("console", "--log", vm.name)
    assert (r.returncode, r.stdout) == (0, ">kept")


def test_the_console_is_the_virtio_console_if_there_is_one(guest, tmp_path):
    """As under `make run`, where the kernel speaks on the serial port and the shell is on hvc0."""
    vm = guest(tiny.HALT, "--serial", f"file:{tmp_path}/out", "--console", "stdio", "--set", "agent=socket")
    sockets = sorted(f.name for f in run_file(vm.name, "").iterdir() if f.name.endswith(".sock"))
    assert sockets == ["agent.sock", "console.sock", "console0.sock", "monitor.sock", "qmp.sock", "serial0.sock"]
    assert os.readlink(run_file(vm.name, "console.sock")) == "console0.sock"
    r = run_cli("console", vm.name, "serial7")
    assert (r.returncode, r.stderr) == (1, f"vireo: {vm.name} has no port 'serial7'; it has agent, console0, serial0\n")
    other = guest(tiny.HALT, "--serial", "null", "--set", "agent=socket")
    r = run_cli("console", other.name)
    assert (r.returncode, r.stderr) == (1, f"vireo: {other.name} has no console; name one of its ports: agent\n")


def test_a_port_by_its_name(vms, tmp_path):
    vm = vms(["--memory", "16", "--kernel", tiny.kernel(tmp_path, tiny.ECHO), "--serial", f"file:{tmp_path}/out",
              "--console", "stdio"])
    while not run_file(vm.name, "qmp.sock").exists():
        time.sleep(0.05)
    c = spawn("console", vm.name, "serial0")
    c.expect_exact("Attached")
    c.send("over here")
    c.expect_exact("over here")
    c.close()
    assert (tmp_path / "out").read_text() == ">over here"


# --- under Linux ---

def boot(busybox, vms, *more, cpus=2):
    return vms([*busybox.args(), "--cpus", str(cpus), "--disk", busybox.disk(), *more]).boot()


def test_time_stands_still_while_paused(busybox, vms):
    vm = boot(busybox, vms)
    q = vm.qmp()
    before = float(vm.sh("cut -d' ' -f1 /proc/uptime"))
    q.execute("stop")
    time.sleep(5)
    q.execute("cont")
    assert float(vm.sh("cut -d' ' -f1 /proc/uptime")) - before < 4
