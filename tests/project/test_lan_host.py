"""What a network does to its host, beside what it is for: nothing. Name spaces as in test_lan.py, whose host has more in it."""
import os
import shutil
import subprocess

import pytest

import test_lan
from test_lan import NOTHING, UNSHARE

LAB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lanhostscenes.py")
# All users are there.
AS_ROOT = [w.replace("-rn", "-n") for w in UNSHARE]
DNSMASQ = pytest.mark.skipif(not shutil.which("dnsmasq", path=os.environ["PATH"] + ":/usr/sbin:/sbin"), reason="dnsmasq is not there")
pytestmark = test_lan.pytestmark
scenes = test_lan.scenes_of(LAB, lambda scene: AS_ROOT if scene in ("jailed", "dnsmasq_jailed", "processes", "endless") else UNSHARE)


@pytest.mark.skipif(os.geteuid() != 0, reason="other users are root's only")
@pytest.mark.scene("jailed")
def test_the_servers_are_nobody_else_and_see_nothing(scenes):
    r = scenes.result("jailed")
    uid = r["uid"][0]
    assert int(uid) >> 24 == 0x7f and not r["ended"] and r["others"] and int(uid) not in r["others"]
    assert (r["uid"], r["gid"], r["groups"], r["capabilities"].strip("0")) == ([uid] * 4, [uid] * 4, [], "")
    assert (r["root"], r["leases"], r["mounts"], r["own"]) == (["leases"], int(uid), 2, 0)
    assert r["left"] == NOTHING


@pytest.mark.skipif(os.geteuid() != 0, reason="other users are root's only")
@DNSMASQ
@pytest.mark.scene("dnsmasq_jailed")
def test_dnsmasq_is_nobody_else(scenes):
    r = scenes.result("dnsmasq_jailed")
    rights = sum(1 << n for n in (10, 12, 13))  # what its sockets take
    assert r["uid"] == r["uid"][:1] * 4 and int(r["uid"][0]) >> 24 == 0x7f and not r["ended"] and r["no new"] == "1"
    assert not r["capabilities"] & ~rights and not r["bounds"] & ~rights, (hex(r["capabilities"]), hex(r["bounds"]))
    assert r["named"] and r["lease"] and r["left"] == NOTHING


@DNSMASQ
@pytest.mark.scene("resolver")
def test_dnsmasq_answers_its_network_alone(scenes):
    r = scenes.result("resolver")
    for to in ("198.51.100.1", "2001:db8:9::1"):
        assert r[to] == ["a tcp", "a udp", "host tcp", "host udp"]
    # dnsmasq looks at the interface, too; what is not for it does not come so far.
    assert r["knocks"] == {"a": [[True, 1], [True, 1]], "outside": [[False, 0], [False, 0]]}
    assert r["outside reaches"]  # the host's own services, which are its own business


@pytest.mark.scene("forwarding")
def test_switches_of_the_host_come_back(scenes):
    r = scenes.result("forwarding")
    assert r["before"] == {}
    assert (r["while"]["ipv4/ip_forward"], r["while"]["ipv6/conf/all/forwarding"]) == ("1", "1")
    # Who did not listen to routers for that it forwards does not listen now.
    assert (r["while"]["ipv6/conf/up0/accept_ra"], r["while"]["ipv6/conf/d0/accept_ra"]) == ("2", "1")
    assert r["after"] == {}
    assert r["changed"] == {"ipv4/conf/d1/forwarding": "0", "ipv4/conf/all/accept_redirects": "1"}
    assert r["left"] == NOTHING


@pytest.mark.scene("relied")
def test_forwarding_stays_on_for_others(scenes):
    four, six = [f"IPv{n} forwarding stays on, for others (%s)" for n in "46"]
    assert scenes.result("relied") == {
        "bridge": ["1", "0", "1", [four % "x0"], []], "bridge6": ["0", "1", "2", [six % "x0"], []], "pair": ["1", "0", "1", [four % "x0"], []],
        "nat": ["1", "0", "1", [four % "table x"], []], "nat6": ["0", "1", "2", [six % "table x"], []],
        "both": ["1", "1", "2", [four % "table x", six % "table x"], []],
        **{name: ["0", "0", "1", [], []] for name in ("machine", "filters", "nobody")}}


