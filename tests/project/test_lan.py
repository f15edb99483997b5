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
UNSHARE = ["timeout", "-s", "KILL", "120", "unshare", "-rnmp", "--mount-proc", "--kill-child", "-f"]


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

    def __init__(self, lab=LAB, unshare=lambda scene: UNSHARE):
        self.lab, self.unshare = lab, unshare
        self.started = {}

    def start(self, *scene):
        if scene not in self.started:
            self.started[scene] = subprocess.Popen([*self.unshare(scene[0]), sys.executable, self.lab, *scene], stdout=subprocess.PIPE,
                                                   stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)

    def result(self, *scene):
        self.start(*scene)
        p = self.started[scene]
        if isinstance(p, subprocess.Popen):
            out, err = p.communicate(timeout=120)
            assert p.returncode == 0, err
            p = self.started[scene] = json.loads(out.splitlines()[-1])
        return p


def scenes_of(lab, unshare=lambda scene: UNSHARE):
    """A fixture: the scenes of a module, those of tests that are not slow begun at once. `unshare`: with which command each."""
    @pytest.fixture(scope="module")
    def scenes(request):
        s = Scenes(lab, unshare)
        for item in request.session.items:
            first = item.get_closest_marker("scene") if not item.get_closest_marker("slow") else None
            if first and item.module is request.module:
                s.start(*first.args)
        return s
    return scenes


scenes = scenes_of(LAB)


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
# Without what a row stands on it fails, or what it forbids is reached: the pairs that change, and to what.
IP4, IP6 = "4", "6"
BROKEN = {
    "nat": {
        "in": {"outside>a": YES},
        "cable": {"a>b": NO},
        "gateway": {"a>host": NO, "host>a": NO, "a>outside": NO},
        "forwarding": {"a>outside": NO},
        "masquerade ip": {"a>outside": IP6}, "masquerade ip6": {"a>outside": IP4},
        "out ip": {"a>outside": IP6}, "out ip6": {"a>outside": IP4},
        "input ip": {"a>host": IP6}, "input ip6": {"a>host": IP4, "host>a": IP4, "a>outside": IP4},
        "table": {"outside>a": YES},
    },
    "isolated": {
        "cable": {"a>b": NO},
        "host filter": {"a>host": YES, "host>a": YES, "a>outside": YES, "outside>a": YES},
    },
    "routed": {
        "in ip": {"outside>a": IP6}, "in ip6": {"outside>a": IP4},
        "cable": {"a>b": NO},
        "gateway": {"a>host": NO, "host>a": NO, "a>outside": NO, "outside>a": NO},
        "forwarding": {"a>outside": NO, "outside>a": NO},
        "way back": {"a>outside": NO, "outside>a": NO},
        "out ip": {"a>outside": IP6, "outside>a": IP6}, "out ip6": {"a>outside": IP4, "outside>a": IP4},
        "input ip": {"a>host": IP6}, "input ip6": {"a>host": IP4, "host>a": IP4, "a>outside": IP4, "outside>a": IP4},
    },
    "bridged": {
        "cable": {"a>b": NO},
        "uplink": {"a>outside": NO, "outside>a": NO},
        "host's addresses": {"a>host": NO, "host>a": NO},
    },
}
# The first is removed in `make check`, too; what does not come back must be the last.
FIRST = {"nat": "in", "isolated": "host filter", "routed": "in ip", "bridged": "uplink"}


def expect(found, row):
    wanted = {f"{pair} {p}{family}": family in reached for pair, reached in zip(PAIRS, row) for p in PROTOCOLS for family in "46"}
    assert found == wanted, {k: v for k, v in found.items() if wanted.get(k) != v}


def without(model, what):
    row = dict(zip(PAIRS, MODELS[model]), **BROKEN[model][what] if what else {})
    return [row[pair] for pair in PAIRS]


@pytest.mark.parametrize("model", [pytest.param(m, marks=pytest.mark.scene("rows", m, FIRST[m])) for m in MODELS])
def test_models(scenes, model):
    found = scenes.result("rows", model, FIRST[model])
    for what in ("", FIRST[model]):
        expect(found[what], without(model, what))


