"""
What a hostile machine sends into its cable costs nobody else: all the while others reach, and are reached by, whom they did
before, and nothing that the host keeps of the network grows. VIREO_STORM=10000000 is how many frames of each kind but forged MACs,
of which there are as many in any case (`pytest -s -m slow tests/project/test_lan_cables.py` prints what it has measured). Name spaces
as in test_lan.py.
"""
import os
import subprocess
import sys

import pytest

import test_lan
from test_lan import UNSHARE

LAB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lancablescenes.py")
COUNT = os.environ.get("VIREO_STORM", "60000")
# A machine's part of the connections that the host can follow (src/lan/rules.c).
SHARE = 16
CONNECT = "connections", "connections6", "connections to the host", "neighbors"
pytestmark = test_lan.pytestmark


def storms(patience, *scene):
    r = subprocess.run(["timeout", "-s", "KILL", str(patience), *UNSHARE[4:], sys.executable, LAB, "storms", *scene],
                       capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return test_lan.json.loads(r.stdout.splitlines()[-1])


def check(r):
    before = r["before"]
    assert all(r["table"].values())
    with open("/proc/sys/net/netfilter/nf_conntrack_max") as f:
        share = max(256, int(f.read()) // SHARE)
    connections = before["connections"] + 200
    for name, storm in r["storms"].items():
        print(name, storm)
        after = storm["after"]
        # What is sent to b itself fills b's cable.
        assert storm["lost"] == [] or name == "connections to b", (name, storm)
        assert after["macs"] <= before["macs"] + 4 and after["neighbors"] <= before["neighbors"] + 10, (name, storm)
        assert after["server"] <= before["server"] + 512, (name, storm)
        connections += 22 * storm["rounds"]
        # Those of all kinds are one machine's; some kinds make none.
        assert after["connections"] <= connections + (share if name in CONNECT else 0), (name, storm)
        if name in CONNECT:
            connections = max(connections, after["connections"])


def test_storms():
    check(storms(60, "1500", "macs", "sources", "arp", "arp answers", "nd answers", "neighbors", "neighbors6", "connections to b",
                 "fragments", "overlaps", "fragments6", "tags", "wrong sums", "runts", "runts6", "giants"))


@pytest.mark.slow
def test_a_machine_has_its_share_of_connections():
    check(storms(60, "20000", "connections"))


@pytest.mark.slow
def test_ten_million_macs():
    """Each another one."""
    r = storms(1500, "10000000", "macs")
    check(r)
    assert int(r["storms"]["macs"]["frames"][0]) == 10000000


@pytest.mark.slow
def test_long_storms():
    check(storms(24 * 3600, COUNT))
