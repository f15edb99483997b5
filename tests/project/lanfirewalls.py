"""Firewalls of the host's that somebody else has made, as Docker, firewalld and administrators make them: what they keep from
networks, what is said of it, and whether what is said to help does help. Scenarios of test_lan_host.py.
"""
import json
import os
import re
import select
import time

from lanlab import sh
from lanscenes import MODELS, routes_to, shown, which

# Docker's, as iptables-nft writes them: all that is forwarded is dropped but what is of its own networks.
DOCKER = " && ".join(f"{p} -P FORWARD DROP && {p} -N DOCKER-USER && {p} -A DOCKER-USER -j RETURN && {p} -A FORWARD -j DOCKER-USER && "
                     f"{p} -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT && "
                     f"{p} -A FORWARD -i docker0 ! -o docker0 -j ACCEPT" for p in ("iptables-nft", "ip6tables-nft"))
# firewalld 1.3's, with less of what is empty in it: the zone public, which all interfaces are in that no other one has.
FIREWALLD = """table inet firewalld {
    chain filter_PREROUTING { type filter hook prerouting priority filter + 10; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing drop
    }
    chain filter_INPUT { type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        jump filter_INPUT_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002::/24, 2002:a00::/24, 2002:c0a8::/32 } reject with icmpv6 addr-unreachable
        jump filter_FORWARD_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_INPUT_ZONES { goto filter_IN_public; }
    chain filter_FORWARD_ZONES { goto filter_FWD_public; }
    chain filter_IN_public { jump filter_IN_public_allow; meta l4proto { icmp, ipv6-icmp } accept; reject with icmpx admin-prohibited; }
    chain filter_IN_public_allow { tcp dport 22 accept; ip6 daddr fe80::/64 udp dport 546 accept; }
    chain filter_FWD_public { jump filter_FORWARD_POLICIES_pre; jump filter_FWD_public_allow; reject with icmpx admin-prohibited; }
    chain filter_FORWARD_POLICIES_pre { }
    chain filter_FWD_public_allow { }
    chain filter_IN_trusted { accept; }
    chain filter_FWD_trusted { oifname "nothing" accept; accept; }
}
"""
# What firewall-cmd has firewalld do to that table: an interface is put into a zone; a policy lets all into a zone.
FIREWALL_CMD = """#!/bin/sh
for w; do case $w in
    --change-interface=*|--add-interface=*) i=${w#*=}
        nft insert rule inet firewalld filter_INPUT_ZONES iifname $i goto filter_IN_trusted
        nft insert rule inet firewalld filter_FORWARD_ZONES iifname $i goto filter_FWD_trusted
        echo $i >>"$0.trusted";;
    --set-target=ACCEPT) for i in $(cat "$0.trusted"); do nft add rule inet firewalld filter_FORWARD_POLICIES_pre oifname $i accept; done;;
esac; done
"""
NFT = """table inet fw {
    chain input { type filter hook input priority 0; policy drop; ct state vmap { established : accept, related : accept, invalid : drop }
        iif lo accept; meta l4proto { icmp, icmpv6 } accept; tcp dport 22 accept; udp dport { 53, 5353 } iifname "other" accept; }
    chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; }
}
"""
HELPS = "this helps: "


def switch(*value):
    sh("sysctl -qw " + " ".join(f"net.bridge.bridge-nf-call-{p}tables={v}" for p, v in zip(("ip", "ip6"), value)))


def said_of(lab, name="lab"):
    return json.loads(lab.vireo("net", "show", name, "--json")).get("warnings", [])


def follow(said):
    """What was advised, as it was printed."""
    for text in said:
        sh(text.split(HELPS)[1])


def leased(m, tries):
    return "obtained" in m.sh(f"busybox udhcpc -i eth0 -n -q -f -t {tries} -T 1 -s /bin/true 2>&1", check=False)


def advertised(m, tries):
    """Whether a router of the network has said something to it."""
    m.sh("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1; sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0")
    for _ in range(10 * tries):
        if m.sh("ip -6 route show proto ra default", check=False) or m.sh("ip -6 addr show dev eth0 scope global mngtmpaddr", check=False):
            return True
        time.sleep(0.1)
    return False


def failing(lab, model, a, b, tries):
    """What of the network a machine has not: a lease, a router's word, the other machine, and the world. A try is a second."""
    server = model != "bridged"
    found = {"lease": leased(a, tries)} if server else {}
    if server and model != "isolated":
        found["router"] = advertised(a, tries)
    if server:
        a.sh("ip addr flush dev eth0 scope global")
    a.configure()
    pairs = [(a, b)] + ([(a, lab.outside)] if model != "isolated" else []) + ([(lab.outside, a)] if model == "routed" else [])
    for name, reached in lab.table(pairs, tries / 2).items():
        key = name[:-1].split()[0] + " " + name[-1]
        found[key] = found.get(key, True) and reached
    return sorted(k for k, v in found.items() if not v)