def test_each_row_stands_on_something():
    for model, reached in MODELS.items():
        for n, pair in enumerate(PAIRS):
            changed = {f for row in BROKEN[model].values() for f in "46" if (f in row.get(pair, reached[n])) != (f in reached[n])}
            assert changed == {"4", "6"}, (model, pair)


@pytest.mark.scene("routed_without_way_back")
def test_routed_needs_a_way_back(scenes):
    expect(scenes.result("routed_without_way_back"), (YES, YES, YES, NO, NO))


@pytest.mark.slow
@pytest.mark.parametrize("model", list(MODELS))
def test_rows_fail_without_what_they_stand_on(scenes, model):
    for m in MODELS:
        scenes.start("rows", m, *BROKEN[m])
    found = scenes.result("rows", model, *BROKEN[model])
    assert set(found) == {"", *BROKEN[model]}
    for what, table in found.items():
        expect(table, without(model, what))


# --- machines ---

NOTHING = {"links": [], "tables": [], "files": [], "forward": ["0", "0"], "servers": []}


@pytest.mark.scene("spoofed")
def test_filters(scenes):
    r = scenes.result("spoofed")
    good = [n for n in r["all"] if n.startswith("good")]
    assert [n for n in r["with"] if not n.startswith("many")] == good
    # 16 addresses of its own making, two of which are used by the good ones.
    assert len([n for n in r["with"] if n.startswith("many")]) in (14, 15)
    assert r["first"] == ["made"] and r["stolen"] == []
    # 30 at once, and ten a second.
    assert 30 <= r["asking"] < 50
    assert r["refused"] >= 20
    # Each of them would arrive.
    assert r["without"] == r["all"]


def check_configured(r, dns):
    address, router, server, domain, mtu = r["bound"]
    base = address.rsplit(".", 1)[0]
    assert (router, server, domain, mtu) == (base + ".1", base + dns, "lab.internal", "1400")
    assert address == r["kept"]["address"] and r["six"] == [r["kept"]["address6"]]
    assert r["names"] == {"b": [r["b"]["4"]], "b.lab.internal": [r["b"]["4"]], "a": [address], "nobody": [], "gateway": [r["bound"][1]],
                          "gateway.lab.internal": [r["b"]["6"].split(":0:")[0] + "::1"]}
    assert [x["address"] for x in r["leases"] if x["family"] == 4 and x["name"] == "a" and x["expires"]] == [address]
    assert all(r["table"].values()), r["table"]
    assert r["served"] == 1 and r["left"] == NOTHING


@pytest.mark.scene("configured")
def test_addresses_and_names(scenes):
    check_configured(scenes.result("configured"), ".2")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("dnsmasq", path=os.environ["PATH"] + ":/usr/sbin:/sbin"), reason="dnsmasq is not there")
def test_dnsmasq_instead(scenes):
    check_configured(scenes.result("configured", "dnsmasq"), ".1")


@pytest.mark.scene("published")
def test_published_ports(scenes):
    r = scenes.result("published")
    errors = r.pop("errors")
    own = {k for k in r if k.startswith("own ") and k != "own broadcast"}  # with and without br_netfilter, where it can be chosen
    assert own
    assert {k for k, v in r.items() if v} == {f"{who} tcp{f}" for who in ("outside", "host", "b") for f in "46"} | own | {"outside udp6"}
    assert "port 8080 leads to network" not in errors[0] and "port 9090 leads to network two already" in errors[1]


@pytest.mark.scene("cut")
def test_connections_end_with_what_let_them_in(scenes):
    r = scenes.result("cut")
    flows = lambda *names: sorted(f"{n} {f}" for n in names for f in "46")
    assert r["before"] == flows("by 8081", "by 8082", "a>b", "b>a", "a>outside")
    assert r["unpublished"] == flows("by 8082", "a>b", "b>a", "a>outside")
    assert r["parted"] == flows("by 8082", "a>outside")
    before, after, deleted = r["followed"]
    assert r["deleted"] == [] and before == after + 2 and deleted == 0, r["followed"]


