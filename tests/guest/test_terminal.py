"""The user's end of a machine: terminal, keys, signals, pipes and files, with guests of a few bytes."""
import fcntl
import os
import pty
import re
import signal
import subprocess
import termios
import time

import pexpect
import pytest

import tiny
from conftest import SLOW, VIREO, Qmp, run_cli, run_file


@pytest.fixture
def echo(tmp_path):
    return tiny.kernel(tmp_path, tiny.ECHO)


def spawn(vms, kernel, *more):
    """A machine in a terminal whose guest echoes."""
    vm = vms(["--kernel", kernel, "--memory", "16", *more])
    vm.child.expect_exact(">")
    return vm


def read(fd, count):
    """At least `count` bytes, as text."""
    got = b""
    while len(got) < count:
        got += os.read(fd, 65536)
    return got.decode()


# --- keys ---

def test_help_and_quit(vms, echo):
    vm = spawn(vms, echo)
    vm.child.send("\x01h")
    for line in ("Ctrl-A h", "Ctrl-A x", "Ctrl-A b", "Ctrl-A Ctrl-A"):
        vm.child.expect_exact(line)
    vm.child.send("a\x01\x01b")
    vm.child.expect_exact("a\x01b")
    vm.child.send("\x01x")
    assert vm.wait() == 0


def test_keys_work_while_the_guest_does_not_listen(vms, tmp_path):
    vm = vms(["--kernel", tiny.kernel(tmp_path, tiny.HALT), "--memory", "16"])
    time.sleep(1)
    vm.child.send("x" * 2000)
    vm.child.send("\x01h")
    vm.child.expect_exact("Ctrl-A x")
    vm.child.send("\x01x")
    assert vm.wait() == 0


def test_pause_and_reset_keys(vms, echo):
    vm = spawn(vms, echo)
    q = Qmp(vm.name)
    vm.child.send("\x01p")
    assert q.event("STOP")
    vm.child.send("held")
    with pytest.raises(pexpect.TIMEOUT):
        vm.child.expect_exact("held", timeout=1)
    vm.child.send("\x01p")
    vm.child.expect_exact("held")
    vm.child.send("\x01r")
    assert q.event("RESET")["data"] == {"guest": False, "reason": "host-ui"}
    vm.child.send("\x01o")
    assert q.event("POWERDOWN")
    vm.child.send("\x01x")
    assert q.event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-ui"}


def test_timestamps(vms, echo):
    vm = spawn(vms, echo)
    vm.child.send("\x01t\nline\n")
    vm.child.expect(r"\n\[ +\d+\.\d+\] line")
    vm.child.send("\x01tplain\n")
    vm.child.expect_exact("plain")


# --- the terminal is as it was ---

@pytest.mark.parametrize("ending,status", [
    ("key", 0), ("TERM", 143), ("HUP", 129), ("QUIT", 131), ("INT", 130), ("quit", 0), ("SEGV", 139), ("ABRT", 134)])
def test_the_terminal_is_restored(echo, tmp_path, ending, status):
    script = (f'stty -a >{tmp_path}/before; "{VIREO}" run --memory 16 --name r{os.getpid()} --kernel {echo}; s=$?; '
              f'stty -a >{tmp_path}/after; echo "STATUS=$s"; sleep 5')
    # A sanitizer would take the faults for itself.
    env = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":handle_segv=0:handle_abort=0"}
    child = pexpect.spawn("/bin/bash", ["-c", script], timeout=60 * SLOW, encoding="utf-8", codec_errors="replace", env=env)
    child.expect_exact(">")
    q = Qmp(f"r{os.getpid()}")
    pid = int(run_file(f"r{os.getpid()}", "pid").read_text())
    flags = subprocess.run(["stty", "-a", "-F", f"/proc/{pid}/fd/0"], capture_output=True, text=True).stdout
    assert "-icanon" in flags and "-isig" in flags
    if ending == "key":
        child.send("\x01x")
    elif ending == "quit":
        q.execute("quit")
    else:
        os.kill(pid, getattr(signal, "SIG" + ending))
    child.expect(r"STATUS=(\d+)")
    assert int(child.match.group(1)) == status
    assert (tmp_path / "before").read_text() == (tmp_path / "after").read_text()
    child.close(force=True)


def test_a_stopped_job_gives_the_terminal_back(echo):
    # Not a shell that mends the terminal itself, as bash does.
    child = pexpect.spawn("/bin/dash", ["-i"], timeout=60 * SLOW, encoding="utf-8", codec_errors="replace",
                          env=dict(os.environ, PS1="shell> ", TERM="dumb"))
    child.expect_exact("shell> ")
    name = f"j{os.getpid()}"
    child.sendline(f'"{VIREO}" run --memory 16 --kernel {echo} --name {name}')
    child.expect_exact("\n>")
    q = Qmp(name)
    pid = int(run_file(name, "pid").read_text())
    os.kill(pid, signal.SIGTSTP)
    child.expect_exact("shell> ")
    child.sendline("stty -a | grep -c -e -icanon -e -isig -e -opost")
    child.expect(r"\r\n0\r\n")
    child.expect_exact("shell> ")
    child.sendline("fg")
    assert q.event("STOP") and q.event("RESUME")
    # Raw again: the key is heard.
    child.send("again")
    child.expect_exact("again")
    child.send("\x01x")
    child.expect_exact("shell> ")
    child.close(force=True)