def try_model(lab, model, *more):
    """What is said of a network of this model, what of it does not work then, and what does not after all advice."""
    r = lab.vireo("net", "create", "lab", *MODELS[model], *more, check=False)
    a, b = (lab.machine("lab", n, configure=False) for n in "ab")
    if model == "bridged":
        for n, m in enumerate((a, b)):
            m.sh(f"ip addr add 192.0.2.{100 + n}/24 dev eth0; ip addr add 2001:db8::{100 + n}/64 dev eth0 nodad")
            m.addresses = {"4": f"192.0.2.{100 + n}", "6": f"2001:db8::{100 + n}"}
            m.configure = lambda: None
    else:
        b.configure()
    if model == "routed":
        routes_to(lab, lab.outside, shown(lab))
    said = said_of(lab)
    found = {"said": said, "printed": [t in r.stderr for t in said], "fails": failing(lab, model, a, b, 2)}
    follow(said)
    found.update({"still said": said_of(lab), "still fails": failing(lab, model, a, b, 10)})
    for m in (a, b):
        m.end()
        lab.machines.remove(m)
    lab.vireo("net", "delete", "--force", "lab")
    return found


def put_firewall_cmd(lab):
    path = os.path.join(lab.dir, "bin", "firewall-cmd")
    os.makedirs(os.path.dirname(path))
    with open(path, "w") as f:
        f.write(FIREWALL_CMD)
    os.chmod(path, 0o755)
    os.environ["PATH"] = os.path.dirname(path) + ":" + os.environ["PATH"]


# Bridges' own: of an administrator who lets through what he knows, and ebtables' (nft's make).
FRAMES = """table bridge fw {
    chain pre { type filter hook prerouting priority -300; policy drop; iifname "up0" ip protocol icmp accept; iifname "eth*" accept; }
    chain forward { type filter hook forward priority 0; policy drop; iifname "eth0" oifname "eth1" accept; ether type 0x88cc accept; }
    chain in { type filter hook input priority 0; policy accept; iifname != "eth0" drop; }
    chain out { type filter hook output priority 0; policy drop; ether saddr 02:00:00:00:00:01 accept; }
    chain post { type filter hook postrouting priority 0; jump ours; counter drop; }
    chain ours { oifname "eth*" accept; return; }
}
"""
EBTABLES = "; ".join(f"ebtables -P {c} DROP; ebtables -A {c} -p ARP -{'o' if c == 'OUTPUT' else 'i'} eth+ -j ACCEPT" for c in ("INPUT", "FORWARD", "OUTPUT")) + (
    "; ebtables -t nat -P PREROUTING DROP; ebtables -t nat -A PREROUTING -d BGA -j ACCEPT")
# Who has his own machines and containers there, and leaves those of others alone: libvirt's nwfilter, kubenet, Proxmox.
OTHERS = """
ebtables -t nat -N libvirt-I-vnet0; ebtables -t nat -N libvirt-O-vnet0; ebtables -t nat -N I-vnet0-mac
ebtables -t nat -A PREROUTING -i vnet0 -j libvirt-I-vnet0; ebtables -t nat -A POSTROUTING -o vnet0 -j libvirt-O-vnet0
ebtables -t nat -A libvirt-I-vnet0 -j I-vnet0-mac; ebtables -t nat -A libvirt-I-vnet0 -p IPv4 --ip-src 0.0.0.0 --ip-proto udp -j ACCEPT
ebtables -t nat -A libvirt-I-vnet0 -p ARP --arp-opcode 1 -j ACCEPT; ebtables -t nat -A libvirt-I-vnet0 -j DROP; ebtables -t nat -A libvirt-O-vnet0 -j DROP
ebtables -t nat -A I-vnet0-mac -s 52:54:00:11:22:33 -j RETURN; ebtables -t nat -A I-vnet0-mac -j DROP
ebtables -N KUBE-DEDUP; ebtables -A OUTPUT -j KUBE-DEDUP; ebtables -A KUBE-DEDUP -p IPv4 -s 0a:58:0a:f4:00:01 -o veth+ --ip-src 10.244.0.1 -j ACCEPT
ebtables -A KUBE-DEDUP -p IPv4 -s 0a:58:0a:f4:00:01 -o veth+ --ip-src 10.244.0.0/24 -j DROP
ebtables -N PVEFW-FORWARD; ebtables -N PVEFW-FWBR-OUT; ebtables -A FORWARD -j PVEFW-FORWARD; ebtables -A PVEFW-FORWARD -p IPv4 -j ACCEPT
ebtables -A PVEFW-FORWARD -p IPv6 -j ACCEPT; ebtables -A PVEFW-FORWARD -o fwln+ -j PVEFW-FWBR-OUT; ebtables -A PVEFW-FWBR-OUT -i tap100i0 -j DROP
ebtables -A FORWARD -p IPv4 --ip-proto udp --ip-sport 67 -i ! vs+ -j DROP; ebtables -A FORWARD -p 802_1Q -j DROP; ebtables -A FORWARD -d BGA -j DROP
""".strip().replace("\n", "; ")

