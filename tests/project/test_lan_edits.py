"""Networks that change while machines are in them, wrong definitions, and hosts that others change, too. In name spaces, as
test_lan.py.
"""
import os

import pytest

import test_lan
from test_lan import NOTHING

LAB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "laneditscenes.py")
pytestmark = test_lan.pytestmark
scenes = test_lan.scenes_of(LAB)


@pytest.mark.scene("edited")
def test_edits(scenes):
    r = scenes.result("edited")
    errors = r.pop("errors")
    says = {"host": "machine a has the address 10.50.0.", "subnet": "10.50.0.", "subnet6": "has the address fd", "taken": "the name taken is taken",
            "bridge": "has a cable in it", "stop": "machines a, b have cables in it (--force pulls them)", "model": "has a cable in it", "mtu": "packets that are too large", "dns": "a name server that is no more", "uplink": "there is no interface nope0", "server": "server.sock",
            "range": "dhcp-range 10.50.0.200-10.50.0.254: it must lie in the subnet 10.61.0.0/24"}
    for name, words in says.items():
        assert words in errors[name], (name, errors[name])
    assert r == {"first": 1400, "after errors": True, "same": True, "kept": True, "other": [True, 1500, ["10.61.0.1"]], "moved": True, "static": True, "routed": True,
                 "bridge": "again", "ranges": ["10.50.0.20-10.50.0.25", "10.50.0.3-10.50.1.254", "10.62.0.3-10.62.0.254"], "left": NOTHING}


@pytest.mark.scene("widened")
def test_a_network_is_as_wide_again_as_machines_were_told(scenes):
    refused = "vireo: network lab: machine {} has a cable in it, and would go on sending packets that are too large (--force)\n"
    assert scenes.result("widened") == {"back": ["", "", True], "less": refused.format("a"), "wide": "", "told": refused.format("c"),
                                        "1500": ["", refused.format("e"), ""]}


@pytest.mark.scene("mended")
def test_destroyed_under_machines(scenes):
    r = scenes.result("mended")
    why = "could not be repaired: bridge: the name vr-lab is taken by an interface that is not this network's (--bridge says another)"
    warning = "vireo: warning: lan: network "
    assert r == {"bridge": True, "served": 1, "definition": True, "stopped": True, "state": "broken", "later": True, "why": why,
                 "said": [[0, f"{warning}lab {why}\n"], [0, ""], [0, f"vireo: lab: {why}\n"]], "quiet": [[0, ""], [0, ""], False],
                 "idle": [[0, f"{warning}idle could not be repaired and is taken down: the name vs-idle is taken by an interface that is not this network's\n"], "down"],
                 "held": [0, f"{warning}idle could not be removed: DIR/run/idle: Directory not empty\n"]}


@pytest.mark.scene("pulled")
def test_pulled_cables(scenes):
    out = [0, None, False]
    assert scenes.result("pulled") == {"delete": out, "stop delete": out, "stop": [1, "vr-lab", True], "left": NOTHING}


@pytest.mark.scene("served_on")
def test_who_serves_goes_on_and_routers_stay_over_edits(scenes):
    same = [True, ["m"]]
    assert scenes.result("served_on") == {"router": True, "--publish 8080-m:80": same, "--route other": same, "--host 52:54:00:00:00:99,x,": [True, ["m", "x"]],
                                          "--host none": same, "pulled": [False, "up"], "told": [False, "up", True], "lost": False, "stopped": True}


@pytest.mark.scene("called")
def test_ports_for_machines_that_are_called_otherwise_are_named(scenes):
    said = "vireo: warning: lan: network lab: tcp:8001-8002-web:80-81 leads nowhere: web is called www by --host\n"
    assert scenes.result("called") == {"other": "", "www": said, "same": "", "again": said, "a": "", "web": said}


@pytest.mark.scene("renumbered")
def test_prefixes_of_before_are_given_up(scenes):
    one, two = "fd00:52:1::2", "fd00:52:2::2"
    assert scenes.result("renumbered") == {"begin": True, "second": [True, [one], 1], "none": [True, [two, one], 0], "first": [True, [two], 1],
                                           "slept": True, "later": [True, [two]],
                                           "slept again": True, "over": [True, ["fd00:52:1::/64", "fd00:52:2::/64"]]}