@pytest.mark.scene("led")
def test_others_lead_to_machines_that_anybody_reaches(scenes):
    assert scenes.result("led") == {"routed4": True, "routed6": True, "nat4": False, "nat6": False,
                                    "published": [True, True], "no more": [False, False]}


@pytest.mark.scene("bindings")
def test_addresses_of_their_own_making_outlive_rules(scenes):
    assert scenes.result("bindings") == {"first": ["made"], "free": ["right"], "stolen": [], "again": ["made"],
                                         "stolen while away": [], "back": ["made"], "host": ["No buffer space available", ["said"]]}


@pytest.mark.scene("reused")
def test_names_of_taps_count_in_our_bridge_only(scenes):
    assert scenes.result("reused") == {"before": True, "still": True, "heard": True}


@pytest.mark.scene("uplink")
def test_what_an_uplink_has_moves_and_comes_back(scenes):
    r = scenes.result("uplink")
    assert r["count"] > 15 and r["gets"] == ["vr-lab"] * 7
    assert (r["still"], r["moved"], r["after"], r["down"]) == ([], [], ["2001:db8:55::/48 via 2001:db8::2 dev up0 metric 5"], [False, ["198.18.1.1", "2001:db8:18::1"]])
    assert (r["killed"], r["booted"]) == ([], ["198.51.100.9/24"])
    said = "vireo: warning: lan: lab: e0 is down, where the kernel has no routes: those that it had are not given back\n"
    assert r["cut"] == [[0, said, states, False, ["198.18.1.1", "2001:db8:18::1"]] for states in (["down"], [])]
    assert r["older"] == ["", ["172.21.0.0/16", "2001:db8:56::/48", "nexthop", "nexthop"]]
    assert "rules of its firewall that name up0 do not see what comes by vr-lab" in r["note"]
    assert "up0 has a route by a nexthop object" in r["refused"] and r["left"] == NOTHING
    assert "e0 has more routes than can be moved: 10002" in r["many"][0] and r["many"][1] == "10001"


@pytest.mark.scene("routers")
def test_an_uplink_believes_the_same_routers_as_before(scenes):
    r = scenes.result("routers")
    # Seconds; default routes, of which one ends and none is made part of another; and whose it is.
    believed = lambda life: [life, 2, True, False, [0x45]]
    assert (r["first"], r["before"], r["moved"]) == ([0, 1, False, False, []], believed(2000), believed(2000))
    assert (r["goes on"], r["forwards"], r["after"]) == (believed(3000), believed(4000), believed(4000))
    assert r["ended"] == [5000, 1, False, False, []]
    assert (r["set"], r["copied"]) == ({}, [])
    assert r["not believed"] == [0, 1, False, False, []]
    assert (r["kept"], r["off"]) == ([r["not believed"], [], True], "1")
    assert r["left"] == NOTHING


@pytest.mark.scene("temporary")
def test_temporary_addresses_do_not_pile_up(scenes):
    r = scenes.result("temporary")
    assert r["made"] == [["mngtmpaddr", "temporary"]] * 5 and r["left"] == NOTHING


@pytest.mark.scene("unlike")
def test_hosts_whose_new_interfaces_are_unlike_others(scenes):
    r = scenes.result("unlike")
    assert len(r["reached"]) == 6 and all(r["reached"].values()), r["reached"]
    assert (r["switches"], r["own"]) == (["1", "1"], True)
    # A bridge has no more than any of its ports: a machine does not make the host's link narrow.
    assert r["widths"] == [[9000, 9000, 9000], [1400, 1400], [9000, 9000]]
    assert r["born"] == [[1400, "up"], [1500, "up"], [1400, "up"], [9000, "up"]]
    assert (r["old"], r["both"], r["alone"]) == ([True, False], [False, True], [False, True])