LEGACY = "for p in iptables-legacy ip6tables-legacy; do $p -F; $p -X; done; " + DOCKER.replace("-nft", "-legacy")
MAKES = {"legacy": LEGACY, "frames": "nft -f - <<'E'\n" + FRAMES + "E", "ebtables": EBTABLES, "others": OTHERS, "docker": DOCKER, "firewalld": "nft -f - <<'E'\n" + FIREWALLD + "E", "nft": "nft -f - <<'E'\n" + NFT + "E"}


def firewalled(lab, kind, bridged):
    """All models beside a firewall of this kind, with br_netfilter on or off."""
    put_firewall_cmd(lab)
    found = {}
    for model, *more in (("nat",), ("isolated",), ("routed",), ("bridged",), ("nat", "--dns", "dnsmasq")):
        sh("nft flush ruleset; " + MAKES[kind])
        if bridged != "-":
            switch(bridged, bridged)
        found[" ".join([model, *more])] = try_model(lab, model, *more)
    return found


# --- what is noticed ---

LOSSES = {"between": "what machines send each other", "server": "server send each other (DHCP, router advertisements)", "arp": "ARP (without which IPv4 finds nobody)", "discovery": "neighbor discovery at the host (without which machines have no gateway of IPv6)", "inside": "ports of the bridge (machines, DHCP, DNS)", "out": "machines send to the world", "back": "the answers to that", "in": "the world sends to machines",
          "published": "published ports", "served": "dnsmasq on the host (UDP ports 67 and 547, port 53)",
          "leased": "leases that dnsmasq on the host gives (UDP port 68)"}


def lost(lab, name):
    """Which of LOSSES, each with the family that is named where it is one."""
    found = []
    for text in said_of(lab, name):
        what = text.split(HELPS)[0]
        for word, of in LOSSES.items():
            if said := re.search(re.escape(of) + r"( by IPv([46]))?( \(where|,|;| and )", what):
                found.append(word + (said[2] or ""))
    return " ".join(sorted(found))


