"""`vireo net`: who reaches whom in each model, by both families and all of TCP, UDP and ICMP; what breaks each row of it;
what machines cannot send; what is left after kill -9, lost files and delete. All of it in name spaces (lanlab.py): nothing
of this host is touched and nothing is sent anywhere.
"""
import json
import os
import shutil
import subprocess
import sys

import pytest

from lanlab import CABLE, PROTOCOLS

LAB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lanlab.py")
UNSHARE = ["timeout", "-s", "KILL", "60", "unshare", "-rn", "--kill-child", "-f"]


def possible():
    if not shutil.which("nft", path=os.environ["PATH"] + ":/usr/sbin:/sbin") or not os.path.exists(CABLE):
        return "nft or lan_cable is not there"
    r = subprocess.run([*UNSHARE, "sh", "-c", "test -w /proc/sys/net/ipv4/ip_forward && test -w /dev/net/tun && "
                        "ip link add type bridge"], capture_output=True)
    return None if r.returncode == 0 else "no name spaces, bridges or taps here"


WHY = possible()
pytestmark = pytest.mark.skipif(WHY is not None, reason=str(WHY))


class Scenes:
    """Scenarios that run beside each other; their results when they are asked for."""

    def __init__(self):
        self.started = {}

    def start(self, *scene):
        if scene not in self.started:
            self.started[scene] = subprocess.Popen([*UNSHARE, sys.executable, LAB, *scene], stdout=subprocess.PIPE,
                                                   stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)

    def result(self, *scene):
        self.start(*scene)
        p = self.started[scene]
        if isinstance(p, subprocess.Popen):
            out, err = p.communicate(timeout=60)
            assert p.returncode == 0, err
            p = self.started[scene] = json.loads(out.splitlines()[-1])
        return p


@pytest.fixture(scope="module")
def scenes(request):
    s = Scenes()
    for item in request.session.items:
        first = item.get_closest_marker("scene")
        if first and item.module is request.module:
            s.start(*first.args)
    return s


# Who reaches whom, "4" or "6" where only by one family.
YES, NO = "46", ""
MODELS = {
    #              a>b  a>host host>a a>outside outside>a
    "nat":      (YES, YES, YES, YES, NO),
    "isolated": (YES, NO, NO, NO, NO),
    "routed":   (YES, YES, YES, YES, YES),
    "bridged":  (YES, YES, YES, YES, YES),
}
PAIRS = ("a>b", "a>host", "host>a", "a>outside", "outside>a")
# Without what a row stands on it must fail, or what it forbids be reached.
BROKEN = {
    ("nat", "no-forward-filter"): (YES, YES, YES, YES, YES),
    ("nat", "no-masquerade"): (YES, YES, YES, NO, NO),
    ("nat", "no-forwarding"): (YES, YES, YES, NO, NO),
    ("nat", "no-gateway"): (YES, NO, NO, NO, NO),
    ("nat", "no-cable"): (NO, YES, YES, YES, NO),
    ("isolated", "no-host-filter"): (YES, YES, YES, YES, YES),
    ("isolated", "no-cable"): (NO, NO, NO, NO, NO),
    ("routed", "no-forwarding"): (YES, YES, YES, NO, NO),
    ("routed", "no-gateway"): (YES, NO, NO, NO, NO),
    ("bridged", "no-uplink"): (YES, YES, YES, NO, NO),
}


def expect(found, row):
    wanted = {f"{pair} {p}{family}": family in reached for pair, reached in zip(PAIRS, row) for p in PROTOCOLS for family in "46"}
    assert found == wanted, {k: v for k, v in found.items() if wanted.get(k) != v}


@pytest.mark.parametrize("model", [pytest.param(m, marks=pytest.mark.scene("model", m)) for m in MODELS])
def test_models(scenes, model):
    expect(scenes.result("model", model), MODELS[model])


@pytest.mark.scene("routed_without_way_back")
def test_routed_needs_a_way_back(scenes):
    expect(scenes.result("routed_without_way_back"), (YES, YES, YES, NO, NO))


@pytest.mark.slow
@pytest.mark.parametrize("model,how", list(BROKEN))
def test_rows_fail_without_what_they_stand_on(scenes, model, how):
    expect(scenes.result("broken", model, how), BROKEN[model, how])