@pytest.mark.scene("dropped")
def test_a_firewall_that_drops_is_named_by_all_that_start_something(scenes):
    accept, drop = scenes.result("dropped")
    assert drop == {"create lab": 1, "edit lab": 1, "start lab": 1, "list": 0, "run": 1, "show": 1, "nobody": [0, True], "down": 0}
    assert accept == {**{k: 0 for k in drop}, "nobody": [0, True]}


# Of a network that is nat, isolated or routed: what does not work beside Docker's firewall where bridged frames pass it.
INSIDE = ["a>b 4", "a>b 6", "lease"]
OUTWARDS = ["a>outside 4", "a>outside 6"]
FAILS = {"nat": sorted([*INSIDE, *OUTWARDS, "router"]), "isolated": INSIDE, "routed": sorted([*INSIDE, *OUTWARDS, "router", "outside>a 4", "outside>a 6"]),
         "bridged": ["a>b 4", "a>b 6", *OUTWARDS], "nat --dns dnsmasq": ["a>b 4", "a>b 6", *OUTWARDS]}
BRIDGED = pytest.mark.skipif(not os.path.isdir("/proc/sys/net/bridge"), reason="br_netfilter is not there")
TOOLS = {"docker": "iptables -I DOCKER-USER ", "legacy": "iptables-legacy -I DOCKER-USER ", "nft": "nft 'insert rule inet fw ", "firewalld": "firewall-cmd "}


def has_legacy():
    """The kernel may have none of these tables."""
    try:
        return not subprocess.run([*UNSHARE, "sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; iptables-legacy -S && ip6tables-legacy -S"], capture_output=True).returncode
    except OSError:
        return False


LEGACY = pytest.mark.skipif(not has_legacy(), reason="iptables-legacy does nothing here")


@BRIDGED
@DNSMASQ
@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.scene("firewalled", k, "1"), *([LEGACY] if k == "legacy" else [])]) for k in TOOLS])
def test_what_is_said_to_help_beside_a_firewall_helps(scenes, kind):
    if kind == "docker" and not shutil.which("iptables-nft", path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
        pytest.skip("iptables-nft is not there")
    r = scenes.result("firewalled", kind, "1")
    # dnsmasq on the host is reached by the host's input, which Docker leaves open.
    served = [] if kind in ("docker", "legacy") else ["lease"]
    assert {m: f["fails"] for m, f in r.items()} == {**FAILS, "nat --dns dnsmasq": FAILS["nat --dns dnsmasq"] + served}
    for model, found in r.items():
        assert found["said"] and all(found["printed"]), (model, found)
        assert any(TOOLS[kind] in text for text in found["said"]) or (kind, model) == ("firewalld", "bridged")
        assert (found["still said"], found["still fails"]) == ([], []), model


EBTABLES = pytest.mark.skipif(not shutil.which("ebtables-nft", path=os.environ["PATH"] + ":/usr/sbin:/sbin"), reason="ebtables-nft is not there")


@DNSMASQ
@EBTABLES
@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.scene("firewalled", k, "-")) for k in ("frames", "ebtables")])
def test_what_is_said_to_help_beside_filters_of_bridges_helps(scenes, kind):
    r = scenes.result("firewalled", kind, "-")
    assert {m: f["fails"] for m, f in r.items()} == {**FAILS, "nat --dns dnsmasq": FAILS["nat"]}
    for model, found in r.items():
        assert found["said"] and all(found["printed"]), (model, found)
        assert all({"frames": "nft 'insert rule bridge fw ", "ebtables": "ebtables -t "}[kind] in text for text in found["said"])
        assert (found["still said"], found["still fails"]) == ([], []), model


@DNSMASQ
@EBTABLES
@pytest.mark.scene("firewalled", "others", "-")
def test_filters_of_bridges_for_machines_of_others_are_not_named(scenes):
    r = scenes.result("firewalled", "others", "-")
    assert {m: (f["said"], f["still fails"]) for m, f in r.items()} == {m: ([], []) for m in FAILS}