# Rules of a chain that sees what is forwarded: policy, rules, other chains of its table.
NETS4 = "{ 10.81.0.0/24, 10.82.0.0/24, 10.83.0.0/16 }"
FORWARDS = {
    "drops": ("drop", "", ""),
    "accepts": ("accept", "", ""),
    "last rule": ("accept", 'ct state established,related accept; tcp dport 22 accept; log prefix "no " counter drop;', ""),
    "last rule of another chain": ("accept", "jump x;", "chain x { meta l4proto tcp goto y; goto y; }\nchain y { reject; }"),
    "returns": ("accept", "jump x;", "chain x { return; drop; }"),
    "may return": ("accept", "jump x;", "chain x { limit rate 10/second return; drop; }"),
    "may return to a drop": ("drop", "jump x; tcp dport 1 accept;", "chain x { ct mark 1 return; counter drop; }"),
    "may go and end": ("accept", "jump x;", "chain x { ip saddr 10.81.0.7 goto y; ip6 saddr ::7/64 goto y; limit rate 1/second goto y; drop; }\nchain y { }"),
    "goes and ends": ("drop", "goto x; accept;", "chain x { tcp dport 1 accept; }"),
    "some of it": ("accept", 'tcp dport 25 drop; limit rate over 10/second drop; ip saddr 10.9.0.0/16 drop; iifname "x*" drop;', ""),
    "our name": ("drop", 'iifname "vr-nat" accept; oifname "vr-nat" accept;', ""),
    "our names": ("drop", 'iifname "vr-*" accept; oifname "vr-*" accept;', ""),
    "a set": ("drop", 'iifname { "vr-nat", "vr-routed", "x" } accept; oifname @o accept;', 'set o { type ifname; elements = { "vr-nat" }; }'),
    "a set of beginnings": ("drop", 'iifname { "eth*", "vr-*" } accept; oifname { "eth*", "vr-*" } accept;', ""),
    "a map": ("drop", 'iifname vmap { "vr-nat" : jump x, "y" : accept };', "chain x { accept; }"),
    "pairs": ("drop", 'iifname . oifname { "vr-nat" . "vr-nat", "vr-nat" . "up0", "up0" . "vr-nat" } accept;', ""),
    "a number": ("drop", 'iif "vr-nat" accept;', ""),
    "others not": ("drop", 'iifname != "x" accept;', ""),
    "us not": ("accept", 'iifname "vr-nat" drop;', ""),
    "the way out": ("drop", 'oifname "up0" accept; ct state established,related accept;', ""),
    "some of the way out": ("drop", 'oifname "up0" tcp dport 443 accept;', ""),
    "some of ours": ("drop", 'iifname "vr-nat" tcp dport 443 accept; oifname "vr-nat" accept;', ""),
    "some of ours elsewhere": ("drop", 'iifname "vr-nat" jump x;', "chain x { udp dport 67 accept; meta mark 1 accept; drop; }"),
    "a mark": ("drop", "meta mark 1 accept;", ""),
    "no mark": ("drop", "meta mark and 0xff != 1 accept;", ""),
    "protocols": ("drop", "meta l4proto { tcp, udp, icmp, ipv6-icmp } accept;", ""),
    "a kind": ("drop", 'meta iifkind "bridge" accept; ct state established,related accept;', ""),
    "a rate": ("drop", "limit rate 1000/second accept;", ""),
    "ICMP": ("drop", "meta l4proto { icmp, ipv6-icmp } accept;", ""),
    "a family": ("accept", "meta nfproto ipv6 drop;", ""),
    "subnets": ("drop", f"ip saddr {NETS4} accept; ip daddr {NETS4} accept;", ""),
    "a part of a subnet": ("drop", "ip saddr 10.81.0.0/25 accept; ip daddr 10.81.0.0/25 accept;", ""),
    "translated": ("drop", "ct status dnat accept;", ""),
    "all in a set": ("drop", "ip saddr { 0.0.0.0/0 } accept; ip6 saddr { ::/0 } accept;", ""),
    "a set that grows": ("drop", "meta nfproto ipv6 accept; add @s { ip saddr }; ip saddr @s accept;", "set s { type ipv4_addr; flags dynamic; size 1000; }"),
    "ports by a map": ("drop", "ct state established accept; meta l4proto != tcp accept; tcp dport vmap { 22 : drop, 443 : accept };", ""),
    "drops by a map": ("accept", 'tcp dport vmap { 22 : drop, 23-25 : drop }; iifname vmap { "vr-nat" : drop, "x" : accept };', ""),
    "sleeps": ("drop", "", "flags dormant;"),
    "a mark that may be set": ("drop", "meta mark 7 accept;", "chain m { type filter hook prerouting priority -150; tcp dport 1-1000 meta mark set 7; ip protocol udp meta mark set 8; }"),
    "a mark that others have": ("drop", "meta mark 7 accept;", 'chain m { type filter hook prerouting priority -150; iifname "tailscale0" meta mark set 7; }'),
    "who may not be followed": ("drop", "ct state untracked accept; ct state established accept;",
                                "chain m { type filter hook prerouting priority -300; tcp dport 1-1000 notrack; }"),
    "a counter by name": ("accept", 'iifname "vr-nat" counter name "n" drop; iifname "vr-routed" quota name "q" drop;', "counter n { }; quota q { over 1 mbytes };"),
    "pairs behind a name": ("drop", 'iifname "up0" meta l4proto . th dport { tcp . 80, tcp . 443 } accept; iifname "vr-*" th dport . meta nfproto { 80 . ipv4 } accept; ct state established accept;', ""),
    "followed": ("drop", "ct state vmap { established : accept, new : accept, invalid : drop };", ""),
}
INPUTS = {
    "drops": ("drop", ""),
    "ports": ("drop", "udp dport { 53, 67, 547 } accept;"),
    "a range": ("drop", "udp dport 50-600 accept;"),
    "too few": ("drop", 'iifname "vr-*" udp dport { 67, 547 } accept;'),
    "not DHCP's": ("drop", "udp dport >= 547 accept; udp dport 53 accept;"),
    "neighbors": ("drop", "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept;"),
    "neighbors of others": ("drop", 'iifname "up0" meta l4proto ipv6-icmp accept; icmpv6 type echo-request accept;'),
    "neighbors of a link": ("drop", "ip6 saddr fe80::/10 accept;"),
    "rejects": ("accept", 'ct state established accept; iifname "lo" accept; meta l4proto { icmp, icmpv6 } accept; reject with icmpx admin-prohibited;'),
}
# The same of what the host sends.
OUTPUTS = {
    "drops": ("drop", ""),
    "ordinary": ("drop", "oif lo accept; ct state established,related accept; udp dport 53 accept; tcp dport { 80, 443 } accept; meta l4proto { icmp, icmpv6 } accept;"),
    "leases": ("drop", "udp sport 67 udp dport 68 accept;"),
    "inside": ("drop", 'oifname != "up0" accept;'),
    "no connections": ("accept", "ct state invalid drop; tcp flags & syn == syn drop; udp dport != { 53, 67-69, 123 } drop;"),
}
IPTABLES = {
    "drops": "-P FORWARD DROP",
    "rejects": "-A FORWARD -j REJECT",
    "ours": "-A FORWARD -i vr-nat -m comment --comment nat -j ACCEPT; {p} -A FORWARD -o vr-+ -j ACCEPT; {p} -A FORWARD -j LOG; {p} -A FORWARD -j REJECT",
    "untracked": "-A FORWARD -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT; {p} -P FORWARD DROP",
    "protocols": "-A FORWARD -p tcp -j ACCEPT; {p} -A FORWARD -p udp -j ACCEPT; {p} -A FORWARD -p ICMP -j ACCEPT; {p} -P FORWARD DROP",
    "not outside": "-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT; {p} -A FORWARD ! -i up0 -j ACCEPT; {p} -P FORWARD DROP",
    "bridged": "-A FORWARD -m physdev --physdev-is-bridged -j ACCEPT; {p} -P FORWARD DROP",
    "marks": "-A FORWARD -m mark ! --mark 0x1 -j ACCEPT; {p} -P FORWARD DROP",
    "guests": "-N DOCKER-USER; {p} -A FORWARD -j DOCKER-USER; {p} -A DOCKER-USER -s 198.51.100.0/24 -j RETURN; {p} -A DOCKER-USER -i up0 -j DROP",
    "translated": "-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT; {p} -P FORWARD DROP",
    "their sources": "-A FORWARD -m conntrack --ctstate SNAT -j ACCEPT; {p} -P FORWARD DROP",
    "marked": "-t mangle -A FORWARD -p tcp -j MARK --set-mark 1; {p} -A FORWARD -m mark --mark 1 -j ACCEPT; {p} -P FORWARD DROP",
    "marked of others": "-A FORWARD -i tailscale0 -j MARK --set-xmark 0x40000/0xff0000; {p} -A FORWARD -m mark --mark 0x40000/0xff0000 -j ACCEPT; {p} -P FORWARD DROP",
    "not followed": "-t raw -A PREROUTING -p tcp -j CT --notrack; {p} -A FORWARD -m conntrack --ctstate UNTRACKED -j ACCEPT; {p} -P FORWARD DROP",
    "chains": "-N x; {p} -N y; {p} -A FORWARD -g x; {p} -A FORWARD -j DROP; {p} -A x -p tcp -j y; {p} -A y -i vr-nat -j RETURN; {p} -A y -j DROP",
    "subnets": "-A FORWARD ! -s 10.81.0.0/16 -d 10.81.0.0/24 -i vr+ -j DROP; {p} -A FORWARD -s 10.83.0.0/16 ! -o vr-+ -j DROP",
    "mangle": "-t mangle -A FORWARD -i vr-nat -j DROP",
    "ports": "-A FORWARD -p udp -m multiport --dports 53,67:68 -j DROP; {p} -A FORWARD -p tcp --dport 22 -j DROP",
    "other ports": "-A FORWARD -p udp -m multiport ! --dports 53,67:68 -j DROP; {p} -A FORWARD -p udp --dport 68:547 -j DROP; {p} -A FORWARD -p tcp --syn -j DROP",
    "counts": "-A FORWARD -i vr-nat; {p} -A FORWARD -i x -j NFLOG; {p} -P FORWARD DROP",
    "goes on": "-A FORWARD -i vr-nat -j RATEEST --rateest-name x --rateest-interval 250ms --rateest-ewmalog 500ms; {p} -A FORWARD -i vr-nat -j DROP",
    "states": "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; {p} -A FORWARD -m conntrack ! --ctstate NEW -j ACCEPT; {p} -P FORWARD DROP",
}
IP6TABLES = {
    "drops": "-P FORWARD DROP",
    "some": "-A FORWARD -s fd00::/8 -p tcp -j DROP; {p} -A FORWARD -i vr-isolated -p icmpv6 -j REJECT; {p} -A FORWARD -d fd00::/8 ! -o vr-+ -j DROP",
    "protocols": "-A FORWARD -p tcp -j ACCEPT; {p} -A FORWARD -p icmpv6 -j ACCEPT; {p} -P FORWARD DROP",
}