def test_the_end_of_the_terminal_is_the_end_of_the_machine(echo):
    master, slave = pty.openpty()
    name = f"e{os.getpid()}"
    p = subprocess.Popen([VIREO, "run", "--memory", "16", "--kernel", echo, "--name", name], stdin=slave, stdout=slave,
                         stderr=slave, start_new_session=True,
                         preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(slave)
    assert os.read(master, 1) == b">"
    q = Qmp(name)
    os.close(master)
    assert q.event("SHUTDOWN")["data"]["reason"] == "host-signal"
    assert p.wait(20 * SLOW) == 129


def test_nohup_is_respected(echo):
    p = subprocess.Popen(["nohup", VIREO, "run", "--memory", "16", "--kernel", echo, "--serial", "none"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    p.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert p.poll() is None
    p.send_signal(signal.SIGTERM)
    assert p.wait(20) == 143


# --- input and output that are no terminal ---

def test_piped_input_reaches_the_guest_and_its_end_ends_nothing(echo):
    p = subprocess.Popen([VIREO, "run", "--memory", "16", "--kernel", echo], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
    text = "".join(f"line {n}\n" for n in range(2000)) + "\x01x the end"
    p.stdin.write(text.encode())
    p.stdin.close()
    assert read(p.stdout.fileno(), len(text) + 1) == ">" + text
    time.sleep(0.3)
    assert p.poll() is None
    p.send_signal(signal.SIGINT)
    assert p.wait(20) == 130


def test_input_from_a_file(echo, tmp_path):
    text = "".join(f"line {n}\n" for n in range(2000))
    (tmp_path / "input").write_text(text)
    with open(tmp_path / "input") as f:
        p = subprocess.Popen([VIREO, "run", "--memory", "16", "--kernel", echo], stdin=f, stdout=subprocess.PIPE)
    assert read(p.stdout.fileno(), len(text) + 1) == ">" + text
    p.terminate()
    p.wait(20)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_files(tmp_path, closed):
    kernel = tiny.kernel(tmp_path, tiny.printer(1000))
    disk = tmp_path / "disk"
    disk.write_bytes(b"\0" * 65536)
    r = subprocess.run(["/bin/sh", "-c", f'"{VIREO}" run --memory 16 --kernel {kernel} --disk {disk},format=raw {closed}'],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60 * SLOW)
    assert r.returncode == 0, r.stderr
    if ">&-" not in closed.replace("2>&-", ""):
        assert r.stdout == tiny.printed(1000)
    assert disk.read_bytes() == b"\0" * 65536


def test_a_slow_reader_gets_everything(tmp_path):
    kernel = tiny.kernel(tmp_path, tiny.printer(200_000))
    p = subprocess.Popen([VIREO, "run", "--memory", "16", "--kernel", kernel], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE)
    time.sleep(1)  # the guest waits for the pipe
    assert p.poll() is None
    got = p.stdout.read(150_000)
    time.sleep(1)  # by now it has powered off, and what is left waits
    got += p.stdout.read()
    assert got.decode() == tiny.printed(200_000)
    assert p.wait(20) == 0


def test_a_reader_that_is_gone(tmp_path):
    kernel = tiny.kernel(tmp_path, tiny.printer(200_000))
    p = subprocess.Popen([VIREO, "run", "--memory", "16", "--kernel", kernel], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    p.stdout.close()
    assert p.wait(60 * SLOW) == 0
    lines = p.stderr.read().splitlines()
    assert len(lines) == 1 and "Broken pipe" in lines[0]


def test_a_stuck_reader_does_not_outlive_a_signal(tmp_path):
    kernel = tiny.kernel(tmp_path, tiny.printer(200_000))
    p = subprocess.Popen([VIREO, "run", "--memory", "16", "--kernel", kernel], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE)
    time.sleep(2)
    p.terminate()
    assert p.wait(10 * SLOW) == 143


def test_serial_to_a_file(tmp_path):
    kernel = tiny.kernel(tmp_path, tiny.printer(5000))
    out = tmp_path / "out"
    out.write_text("before")
    # Nothing is touched by a machine that cannot run.
    assert run_cli("run", "--kernel", kernel, "--serial", f"file:{out}", "--disk", "/no/such/disk").returncode == 1
    assert out.read_text() == "before"
    r = run_cli("run", "--memory", "16", "--kernel", kernel, "--serial", f"file:{out}")
    assert r.returncode == 0, r.stderr
    assert out.read_text() == tiny.printed(5000)


def test_serial_on_a_pty(echo):
    p = subprocess.Popen([VIREO, "run", "--memory", "16", "--kernel", echo, "--serial", "pty"],
                         stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    path = re.search(r"serial0 is on (/dev/pts/\d+)", p.stderr.readline()).group(1)
    for word in ("one", "two"):  # a user comes and goes
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        os.write(fd, word.encode())
        got = ""
        while not got.endswith(word):
            got += read(fd, 1)
        os.close(fd)
    p.terminate()
    p.wait(20)
