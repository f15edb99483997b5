"""`make run`, as a newcomer types it: in a terminal and without one."""
import os
import re
import subprocess
import time

import pexpect
import pytest

from conftest import PROMPT, SLOW, TOP, VIREO, run_cli

COMMAND = ["--no-print-directory", "run", f"BUILD={os.path.dirname(VIREO)}"]


@pytest.fixture
def env(busybox, tmp_path):
    """An environment with a guest of its own: `make run` in a terminal writes to its disk."""
    directory = tmp_path / "vireo" / "guests"
    directory.mkdir(parents=True)
    subprocess.run(["cp", "-r", "--preserve=timestamps", "--sparse=always", busybox.dir, directory / "busybox"], check=True)
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "TERM": "xterm-256color"}


def run_piped(env):
    return subprocess.run(["make", *COMMAND], cwd=TOP, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env,
                          timeout=120 * SLOW)


class Run:
    """In a terminal of 33 lines, booted."""

    def __init__(self, env):
        self.child = pexpect.spawn("make", COMMAND, cwd=TOP, timeout=120 * SLOW, encoding="utf-8", codec_errors="replace",
                                   dimensions=(33, 111), env=env)
        self.child.expect(PROMPT)
        self.greeting = self.child.before

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.child.close(force=True)

    def sh(self, command):
        self.child.sendline(f"{command}; echo E''ND")
        self.child.expect("END\r")
        text = self.child.before
        self.child.expect(PROMPT)
        # The echo of a long command is wrapped with a carriage return.
        return text.split("\n", 1)[1].replace("\r", "").strip() if "\n" in text else ""

    def power_off(self):
        self.child.sendline("poweroff")
        self.child.expect(pexpect.EOF)
        self.child.close()
        return self.child.exitstatus


def test_without_a_terminal_it_reports_and_ends(env):
    r = run_piped(env)
    assert r.returncode == 0, r.stdout + r.stderr
    report = dict(re.findall(r"^(\w+): +(.*?)\r?$", r.stdout.split("--- report ---")[1], re.M))
    assert report["kernel"].startswith("Linux ")
    assert report["cpus"].startswith("2 ")
    assert re.match(r"\d+ MiB", report["memory"])
    assert "root ext4" in report["disk"]
    assert report["network"].startswith("eth0 10.0.2.15")


def test_in_a_terminal_it_is_a_shell_to_work_in(env):
    with Run(env) as run:
        assert re.search("Welcome to Linux.*2 CPUs", run.greeting, re.S)
        assert "can't access tty" not in run.greeting
        assert run.sh("tty; nproc; echo $TERM") == "/dev/hvc0\n2\nxterm-256color"
        # The window's size, and its change.
        assert run.sh("stty size") == "33 111"
        run.child.setwinsize(20, 60)
        for _ in range(20):
            if run.sh("stty size") == "20 60":
                break
            time.sleep(0.2)
        else:
            pytest.fail("the guest was not told of the new size")
        # Job control.
        run.child.sendline("sleep 1000")
        run.child.expect_exact("sleep 1000\r\n")
        time.sleep(1)
        run.child.send("\x1a")
        run.child.expect("Stopped")
        run.child.expect(PROMPT)
        assert "sleep 1000" in run.sh("jobs")
        run.child.sendline("fg")
        run.child.expect_exact("sleep 1000\r\n")
        time.sleep(1)
        run.child.send("\x03")
        run.child.expect(PROMPT)
        assert run.sh("jobs") == ""
        # `vireo console` leads to this shell.
        name = run_cli("ps").stdout.splitlines()[1].split()[0]
        console = pexpect.spawn(VIREO, ["console", name], timeout=60 * SLOW, encoding="utf-8")
        console.expect_exact("Attached")
        console.sendline("tty")
        console.expect_exact("/dev/hvc0")
        console.close(force=True)
        run.child.expect(PROMPT)
        # One at a time: they would write to the same disk.
        r = run_piped(env)
        assert r.returncode and "disk.img is being written by another VM" in r.stderr
        run.sh("echo kept >/root/file")
        assert run.power_off() == 0
    # The guest's disk is still there at the next time.
    with Run(env) as run:
        assert run.sh("cat /root/file") == "kept"
        run.child.send("\x01x")
        run.child.expect(pexpect.EOF)
        run.child.close()
        assert run.child.exitstatus == 0