def three(lab):
    """Networks, and what is lost of each, as it is said of them while they run."""
    how = {"nat": ["--nat", "--publish", "8080-10.81.0.9:80", "--subnet", "10.81.0.0/24"], "isolated": ["--isolated", "--subnet", "10.82.0.0/24"],
           "routed": ["--routed", "--subnet", "10.83.0.0/24"]}
    for name, words in how.items():
        lab.vireo("net", "create", name, *words)
    return lambda: {name: lost(lab, name) for name in how}


def noticed_legacy(lab):
    """The same rules of iptables, in tables of their own kind. Who looks makes none of these."""
    all_of_them = three(lab)
    names = lambda: sh("cat /proc/net/ip_tables_names /proc/net/ip6_tables_names").split()
    switch(1, 1)
    sh("iptables-nft -N x; iptables-nft -A x -j ACCEPT")  # which is another one
    found = {"none": [all_of_them(), names()]}
    for name, rules in IPTABLES.items():
        sh("iptables-legacy " + rules.format(p="iptables-legacy"))
        found[name] = all_of_them()
        sh("iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F; iptables-legacy -X; iptables-legacy -t mangle -F; iptables-legacy -t raw -F")
    for name, rules in IP6TABLES.items():
        sh("ip6tables-legacy " + rules.format(p="ip6tables-legacy"))
        found["six " + name] = all_of_them()
        sh("ip6tables-legacy -P FORWARD ACCEPT; ip6tables-legacy -F")
    found["left"] = [all_of_them(), names()]
    return found