@pytest.mark.scene("routes")
def test_routes_between_networks(scenes):
    r = scenes.result("routes")
    assert not any(r["before"].values()) and all(r["joined"].values()) and not any(r["after"].values())


# --- what is left ---


@pytest.mark.parametrize("command", [pytest.param("create", marks=pytest.mark.scene("killed", "create", "5")),
                                     pytest.param("bridged", marks=pytest.mark.slow)])
def test_killed_commands(scenes, command):
    assert scenes.result("killed", command, "5")["bad"] == []


@pytest.mark.slow
@pytest.mark.parametrize("command", ["create", "start", "stop", "delete", "edit", "bridged", "unbridged"])
def test_commands_killed_at_many_points(scenes, command):
    assert scenes.result("killed", command, "25")["bad"] == []


@pytest.mark.parametrize("how", [pytest.param(h, marks=pytest.mark.scene("server_killed", h)) for h in ("gone", "held")])
def test_killed_server(scenes, how):
    """Also one whose socket is still there, as on a busy host: nobody answers by it."""
    r = scenes.result("server_killed", how)
    assert (r["first"], r["again"], r["other"], r["known"], r["held"]) == (1, 1, True, ["a", "b"], how == "held")
    expect(r["table"], MODELS["nat"])


@pytest.mark.parametrize("which", [pytest.param("run", marks=pytest.mark.scene("files_lost", "run")),
                                   *(pytest.param(w, marks=pytest.mark.slow) for w in ("networks", "run+networks"))])
def test_lost_files(scenes, which):
    r = scenes.result("files_lost", which)
    assert r["left"] == NOTHING
    if which == "run+networks":
        assert not any(r["table"].values()) and r["served"] == 0  # nobody knows what it was: removed
    else:
        expect(r["table"], MODELS["nat"])
        assert r["served"] == 1 and r["deleted"] == 0
    if which == "run":
        assert r["cables"]


DNSMASQ = pytest.mark.skipif(not shutil.which("dnsmasq", path=os.environ["PATH"] + ":/usr/sbin:/sbin"), reason="dnsmasq is not there")


@pytest.mark.parametrize("dns,kept", [pytest.param("own", "lab.leases", marks=pytest.mark.scene("rebooted", "own")),
                                      pytest.param("dnsmasq", "lab.dnsmasq", marks=[pytest.mark.scene("rebooted", "dnsmasq"), DNSMASQ])])
def test_leases_outlive_a_boot(scenes, dns, kept):
    r = scenes.result("rebooted", dns)
    assert r == {"leased": True, "kept": [kept], "written": True, "again": True, "lied": True, "deleted": [], "left": NOTHING}


@pytest.mark.parametrize("kind,error", [pytest.param(*k, marks=pytest.mark.scene("unkept", k[0])) for k in
                                        (("full", "No space left"), ("readonly", "Read-only"))])
def test_leases_that_cannot_be_kept(scenes, kind, error):
    r = scenes.result("unkept", kind)
    assert r.pop("left") == NOTHING
    for status, words, count in r.values():
        assert (status, count) == (0, True) and words.count("will not outlive a boot") == 1 and error in words


@pytest.mark.scene("full", "create")
def test_full_directory(scenes):
    for kind in ("create", "readonly", "stop"):
        scenes.start("full", kind)
    for kind, error in (("create", "No space left"), ("readonly", "Read-only")):
        r = scenes.result("full", kind)
        assert r["status"] == 1 and error in r["error"] and r["left"] == {**NOTHING, "begun": False} and r["defined"] == []
    r = scenes.result("full", "stop")
    assert r["status"] == 0 and r["left"] == {**NOTHING, "begun": True} and r["defined"] == ["lab.json"]


@pytest.mark.scene("foreign")
def test_what_is_not_ours(scenes):
    r = scenes.result("foreign")
    assert r["same"] and r["first"]["forward"] == ["1", "0"]
    assert r["tables"] == ["table inet mine", "table inet vireoother", ""]
    for error, words in zip(r["errors"], ("the name vr-lab is taken", "10.77.3.0/24 overlaps a route of the host by up0",
                                          "10.78.0.128/25 overlaps")):
        assert words in error