@pytest.mark.scene("strangers")
def test_other_run_directories(scenes):
    r = scenes.result("strangers")
    odd = "there is one of this name on the host"
    assert odd in r.pop("taken")
    said, untouched, *then = r.pop("theirs")
    assert odd in said and untouched and then == [0, ["vr-idle"], 0]
    assert r.pop("served") in ([2, 1], [0, 0])  # by dnsmasq, if that is there
    mounted = r.pop("mounted")
    assert all(odd in m for m in mounted[:2]) and mounted[2:] == ["", "", ""], mounted
    assert r == {"create": 0, "there": True, "delete": 0, "after": True, "tmp": False, "lock": 1, "left": NOTHING}


@pytest.mark.scene("spaces")
def test_two_name_spaces_with_one_run_directory(scenes):
    r = scenes.result("spaces")
    assert r == {"cleared": True, "ended": "down", "run": [], "left": NOTHING, "same": True, "refused": [1] * 5,
                 "bare": ["vireo: network bare is in another network name space", {"bare": "up"}],
                 "listed": {"bare": "elsewhere", "lab": "elsewhere"}}


@pytest.mark.scene("boxed")
def test_containers_with_the_hosts_run_directory(scenes):
    r = scenes.result("boxed")
    for name in r["kinds"]:
        assert r["host's"][name] == [[True] * 3, name != "served", ["elsewhere"], True], name
    said, *then = r["own"]["bare"]
    assert "cannot be seen from here" in said and "if it is not, remove DIR/run/bare)" in said and then == ["", ""]
    assert r["own"]["served"] == ["vireo: no network named 'none' (see `vireo net list`)\n", "", ""]
    assert r["own"]["older"] == [0, False] and r["left"] == NOTHING


@pytest.mark.scene("cards")
def test_macs(scenes):
    r = scenes.result("cards")
    assert len(set(r["macs"])) == len(r["macs"]) and all(m.startswith("52:54:00:") for m in r["macs"]) and r["other"]
    on_wire, *own, name = r["errors"]
    assert "another machine has this MAC" in on_wire and all("network's own" in e for e in own) and "no character" in name


@pytest.mark.scene("refused")
def test_wrong_definitions(scenes):
    r = scenes.result("refused")
    says = {"long": "is not a network's name", "host": "9.9.9.9 is not an address of a machine in the subnet 10.",
            "range": "it must lie in the subnet 10.", "none": "the network has no IPv4 subnet", "publish": "9.9.9.9 is not an address of a machine",
            "taken": "port 80 leads to network there already", "bridge": "'all' is no name", "route": "there is no network named 'nosuch'", "alone": "network alone is isolated",
            "server": "'vs-lab' is the name of the servers' interface", "address": "overlaps a route of the host by lo",
            "address6": "overlaps a route of the host by lo", "nowhere": "overlaps a route of the host by nothing",
            "mtu": "9000 is more than up0 has, which is 1500"}
    for name, words in says.items():
        assert words in r["errors"][name], (name, r["errors"][name])
    assert "do not reach the host" in r["note"]
    assert sorted(r["defined"]) == ["alone.json", "mine.json", "there.json"] and r["left"] == NOTHING


@pytest.mark.scene("vpn")
def test_wider_routes_keep_no_subnet(scenes):
    r = scenes.result("vpn")
    assert r["made"] == ["", "", ""] and r["later"] == ["", "", ""] and r["reached"] == []
    assert "overlaps a route of the host by up0" in r["link"] and "overlaps a route of the host by up0" in r["longer"]
    assert "overlaps network alone" in r["network"]
    four, six = (f"vireo: {subnet} overlaps a route of the host by up0\n" for subnet in ("subnet 10.96.1.0/24", "subnet6 fd00:96:1::/64"))
    assert r["tables"] == ["", four, "", six, four]
    four, six = (f"vireo: {subnet} overlaps a route of the host by up0\n" for subnet in ("subnet 10.94.3.0/24", "subnet6 fd00:94:3::/64"))
    assert r["behind"] == [""] * 6 and r["ahead"] == [four, four, four, six]
    assert ["overlaps" in e for e in r["edits"]] == [True, True]


@pytest.mark.scene("full")
def test_each_of_many_routes_counts(scenes):
    r = scenes.result("full")
    assert "overlaps a route of the host by wire" in r["long"]
    assert all("overlaps a route of the host by up0" in r[name] for name in ("last", "last6")), r
    assert (r["made"], r["bridged"], r["reserved"]) == (["", ""], "", [])