def noticed(lab):
    """What is lost by each of these."""
    all_of_them = three(lab)
    found = {}
    switch(1, 1)
    for name, (policy, rules, more) in FORWARDS.items():
        sh(f"nft 'table inet fw {{ {more}\nchain f {{ type filter hook forward priority 0; policy {policy}; {rules} }}\n}}'")
        found[name] = all_of_them()
        if name == "drops":
            for four, six in ((0, 0), (1, 0), (0, 1)):
                switch(four, six)
                found[f"drops {four}{six}"] = all_of_them()
            switch(1, 1)
        sh("nft delete table inet fw")
    for name, rules in IPTABLES.items():
        sh("iptables-nft " + rules.format(p="iptables-nft"))
        found["iptables " + name] = all_of_them()
        sh("nft delete table ip filter; nft delete table ip mangle; nft delete table ip raw", check=False)
    # Ways of which nobody knows which one is gone.
    sh("ip link add v0 type veth peer name v1; ip link set v0 up; ip addr add 198.51.100.1/24 dev v0; ip addr add 2001:db8:7::1/64 dev v0 nodad")
    for name, route in (("another way", "default via {v} table 100"), ("a half", "{half} via {v}"), ("both ways", "default nexthop via {v} nexthop via {up}"),
                        ("a worse way", "default via {v} metric 4000")):
        for p, words in (("-4", {"v": "198.51.100.2", "half": "0.0.0.0/1", "up": "192.0.2.2"}), ("-6", {"v": "2001:db8:7::2", "half": "::/1", "up": "2001:db8::2"})):
            sh(f"ip {p} route del default; ip {p} route add {route.format(**words)}" + (f"; ip {p} route add default via {words['up']}" if name != "both ways" else ""))
        for out in ("v0", "up0"):
            sh(f"""nft 'table inet fw {{ chain f {{ type filter hook forward priority 0; policy drop; oifname "{out}" accept; ct state established accept; }}; }}'""")
            found[f"{name} {out}"] = all_of_them()
            sh("nft delete table inet fw")
        for p, half, up in (("-4", "0.0.0.0/1", "192.0.2.2"), ("-6", "::/1", "2001:db8::2")):
            sh(f"ip {p} route flush table 100; ip {p} route del {half}; while ip {p} route del default; do :; done; ip {p} route add default via {up}", check=False)
    # Of what hooks nothing is asked, and which tables are ours.
    sh("nft 'table inet fw { chain o { type filter hook output priority 0; policy drop; }; chain n { type nat hook prerouting priority 0; drop; }; }; "
       "table inet vireo-nat { chain forward { drop; }; }'")
    found["elsewhere"] = all_of_them()
    return found


def asked(lab):
    """DHCP that is dropped between ports, where nobody is asked for it there and where somebody is."""
    how = {"own": ["--nat"], "off": ["--nat", "--no-dhcp"], "dnsmasq": ["--nat", "--dns", "dnsmasq"], "isolated": ["--isolated", "--dns", "dnsmasq"]}
    for name, words in how.items():
        lab.vireo("net", "create", name, *words)
    switch(1, 1)
    found = {}
    for family in ("inet", "bridge"):
        sh(f"nft 'table {family} fw {{ chain f {{ type filter hook forward priority 0; udp dport {{ 67, 68 }} drop; }}; }}'")
        found[family] = {name: lost(lab, name) for name in how}
        sh(f"nft delete table {family} fw")
    lab.vireo("net", "delete", "off")
    sh("nft 'table inet fw { chain f { type filter hook forward priority 0; udp dport { 67, 68 } drop; }; }'")
    found["leases"] = {name: leased(lab.machine(name, "m", configure=False), 2) for name in how if name != "off"}
    return found