@DNSMASQ
@pytest.mark.scene("firewalled", "firewalld", "0")
def test_a_firewall_that_sees_no_frames_of_bridges(scenes):
    r = scenes.result("firewalled", "firewalld", "0")
    assert {m: (f["fails"], len(f["said"])) for m, f in r.items()} == {
        "nat": (OUTWARDS, 1), "isolated": ([], 0), "routed": ([*OUTWARDS, "outside>a 4", "outside>a 6"], 1), "bridged": ([], 0),
        "nat --dns dnsmasq": ([*OUTWARDS, "lease"], 2)}
    assert {m: (f["still said"], f["still fails"]) for m, f in r.items()} == {m: ([], []) for m in r}


NAT, ISOLATED, ROUTED = "back inside out published", "inside", "back in inside out"
NOTICED = {
    "drops": (NAT, ISOLATED, ROUTED), "drops 00": ("back out published", "", "back in out"),
    "drops 10": ("back inside4 out published", "inside4", "back in inside4 out"),
    "drops 01": ("back inside6 out published", "inside6", "back in inside6 out"), "accepts": ("", "", ""),
    "last rule": ("inside", "inside", "inside"), "last rule of another chain": (NAT, ISOLATED, ROUTED),
    "returns": ("", "", ""), "goes and ends": ("inside", "inside", "inside"), "some of it": ("", "", ""), "our name": ("", ISOLATED, ROUTED),
    "our names": ("", "", ""), "a set": ("", ISOLATED, "back in"), "a set of beginnings": ("", "", ""),
    "a map": ("back published", ISOLATED, ROUTED), "pairs": ("", ISOLATED, ROUTED), "a number": ("back published", ISOLATED, ROUTED),
    "others not": ("", "", ""), "us not": ("inside out", "", ""), "the way out": ("inside published", ISOLATED, "in inside"),
    "some of the way out": ("back inside published", ISOLATED, "back in inside"), "some of ours": ("", ISOLATED, ROUTED), "some of ours elsewhere": (NAT, ISOLATED, ROUTED),
    "a mark": (NAT, ISOLATED, ROUTED), "a family": ("back6 inside6 out6 published6", "inside6", "back6 in6 inside6 out6"),
    # What may be let through is not said to be lost.
    **{name: ("", "", "") for name in ("no mark", "protocols", "a kind", "a rate", "iptables protocols", "iptables not outside",
                                       "iptables bridged", "iptables marks", "iptables other ports")}, "ICMP": (NAT, ISOLATED, ROUTED),
    # Who has no address yet is in no subnet.
    "subnets": ("back6 inside out6 published6", ISOLATED, "back6 in6 inside out6"), "a part of a subnet": ("back6 inside out6 published6", ISOLATED, "back6 in6 inside out6"),
    "translated": ("back inside out", ISOLATED, ROUTED), "iptables translated": ("back inside out", ISOLATED, ROUTED), "iptables their sources": ("inside", "", "inside"),
    **{name: ("", "", "") for name in ("may return", "may go and end", "iptables guests", "all in a set", "a set that grows", "ports by a map", "sleeps")}, "drops by a map": ("inside out", "", ""), "may return to a drop": ("inside", "inside", "inside"),
    **{name: ("inside published", ISOLATED, "in inside") for name in (
        "another way v0", "another way up0", "a half v0", "a half up0", "both ways v0", "both ways up0", "a worse way up0")},
    "a worse way v0": ("inside out published", ISOLATED, "in inside out"),
    # Who may have been marked by then, or is followed by nobody.
    "a mark that may be set": ("inside6",) * 3, "who may not be followed": ("inside4",) * 3, "iptables marked": ("inside",) * 3, "iptables not followed": ("inside",) * 3,
    **{name: (NAT, ISOLATED, ROUTED) for name in ("a mark that others have", "iptables marked of others")},
    # What machines say to each other, and neighbor discovery, is in no state.
    "followed": ("inside", "inside6", "inside"), "pairs behind a name": ("inside out6", "inside", "inside out6"), "a counter by name": ("inside out", "", ""), "iptables goes on": ("inside out", "", ""),
    "iptables drops": (NAT, ISOLATED, ROUTED), "iptables rejects": (NAT, ISOLATED, ROUTED), "iptables ours": ("", "", "out"),
    "iptables chains": ("back published", ISOLATED, ROUTED), "iptables subnets": ("", "", "out"), "iptables mangle": ("inside out", "", ""),
    "iptables ports": ("inside",) * 3, "iptables counts": (NAT, ISOLATED, ROUTED), "iptables untracked": ("back", "", "back"), "iptables states": ("inside out published", ISOLATED, "in inside out"), "elsewhere": ("", "", ""),
}


