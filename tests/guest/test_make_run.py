"""`make run`, as a newcomer types it: in a terminal and without one."""
import os
import re
import shutil
import subprocess

import pexpect
import pytest

from conftest import PROMPT, SLOW, TOP, VIREO

COMMAND = ["run", f"BUILD={os.path.dirname(VIREO)}"]


@pytest.fixture
def cache(busybox, tmp_path):
    """An environment with a guest of its own: `make run` in a terminal writes to its disk."""
    shutil.copytree(busybox.dir, tmp_path / "vireo" / "guests" / "busybox")
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}


def test_without_a_terminal_it_reports_and_ends(cache):
    r = subprocess.run(["make", *COMMAND], cwd=TOP, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=cache,
                       timeout=120 * SLOW)
    assert r.returncode == 0, r.stdout + r.stderr
    report = dict(re.findall(r"^(\w+): +(.*?)\r?$", r.stdout.split("--- report ---")[1], re.M))
    assert report["kernel"].startswith("Linux ")
    assert report["cpus"].startswith("2 ")
    assert re.match(r"\d+ MiB", report["memory"])
    assert "root ext4" in report["disk"]
    assert report["network"].startswith("eth0 10.0.2.15")


def test_in_a_terminal_it_is_a_shell_until_poweroff(cache):
    child = pexpect.spawn("make", COMMAND, cwd=TOP, env=cache, timeout=120 * SLOW, encoding="utf-8", codec_errors="replace")
    try:
        child.expect("Welcome to Linux.*2 CPUs")
        child.expect(PROMPT)
        child.sendline("echo $((6 * 7)) is the answer")
        child.expect("42 is the answer")
        child.sendline("poweroff")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
    finally:
        child.close(force=True)
