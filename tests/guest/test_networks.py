"""Real machines on every kind of wire, with iperf3 (wirelab.py), and two of them in a network of `vireo net`: addresses, names,
and coming back. All of it in name spaces of their own.
"""
import json
import os
import shutil
import subprocess
import sys

import pytest

from conftest import SLOW, TOP, guest_files
from wirelab import FULL, SHORT, WIRES

PROJECT = os.path.join(TOP, "tests", "project")
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, PROJECT)
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
UNSHARE = ["unshare", "-rnmp", "--mount-proc", "--kill-child", "-f"]
NEEDS = {"passt": "passt", "network": "nft", "qemu-socket": "qemu-system-x86_64", "qemu-stream": "qemu-system-x86_64"}


def test_two_machines_find_each_other():
    import test_lan as project
    if project.WHY:
        pytest.skip(project.WHY)
    s = project.Scenes()
    r = s.result("machines", guest_files("busybox"))
    assert r["two by name"] and r["outside"] and r["mtu"] == "1400", r
    assert r["addresses"] == r["again"] and r["trusted"] == ["two"]
    assert r["saved"] == [[True, False], [False, True]]
    assert r["killed"] == [] and r["left"] == project.NOTHING


def missing(wire=None):
    for program in ("iperf3", "ip", "cpio", NEEDS.get(wire, "ip")):
        if not shutil.which(program, path=PATH):
            return f"{program} is not installed"
    if wire is None and subprocess.run([*UNSHARE, "sh", "-c", "test -w /dev/net/tun && ip link add type veth"],
                                       capture_output=True).returncode:
        return "no name spaces, pairs of interfaces or taps here"
    return None


def play(limit, program, *words):
    """What it has found with a guest, in name spaces of its own."""
    why = missing()
    if why:
        pytest.skip(why)
    r = subprocess.run([*UNSHARE, sys.executable, os.path.join(HERE, program), guest_files("busybox"), *words],
                       capture_output=True, text=True, timeout=limit * SLOW, stdin=subprocess.DEVNULL)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout.splitlines()[-1])


def iperf(choice, wires, limit):
    return play(limit, "wirelab.py", choice, *(w for w in wires if not missing(w)))


@pytest.fixture(scope="module")
def short():
    """Two guests, and all wires but those to QEMU's, which boot longer."""
    return iperf("short", [w for w in WIRES if not w.startswith("qemu")], 90)


@pytest.fixture(scope="module")
def full():
    return iperf("full", WIRES, 400)


def arrived(results, wire, runs):
    if missing(wire):
        pytest.skip(missing(wire))
    found = {run: results[" ".join((wire, *run))] for run in runs}
    assert all(isinstance(n, int) and n > 0 for n in found.values()), found


@pytest.mark.parametrize("wire", [w for w in WIRES if not w.startswith("qemu")])
def test_data_arrives(short, wire):
    arrived(short, wire, SHORT)


def test_nothing_outlives_its_machine(short):
    assert short["left"] == []


@pytest.mark.slow
@pytest.mark.parametrize("wire", WIRES)
def test_data_arrives_by_each_protocol(full, wire):
    arrived(full, wire, FULL)


def test_the_guest_says_which_queue():
    """By its table, its key, and what it wants hashed."""
    for what, (came, should) in play(90, "steering.py").items():
        # There may be a few that the host sends itself.
        assert all(s <= c <= s + 4 for c, s in zip(came, should)), (what, came, should)


def test_a_guest_gets_what_qemu_gives():
    """Of a card's features, by the same back end."""
    if not shutil.which("qemu-system-x86_64", path=PATH):
        pytest.skip("qemu-system-x86_64 is not installed")
    found = play(180, "features.py")
    ours, theirs = found["tap"]
    assert theirs and {n: ours.get(n) for n in theirs} == theirs
    # QEMU's user network does no work on frames; ours takes it.
    ours, theirs = found["user"]
    assert theirs and all(n in ours and (ours[n] == v or v == "off") for n, v in theirs.items()), (ours, theirs)
    assert {"tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-tcp6-segmentation"} <= {n for n, v in ours.items() if v == "on"}
