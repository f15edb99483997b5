"""scripts/setup, on machines that differ: who asks, what is installed, whether packages can be had."""
import os
import re
import subprocess

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOLS = {
    "dpkg-query": 'cat "$FAKE_INSTALLED"',
    "dpkg": '[ "$1" != --print-architecture ] || echo amd64',
    "id": "echo ${FAKE_UID:-0}",
    "apt-get": 'echo "apt-get $*" >>"$FAKE_LOG"; [ "$1" = update ] || [ -z "${FAKE_OFFLINE:-}" ] || { echo "E: no route" >&2; exit 100; }',
    "sudo": 'echo "sudo $*" >>"$FAKE_LOG"; exec "$@"',
}


def packages():
    with open(os.path.join(TOP, "scripts", "packages.txt")) as f:
        return [line.strip() for line in f if line.strip() and line[0] not in "#["]


@pytest.fixture
def setup(tmp_path):
    """Run scripts/setup where only these tools stand in for the machine's package management; zstd is missing."""
    def run(*groups, without=(), also=(), **env):
        tools = tmp_path / "bin"
        tools.mkdir()
        for name, body in TOOLS.items():
            if name not in without:
                (tools / name).write_text(f"#!/bin/sh\n{body}\n")
                (tools / name).chmod(0o755)
        there = tmp_path / "installed"
        lines = [f"{p if ':' in p else p + ':amd64'} installed\n" for p in packages() if p != "zstd"]
        there.write_text("".join(lines) + "".join(f"{line}\n" for line in also))
        for name in ("awk", "cat", "sed", "grep", "mktemp", "rm", "tail", "dirname", "env", "sh"):
            os.symlink(f"/usr/bin/{name}", tools / name)
        log = tmp_path / "log"
        log.write_text("")
        r = subprocess.run([os.path.join(TOP, "scripts", "setup"), *(groups or ["run"])], capture_output=True, text=True,
                           env={"PATH": str(tools), "FAKE_LOG": str(log), "FAKE_INSTALLED": str(there), **env}, timeout=30)
        return r.returncode, r.stdout + r.stderr, log.read_text()
    return run


def test_root_installs_only_what_is_missing(setup):
    status, said, did = setup()
    assert status == 0 and said == "setup: installing zstd\n"
    assert did.splitlines()[0].startswith("apt-get update")
    assert re.search(r"apt-get .*install .*--no-install-recommends zstd$", did, re.M)


def test_all_is_there(setup):
    assert setup(also=["zstd:amd64 installed"]) == (0, "", "")

def test_a_package_for_all_architectures_is_there(setup):
    assert setup(also=["zstd:all installed"]) == (0, "", "")


@pytest.mark.parametrize("line", ["zstd:arm64 installed", "zstd:amd64 config-files", "zstd-doc:amd64 installed"])
def test_something_like_it_is_not_enough(setup, line):
    assert setup(also=[line])[1] == "setup: installing zstd\n"


def test_a_user_with_sudo(setup):
    status, _, did = setup(FAKE_UID="1000")
    assert status == 0 and "sudo apt-get update" in did and re.search(r"sudo env .*install.* zstd$", did, re.M)


def test_a_user_without_sudo_is_told_what_root_must_do(setup):
    status, said, did = setup(FAKE_UID="1000", without=["sudo"])
    assert status == 1 and "as root: apt-get install zstd" in said and not did


def test_no_network(setup):
    status, said, _ = setup(FAKE_OFFLINE="1")
    assert status == 1 and "no route" in said and "network" in said.splitlines()[-1]


def test_another_distribution_is_left_alone(setup):
    status, said, did = setup(without=["dpkg-query"])
    assert status == 0 and "packages.txt" in said and not did


def test_on_request_nothing_is_installed(setup):
    assert setup(VIREO_SETUP="no") == (0, "", "")


def test_no_package_is_listed_twice():
    names = packages()
    assert len(names) == len(set(names)) > 20
