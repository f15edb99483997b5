"""Networks whose files, rules or interfaces are lost or changed by somebody else: nothing of the host goes with them, and no
machine is without its filters. Name spaces as in test_lan.py."""
import os

import pytest

import test_lan

LAB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "languardscenes.py")
pytestmark = test_lan.pytestmark
scenes = test_lan.scenes_of(LAB)


@pytest.mark.scene("uplink_kept")
def test_the_host_keeps_its_addresses_where_all_files_are_lost(scenes):
    assert scenes.result("uplink_kept") == {"same": True, "outside": True, "left": test_lan.NOTHING,
                                            "lease": [1, True, True]}


@pytest.mark.scene("joined")
def test_no_machine_is_in_a_foreign_bridge_without_filters(scenes):
    assert scenes.result("joined") == {"lost": [], "state": "up", "before": "br0", "deleted": "", "again": "", "b": "br0"}


@pytest.mark.scene("closed")
def test_who_is_not_known_sends_nothing(scenes):
    everything = ["dhcp server", "mac", "router"]
    assert scenes.result("closed") == {"bad": [], "alias": [["good"], True], "delete": 1, "renamed": ["good"], "named": "other0",
                                       "stranger": [[], [], []], "without": [everything, ["says"], ["c>host icmp4", "c>host tcp4", "c>host udp4", "c>server icmp4"]]}


@pytest.mark.scene("repaired")
def test_each_part_that_is_taken_is_made_again(scenes):
    r = scenes.result("repaired")
    assert {k: v for k, v in r["mended"].items() if v is not True} == {}
    # And what forwarding was like before is known without any table.
    assert (r["left"], r["accept_ra"]) == (test_lan.NOTHING, "1")


@pytest.mark.scene("as_host")
def test_no_machine_is_the_host_or_the_server(scenes):
    r = scenes.result("as_host")
    assert (r["host"], r["server"]) == (["good", "good address"], []), r
    assert r["process"] == ["vireo:nat", "/", False]


@pytest.mark.scene("trusted")
def test_who_is_trusted_is_not_looked_at(scenes):
    r = scenes.result("trusted")
    assert r["trusted"] == r["all"] and r["another"] == r["after"] == [] and r["shown"] == [True, None], r


@pytest.mark.scene("unable")
def test_what_is_missing_is_named_before_anything_is_changed(scenes):
    r = scenes.result("unable")
    assert r.pop("left") == test_lan.NOTHING
    assert all(status == 1 and name.split()[0] in text.lower() and text.count("\n") == 1 for name, (status, text) in r.items()), r


@pytest.mark.scene("held")
def test_nobody_looks_before_nft_has_ended(scenes):
    assert scenes.result("held") == {"begun": True, "left": test_lan.NOTHING}


@pytest.mark.slow
def test_a_hundred_machines(scenes):
    assert scenes.result("hundred") == {"there": 100, "reached": True, "forged": []}


@pytest.mark.slow
def test_a_server_that_hangs_is_replaced(scenes):
    # What a machine is called is a name in DNS as well.
    assert scenes.result("hung") == {"status": 0, "another": True, "names": ["web-1"]}


@pytest.mark.scene("hanging")
def test_servers_that_hang_are_waited_for_once(scenes):
    hangs = ["its server hangs: it is there, and does not answer"]
    assert scenes.result("hanging") == {"list": [True, [str(hangs)], None, None], "show": [True, hangs], "start": [True, 0, ""], "now": [5, [], True],
                                        "well": [True, ["m-well", "o-well"]]}


@pytest.mark.scene("told")
def test_what_is_wrong_is_told_before_it_is_mended(scenes):
    r = scenes.result("told")
    assert r.pop("up") == ["up"] * 3 and r.pop("free") == "degraded"
    assert r.pop("held") == ["changing", "up"] and r.pop("gone") == ["br", "lab"]
    assert r.pop("bridged mark") == [["its bridge has lost its mark (alias)"], "up", True, [], True]
    assert r.pop("blind") == {n: ["up", "CAP_NET_ADMIN is miss"] for n in ("br", "lab", "still")}
    assert r.pop("uplink") == ["degraded", ["no interface of the host is in the bridge"], "up", "", "up", True]
    down = "the host's interface in the bridge is down"
    assert r.pop("uplink down") == ["degraded", [down], True, f"vireo: br: {down}\nvireo: br: `vireo net start br` makes it again\n", "degraded", "", "up", True]
    no_addresses, lost = "the host has not its addresses in it", "nothing that can be read is written of it, and something of it is there"
    says = {"server": ["its server is gone"], "filters": ["its packet filters are gone"],
            "changed": ["its packet filters are not as they were loaded"], "bridge": ["its bridge is gone"],
            "down": ["its bridge is down", no_addresses], "address": [no_addresses],
            "cable": ["a machine's cable is down, or not in the bridge"], "forwarding": ["the host does not forward"],
            "still": ["its bridge does not forward"], "mark": ["its bridge has lost its mark (alias)"], "mtu": ["its bridge has another MTU"],
            "server down": ["its server's cable is down, or not in the bridge"], "record": [lost]}
    assert r == {name: ["broken" if name == "record" else "degraded", words, True, True, "up"] for name, words in says.items()}


@pytest.mark.scene("counted")
def test_what_is_refused_is_counted_from_the_start_on(scenes):
    r = scenes.result("counted")
    first = {"a 1": 0, "a 2": 3, "input": 3}
    assert r == {"chains": ["between", "fair", "from", "in", "input", "out", "published", "strange"], "first": first, "asked": 0,
                 "later": {**first, "c": 0}, "more": {**first, "a 2": 6, "c": 0}, "text": ["refused=3"], "anew": 0}


@pytest.mark.scene("others_files")
def test_directories_of_others_and_definitions_that_stay(scenes):
    assert scenes.result("others_files") == {"beside": [0, False, [0, ""]], "bridged": [], "read-only": [[1, "vireo: DIR/networks: Read-only file system\n"], "up"],
                                             "delete": [0, ""], "kept": ["a", "a/b", "file"]}