@pytest.mark.scene("unstarted")
def test_machines_that_cannot_start(scenes):
    r = scenes.result("unstarted")
    down = ["down"] * 3
    assert "/nope" in r["kernel"][0] and r["kernel"][2] == ["0", "0"]
    for what, words in (("kernel", "/nope"), ("queues", "one pair"), ("word", "nope"), ("mac", "network's own")):
        assert words in r[what][0] and r[what][1] == down, (what, r[what])
    assert r["left"] == [] and r["none"] == down
    assert r["mtu"] == ["1501 is not within 1280 and 1500, which network lab has", "1279 is not within 1280 and 1500, which network lab has",
                        "1401 is not within 1280 and 1400, which network small has", "4001 is not within 1280 and 4000, which network wire has"]
    assert r["other"] == ["up", "down", "down"] and r["began"] and r["ended"] == ["up", "up", "down"]


@pytest.mark.scene("interfaces")
def test_interfaces_of_others(scenes):
    r = scenes.result("interfaces")
    assert "the name vs-lab is taken" in r["taken"] and r["links"] == ["vs-lab"] and r["tables"] == []
    assert (r["renamed"], r["kept"]) == (0, ["192.0.2.1", "2001:db8::1"])
    assert r["gone"][0] == 0 and "the interface gone0 is gone" in r["gone"][1]
    assert r["left"] == NOTHING


@pytest.mark.scene("ranges")
def test_ranges_of_ports(scenes):
    r = scenes.result("ranges")
    assert r["followed"] == [[True, True], 2, 0]
    assert r["shifted"] == [["-", "9500", "9501", "9502", "-"]] * 2 and r["same"] == [["-", "9600", "9601", "9602", "-"]] * 2
    assert r["after"] == [["-", "9500", "9501", "9502", "-"]] * 2 and r["text"] == ["tcp:9001-9003-a:9500-9502"]
    assert "publish: port 9001 leads to network lab already" in r["taken"]


@pytest.mark.scene("led_on")
def test_connections_by_ports_that_lead_on(scenes):
    every, first = ["a", "b", "range", "range6"], ["a", "range", "range6"]
    assert scenes.result("led_on") == {"begin": [every, 4], "longer": [every, 4], "without b": [first, 3], "wider": [first, 3], "elsewhere": [["range6"], 1]}


@pytest.mark.scene("silenced")
def test_nobody_hears_a_machine_by_a_port_that_leads_to_it_no_more(scenes):
    r = scenes.result("silenced")
    on = ["first 4", "first 6", "on 4", "on 6", "other address 4"]
    everybody = lambda names: {who: names for who in ("outside", "machine", "host")}
    assert r["before"] == everybody(r["all"]) and r["after"] == r["back"] == everybody(on) and r["again"] == everybody(r["all"]), r


@pytest.mark.scene("listened")
def test_ports_at_which_somebody_listens(scenes):
    r = scenes.result("listened")
    says = lambda port, at: f"{port} of the host is in use by {r['own']}, at {at}\n"
    tcp80, tcp81, tcp82 = says("tcp port 80", "0.0.0.0"), says("tcp port 81", "192.0.2.1"), says("tcp port 82", "::")
    udp84 = says("udp port 84", "::")
    assert r["refused"] == ["vireo: publish: " + w for w in (tcp80, tcp80, tcp81, tcp82, tcp82, says("tcp port 83", "::"), udp84, udp84, says("tcp port 89", "::"))]
    assert r["unseen"] == "vireo: publish: tcp port 80 of the host is in use by somebody who cannot be seen from here (of user 0), at 0.0.0.0\n"
    assert r["range"] == r["edit"] == r["more"] == "vireo: publish: " + tcp80 and r["start"] == "vireo: publish: " + tcp81
    assert r["nothing"] == NOTHING and r["taken"] == "" and r["same"] and r["edited"] == ""
    assert tcp81.strip() in r["cable"] and r["down"] == "down" and r["free"] == ""
    assert r["later"] == ["", ""] and r["repaired"] == ["", ["tcp:81-web:80", "tcp:87-web:80"]]
    assert r["said"] == [f"vireo: warning: lan: down: {tcp81.strip()}: it is not reached from outside while web is in the network\n", ""]
    assert "udp port 53 of the host is in use by dnsmasq" in r.get("ours", "udp port 53 of the host is in use by dnsmasq")


@pytest.mark.scene("beside_leases")
def test_machines_have_no_address_that_somebody_has_leased(scenes):
    r = scenes.result("beside_leases")
    assert "own" in r and all(v == [True, True] for v in r.values()), r