@BRIDGED
@pytest.mark.skipif(not shutil.which("iptables-nft", path=os.environ["PATH"] + ":/usr/sbin:/sbin"), reason="iptables-nft is not there")
@pytest.mark.scene("noticed")
def test_what_firewalls_drop_is_noticed_and_nothing_else(scenes):
    r = {name: tuple(of.values()) for name, of in scenes.result("noticed").items()}
    assert r == NOTICED, {k: v for k, v in r.items() if v != NOTICED.get(k)}


@BRIDGED
@LEGACY
@pytest.mark.scene("noticed_legacy")
def test_what_tables_of_iptables_legacy_drop_is_noticed_and_nothing_else(scenes):
    r = scenes.result("noticed_legacy")
    (none, before), (left, after) = r.pop("none"), r.pop("left")
    assert set(none.values()) == set(left.values()) == {""}
    # Where there were none, there are none by having looked.
    assert (before, set(after)) == ([], {"filter", "mangle", "raw"})
    r = {name: tuple(of.values()) for name, of in r.items()}
    expected = {**{k.removeprefix("iptables "): v for k, v in NOTICED.items() if k.startswith("iptables ")},
                "six drops": (NAT, ISOLATED, ROUTED), "six some": ("inside out", "inside", "inside out"), "six protocols": ("", "", "")}
    assert r == expected, {k: v for k, v in r.items() if v != expected.get(k)}


@BRIDGED
@DNSMASQ
@pytest.mark.scene("asked")
def test_dhcp_is_lost_where_somebody_is_asked_for_it(scenes):
    r = scenes.result("asked")
    for family, what in (("inet", "inside4"), ("bridge", "server4")):
        assert r[family] == {"own": what, "off": "", "dnsmasq": "", "isolated": what}
    assert r["leases"] == {"own": False, "dnsmasq": True, "isolated": False}


# Of a network that is nat, isolated, nat with dnsmasq, bridged.
FRAMES_DROPPED = ("between server", "between server", "between", "arp back between in out")
DHCP_DROPPED = ("server4", "server4", "", "")
NOTHING_DROPPED = ("", "", "", "")
NOTICED_FRAMES = {
    "drops": FRAMES_DROPPED, "cables": ("server", "server", "", "arp back in out"), "apart": ("between",) * 4, "ARP": ("between4", "between4", "between4", "arp between4"),
    "no ARP": ("between server", "between server", "between", "back between in out"),
    "IPv4": ("between6 server6", "between6 server6", "between6", "back6 between6 in6 out6"), "pairs": ("between6 server", "between6 server", "between6", "back between6 in out6"),
    **{name: DHCP_DROPPED for name in ("not the servers", "DHCP", "DHCP's answers", "broadcasts", "ebtables DHCP", "ebtables chains")}, "post": ("server4", "server4", "", "arp out"),
    "in": ("arp out", "", "arp out served", ""), "out": ("arp back", "", "arp back leased4", ""), "another host": ("arp back", "", "arp back leased4", ""),
    "pre": ("arp between out server", "between server", "arp between out served", "arp between out"),
    "ebtables drops": FRAMES_DROPPED, "ebtables a subnet": ("between4", "", "", ""), "ebtables ARP": ("between4", "between4", "between4", "arp between4"),
    "ebtables IPv6": ("between6", "between6", "between6", "back6 between6 in6 out6"),
    **{name: NOTHING_DROPPED for name in (
        "accepts", "ports", "others", "DHCP of others", "questions only", "addresses", "a MAC", "in but", "in by name", "out answers", "ebtables no DHCP", "ebtables others",
        "ebtables ARP of others", "ebtables marks", "ebtables marks on", "ebtables a rate")},
}