# Rules of a bridge's chains: hook, policy, rules.
BRIDGES = {
    "drops": ("forward", "drop", ""), "accepts": ("forward", "accept", ""), "ports": ("forward", "drop", 'iifname "vt*" accept; oifname "vt*" accept;'),
    "others": ("forward", "accept", 'iifname "vnet*" drop; oifname "veth*" drop; iifname "vt99999" drop; ether type { vlan, 0x88cc } drop;'),
    "not the servers": ("forward", "accept", 'oifname "vs-*" drop;'), "cables": ("forward", "drop", 'iifname "vt*" oifname "vt*" accept;'), "apart": ("forward", "accept", 'iifname "vt*" oifname "vt*" drop;'),
    "ARP": ("forward", "drop", "ether type { ip, ip6 } accept;"), "no ARP": ("forward", "drop", "ether type arp accept;"),
    "questions only": ("forward", "drop", "ether type { ip, ip6 } accept; arp operation request accept;"),
    "addresses": ("forward", "drop", f"arp saddr ip {NETS4} accept; ip saddr {NETS4} accept; ip daddr 255.255.255.255 accept; ether type ip6 accept;"),
    "IPv4": ("forward", "drop", "meta protocol { ip, arp } accept;"), "DHCP": ("forward", "accept", "udp dport { 67, 68 } drop;"), "DHCP's answers": ("forward", "accept", "udp sport 67 drop;"), "DHCP of others": ("forward", "accept", "udp sport 67 ip saddr != 10.80.0.0/12 drop; udp sport 547 drop;"),
    "a MAC": ("forward", "drop", "ether saddr 52:54:00:ff:ff:ff accept; ether daddr 52:54:00:ff:ff:ff accept; arp htype 1 accept;"),
    "broadcasts": ("forward", "accept", "ether daddr ff:ff:ff:ff:ff:ff drop;"), "pairs": ("forward", "drop", 'iifname . ether type { "vt0" . ip, "vt0" . arp } accept;'),
    "in": ("input", "drop", ""), "in but": ("input", "drop", 'iifname "vt*" ether type { ip, ip6, arp } accept;'), "in by name": ("input", "drop", 'iifname "vt7" accept;'),
    "out": ("output", "drop", ""), "out answers": ("output", "drop", "meta l4proto { tcp, udp, icmp, ipv6-icmp } accept; ether type arp accept;"),
    "another host": ("output", "drop", "ether saddr 02:00:00:00:00:01 accept;"),
    "pre": ("prerouting", "drop", 'iifname "d0" accept;'), "post": ("postrouting", "drop", 'oifname "vt*" accept;'),
}


def noticed_frames(lab):
    """What is lost by each of these."""
    how = {"nat": ["--nat", "--subnet", "10.81.0.0/24"], "isolated": ["--isolated", "--subnet", "10.82.0.0/24"],
           "dnsmasq": ["--nat", "--dns", "dnsmasq", "--subnet", "10.83.0.0/24"], "bridged": ["--bridged", "d0"]}
    sh("ip link add d0 type veth peer name d1; ip link set d0 up")
    for name, words in how.items():
        lab.vireo("net", "create", name, *words)
    found = {}
    for name, (hook, policy, rules) in BRIDGES.items():
        sh(f"nft 'table bridge fw {{ chain f {{ type filter hook {hook} priority 0; policy {policy}; {rules} }}; }}'")
        found[name] = {name: lost(lab, name) for name in how}
        sh("nft delete table bridge fw")
    # Jumps of ebtables, conditions that it has only, and targets that end a chain.
    for name, rules in EBRULES.items():
        sh("; ".join("ebtables " + r for r in rules.split("; ")))
        found["ebtables " + name] = {name: lost(lab, name) for name in how}
        sh("ebtables -F; ebtables -X; ebtables -P FORWARD ACCEPT")
    return found


EBRULES = {
    "drops": "-P FORWARD DROP",
    "DHCP": "-A FORWARD -p IPv4 --ip-proto udp --ip-dport 67 -j DROP",
    "no DHCP": "-A FORWARD -p IPv4 --ip-proto udp --ip-dport ! 67:68 -j DROP",
    "a subnet": "-A FORWARD -p IPv4 --ip-src 10.81.0.0/24 --ip-dst 10.81.0.0/24 -j DROP",
    "others": "-A FORWARD -p IPv4 --ip-src ! 10.0.0.0/8 --ip-dst 10.81.0.7 -j DROP",
    "ARP": "-A FORWARD -p ARP --arp-opcode Request -j DROP",
    "ARP of others": "-A FORWARD -p ARP --arp-ip-src ! 10.80.0.0/12 -j DROP",
    "IPv6": "-A FORWARD -p IPv6 --ip6-proto tcp -j DROP",
    "chains": "-N x -P RETURN; -A FORWARD -p IPv4 -j x; -A x -o vs+ -j DROP",
    "marks": "-P FORWARD DROP; -A FORWARD -j mark --mark-set 1 --mark-target ACCEPT",
    "marks on": "-P FORWARD DROP; -A FORWARD -j mark --mark-set 1 --mark-target CONTINUE",
    "a rate": "-P FORWARD DROP; -A FORWARD --limit 10/s -j ACCEPT",
}