@pytest.mark.scene("uplinks")
def test_interfaces_that_no_bridge_can_have(scenes):
    r = scenes.result("uplinks")
    says = {"lo": "lo is no Ethernet interface", "mac0": "mac0 is a macvlan, which has no frames for other addresses", "c0": "c0 is what mac0 (macvlan) is made of",
            "c2": "c2 is what pass0 (macvlan) is made of", "tap9": "tap9 is part of another interface already", "tun9": "tun9 is no Ethernet interface",
            "nope": "there is no interface nope"}
    for name, words in says.items():
        assert words in r[name][0] and r[name][1], (name, r[name])
    assert "bare0: somebody takes what comes there already" in r["bare0"][0] and r["bare0"][1:] == [True, [], []]
    assert "up0 is wireless" in r["up0"][0] and r["up0"][1] == []
    assert r["taken"][::2] == ["", ""] and "pass0 is in vr-a, the bridge of another network of Vireo's" in r["taken"][1]
    assert r["states"] == {"a": "up", "c": "up"}


@pytest.mark.scene("several")
def test_several_networks(scenes):
    r = scenes.result("several")
    assert r.pop("anew") == ["vireo-b"]
    down = {"a": "down", "b": "down", "c": "down"}
    assert r.pop("all") == {"a": "up", "b": "up", "c": "up"}
    state, *errors = r.pop("stopped")
    assert state == down and ["names of networks are needed" in errors[0], "--all and no name" in errors[1], "--foreign and a name" in errors[2]] == [True] * 3
    assert ["names of networks are needed, or --all" in e or "--all and no name" in e for e in r.pop("neither")] == [True, True]
    assert r == {"start": [1, 2, {**down, "a": "up", "b": "up"}], "stop": [1, 2, down], "delete": [1, 2, {"c": "down"}]}


@pytest.mark.scene("remodelled")
def test_models_are_changed(scenes):
    r = scenes.result("remodelled")
    assert r.pop("uplink") == "up0" and "no change is said" in r.pop("nothing")
    for error, word in zip(r.pop("words"), ("'delete'?", "'list'?", "'stop'?", "'show'?", "'create'?", "see 'vireo help net'")):
        assert word in error
    assert r == {"nat": ["nat", True, False, "w.internal", "up"], "isolated": ["isolated", True, False, "w.internal", "up"],
                 "bridged": ["bridged", False, False, None, "up"], "both": ["routed", True, True, "w.internal", "up"], "left": NOTHING}


@pytest.mark.scene("hidden")
def test_who_may_not_see(scenes):
    r = scenes.result("hidden")
    assert r["state"] == "unknown" and "networks/lab.json: Permission denied" in r["error"]
    others = "these are your own networks; root has others"
    assert r["own"][:3] == ["", f"vireo: {others}\n", ""]
    assert "VIREO_NET_DIR names another place" in r["own"].pop(3)
    assert r["own"][3] == f"vireo: no network named 'lab' ({others})\n" and "nor a network of your own (cables of root" in r["own"][4]


@pytest.mark.scene("neighbors")
def test_what_is_other_networks(scenes):
    r = scenes.result("neighbors")
    assert "the name vr-a is one of network a's" in r["vr-a"] and "the name vs-a is one of network a's" in r["vs-a"]
    assert "the name vs-b is one of network vr's" in r["vs-b"]
    assert r["before"] == [True, ["a"]] and r["after"] == [False, False, False] and r["lists"] == [False, ["tcp:80-x:80"]]
    assert ["model: network b has a route to network a" in e for e in r["named"]] == [True, True, False] and r["model"] == "routed"
    assert "subnet 8.8.8.0/24 is not a private one" in r["public"][0] and r["public"][1:] == ["", ""]
    assert "a network has IPv4 or IPv6 or both" in r["empty"] and r["left"] == NOTHING


@pytest.mark.scene("imported")
def test_imports(scenes):
    r = scenes.result("imported")
    assert r.pop("default") == [0, "vireo: default: the second address, 192.168.122.2, is the server's and is not handed out\n"
                                   "vireo: default: not kept: uuid\n"]
    assert r.pop("twice") == [1, "vireo: a network named 'default' is there already\n"]
    assert r.pop("card") == [1, "vireo: there is no bridge up0\n"] and r.pop("none") == [1, "vireo: there is no bridge nope0\n"]
    assert r == {"later": [0, ""], "bridge": [0, ""], "left": NOTHING,
                 "list": {"default": ["nat", "up", "192.168.122.0/24"], "lan": ["bridged", "up", None], "later": ["bridged", "down", None]}}