@DNSMASQ
@EBTABLES
@pytest.mark.scene("noticed_frames")
def test_what_filters_of_bridges_drop_is_noticed_and_nothing_else(scenes):
    r = {name: tuple(of.values()) for name, of in scenes.result("noticed_frames").items()}
    assert r == NOTICED_FRAMES, {k: v for k, v in r.items() if v != NOTICED_FRAMES.get(k)}


@DNSMASQ
@pytest.mark.scene("noticed_input")
def test_what_firewalls_keep_from_dnsmasq_is_noticed(scenes):
    r = scenes.result("noticed_input")
    assert (r.pop("before"), r.pop("after")) == (False, [True, []])
    before, after = r.pop("world before"), r.pop("world after")
    assert any(before) and not all(before) and all(after)
    assert {name: of.pop("lab") for name, of in r.items()} == {
        "input drops": "discovery served", "input ports": "discovery", "input a range": "discovery", "input too few": "discovery served",
        "input not DHCP's": "discovery served4", "input rejects": "served", "input neighbors": "served", "input neighbors of others": "discovery served",
        "input neighbors of a link": "served",
        "output drops": "leased4", "output ordinary": "leased4", "output leases": "", "output inside": "", "output no connections": ""}
    assert {name for name, of in r.items() if of.pop("own") == "discovery"} == {
        "input " + name for name in ("drops", "ports", "a range", "too few", "not DHCP's", "neighbors of others")}
    assert all(of == {"iso": ""} for of in r.values())


@pytest.mark.skipif(os.geteuid() != 0, reason="so many rules are root's only")
@pytest.mark.scene("endless")
def test_endless_rules_take_no_time_and_break_nothing(scenes):
    r = scenes.result("endless")
    assert [(status, said) for status, said, _ in r.values()] == [(0, False), (0, False), (0, True)]
    assert all(took < 10 for *_, took in r.values()), r


@pytest.mark.scene("tables")
def test_tables_of_others_stay(scenes):
    r = scenes.result("tables")
    assert [e.split("vireo: ")[-1].strip() for e in r["errors"]] == [
        f"the table {t} of packet filters is somebody else's" for t in ("bridge vireo-bar", "inet vireo_forwarding")]
    assert (r["forwards"], r["between"]) == ("0", [])
    assert r["while"] == ["table bridge vireo-lab", "table inet vireo-lab"]
    assert r["after"] == ["table inet vireo_forwarding"]  # that somebody has deleted


@pytest.mark.scene("switches")
def test_machines_are_no_switches(scenes):
    assert scenes.result("switches") == ["good", "mpls", "pppoe", "raw"]


@DNSMASQ
@pytest.mark.skipif(os.geteuid() != 0, reason="other users are root's only")
@pytest.mark.scene("processes")
def test_dnsmasq_is_no_other_process_and_writes_little(scenes):
    r = scenes.result("processes")
    assert r["grown"] < 500
    assert (r["limited"], r["again"], r["same"], r["left"], r["fakes"]) == (4 << 20, 1, True, 0, [None, None])


@DNSMASQ
@pytest.mark.scene("greedy")
def test_dnsmasq_serves_others_beside_who_wants_all(scenes):
    assert scenes.result("greedy") == {"peace": True, "many MACs": True, "many DUIDs": True, "addresses": 1, "without dots": True, "words": [True, True],
                                       "names": ["good"]}


@pytest.mark.scene("scans")
def test_scans_do_not_fill_the_hosts_table(scenes):
    r = scenes.result("scans")
    assert all(r.pop("reached").values()) and all(r["made"].values()), r
    r.pop("made")
    assert set(r) == {"a up0", "a vr-two", "outside vr-two"} and all(n < 150 for n in r.values()), r