def noticed_input(lab):
    """Where dnsmasq answers, and where it does not."""
    lab.vireo("net", "create", "own", "--nat")
    lab.vireo("net", "create", "lab", "--nat", "--dns", "dnsmasq")
    lab.vireo("net", "create", "iso", "--isolated", "--dns", "dnsmasq")
    found = {}
    for hook, chains in (("input", INPUTS), ("output", OUTPUTS)):
        for name, (policy, rules) in chains.items():
            sh(f"nft 'table inet fw {{ chain c {{ type filter hook {hook} priority 0; policy {policy}; {rules} }}; }}'")
            found[f"{hook} {name}"] = {n: lost(lab, n) for n in ("own", "lab", "iso")}
            sh("nft delete table inet fw")
    m = lab.machine("lab", "m", configure=False)
    sh("iptables-nft -P OUTPUT DROP")
    found["before"] = leased(m, 2)
    follow(said_of(lab))
    found["after"] = leased(m, 5), said_of(lab)
    m = lab.machine("own", "n")
    sh("nft 'table inet fw { chain c { type filter hook input priority 0; policy drop; iifname up0 accept; ct state established accept; }; }'")
    for name, tries in (("world before", 2), ("world after", 5)):
        m.sh("ip -6 neigh flush all")
        found[name] = list(lab.table([(m, lab.outside)], tries).values())
        follow(said_of(lab, "own"))
    return found


def dropped(lab):
    """By which commands it is said, and by which users it can be seen."""
    count = lambda text: text.count("(table ip fw) drops")
    found = []
    for policy in ("accept", "drop"):
        sh(f"nft 'add table ip fw; add chain ip fw f {{ type filter hook forward priority 0; policy {policy}; }}'")
        said = {" ".join(words[:2]): count(lab.vireo("net", *words, check=False).stderr) for words in (
            ("create", "lab", "--isolated"), ("edit", "lab", "--mtu", "1400"), ("start", "lab"), ("list",))}
        m = lab.machine("lab", "a")
        said["run"] = count(os.read(m.cable.stderr.fileno(), 65536).decode()) if select.select([m.cable.stderr], [], [], 0)[0] else 0
        said["show"] = count(lab.vireo("net", "show", "lab"))
        nobody = sh(f"unshare -U {lab.VIREO} net show lab")
        said["nobody"] = [count(nobody), "vr-lab" in nobody]
        m.end()
        lab.machines.remove(m)
        said["down"] = count(lab.vireo("net", "stop", "lab") + lab.vireo("net", "show", "lab"))
        found.append(said)
        lab.vireo("net", "delete", "lab")
    return found


def endless(lab):
    """Longer chains than are looked at, and chains that lead into each other by more ways than can be gone."""
    rules = "".join(f"ip saddr 10.{n // 250}.{n % 250}.1 accept\n" for n in range(20000))
    ways = "".join(f"chain c{n} {{ {'jump c%d; ' % (n + 1) * 8} }}\n" for n in reversed(range(8))).replace("jump c8; ", "tcp dport 1 drop; ")
    found = {}
    lab.vireo("net", "create", "lab", "--nat")
    for name, text in (("long", f"chain f {{ type filter hook forward priority 0; policy drop;\n{rules} }}"),
                       ("ways", f"{ways} chain f {{ type filter hook forward priority 0; policy drop; jump c0; }}"),
                       ("set", f"set s {{ type ipv4_addr; elements = {{ {', '.join(f'10.{n // 62500}.{n // 250 % 250}.{n % 250}' for n in range(80000))} }}; }}\n"
                               "chain f { type filter hook forward priority 0; policy drop; ip saddr @s accept; }")):
        with open(os.path.join(lab.dir, "rules"), "w") as f:
            f.write(f"table inet fw {{\n{text}\n}}\n")
        sh(f"nft -f {lab.dir}/rules")
        begun = time.monotonic()
        r = lab.vireo("net", "edit", "lab", "--mtu", "1400", check=False)
        found[name] = [r.returncode, "drops" in r.stderr, time.monotonic() - begun]
        sh("nft delete table inet fw")
    return found
