"""What is tried in a lab (lanlab.py): each function is a scenario, and returns what came of it for test_lan.py."""
import json
import os
import signal
import subprocess
import time

from lanlab import sh

MODELS = {"nat": ["--nat"], "isolated": ["--isolated"], "routed": ["--routed"], "bridged": ["--bridged", "up0"]}


def shown(lab, name="lab"):
    return json.loads(lab.vireo("net", "show", name, "--json"))


def routes_to(lab, space, show):
    """The way to the network by the host, in the outside."""
    space.sh(f"ip route replace {show['subnet']} via 192.0.2.1; ip -6 route replace {show['subnet6']} via 2001:db8::1")


def make(lab, model, *more, route=True):
    """The network with machines a and b, where everybody tries to get further than the model lets them."""
    lab.vireo("net", "create", "lab", *MODELS[model], *more)
    a, b = lab.machine("lab", "a"), lab.machine("lab", "b")
    if model == "bridged":
        for n, m in enumerate((a, b)):
            m.sh(f"ip addr add 192.0.2.{10 + n}/24 dev eth0; ip addr add 2001:db8::{10 + n}/64 dev eth0 nodad")
            m.addresses = {"4": f"192.0.2.{10 + n}", "6": f"2001:db8::{10 + n}"}
        return a, b
    show = shown(lab)
    if route:
        routes_to(lab, lab.outside, show)
    if model == "isolated":
        # The host is a router for somebody else, has a route into the network, and the machine knows its addresses.
        sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        sh(f"ip route add {show['subnet']} dev vr-lab src 192.0.2.1; ip -6 route add {show['subnet6']} dev vr-lab", check=False)
        a.sh("ip route replace 192.0.2.1 dev eth0; ip route replace default via 192.0.2.1; "
             "ip -6 route replace 2001:db8::1 dev eth0; ip -6 route replace default via 2001:db8::1")
    return a, b


def pairs(lab, a, b):
    return [(a, b), (a, lab.host), (lab.host, a), (a, lab.outside), (lab.outside, a)]


def model(lab, which):
    return lab.table(pairs(lab, *make(lab, which)))


def routed_without_way_back(lab):
    a, b = make(lab, "routed", route=False)
    return lab.table(pairs(lab, a, b))


def no_host_filter(lab, a):
    """And with an address for the host, which it has none of by IPv6 otherwise."""
    gateway = shown(lab)["subnet6"].split("/")[0] + "1"
    sh(f"nft delete table netdev vireo-lab; sysctl -qw net.ipv6.conf.vr-lab.disable_ipv6=0; "
       f"ip -6 addr add {gateway}/64 dev vr-lab nodad")
    a.sh(f"ip -6 route del 2001:db8::1 dev eth0; ip -6 route replace default via {gateway}")


def broken(lab, which, how):
    """The table with one of the things removed that it stands on."""
    a, b = make(lab, which, route=how != "no-masquerade")
    {"no-forward-filter": lambda: sh("nft delete table inet vireo-lab"),
     "no-masquerade": lambda: sh("nft flush chain inet vireo-lab outwards"),
     "no-host-filter": lambda: no_host_filter(lab, a),
     "no-cable": lambda: sh(f"ip link set {b.tap} nomaster"),
     "no-gateway": lambda: sh("ip addr flush dev vr-lab"),
     "no-forwarding": lambda: sh("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0"),
     "no-uplink": lambda: sh("ip link set up0 nomaster")}[how]()
    return lab.table(pairs(lab, a, b))
