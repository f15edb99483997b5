"""What a hostile machine sends into its cable, in a lab (lanlab.py), and what it costs others: scenarios for test_lan_cables.py."""
import json
import select
import socket
import struct
import time

import lanframes
import lanlab
from lanlab import ECHO, sh
from lanscenes import servers, shown

MARK = b"x" * 32


def fragment(src, dst, ident, offset, more, body):
    """`offset` in bytes."""
    head = lambda total: struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), ident, offset // 8 | (0x2000 if more else 0), 64, 17,
                                     total) + socket.inet_aton(src) + socket.inet_aton(dst)
    return head(lanframes.checksum(head(0))) + body


def frames(a, b, host, outside):
    """{name: (frame, where in it 4 bytes count up)}; a is the hostile one, `host` the gateway's MAC and addresses."""
    eth, ip4 = lanframes.eth, lambda dst: lanframes.ipv4(a["4"], dst, 0, 0, MARK)
    everybody, q = "ff:ff:ff:ff:ff:ff", lambda kind: struct.pack("!HH", 1, kind)
    six = lambda dst: lanframes.udp6(a["6"], dst, 1, 1, MARK)
    # An IPv6 header with a fragment behind it.
    piece = lanframes.ipv6(a["6"], host["6"], 44, struct.pack("!BBHI", 17, 0, 1, 0) + MARK)
    prefix = host["6"].rsplit(":", 1)[0] + ":"
    return {
        "macs": (eth(b["mac"], "52:54:00:00:00:00", 0x800, ip4(b["4"])), 8),
        "sources": (eth(host["mac"], a["mac"], 0x800, ip4(outside["4"])), 26),
        "sources6": (eth(host["mac"], a["mac"], 0x86dd, six(outside["6"])), 34),
        "arp": (eth(everybody, a["mac"], 0x806, lanframes.arp(1, a["mac"], a["4"], "10.0.0.0", MARK)), 38),
        "arp answers": (eth(host["mac"], a["mac"], 0x806, lanframes.arp(2, a["mac"], "10.0.0.0", host["4"], MARK)), 28),
        "nd": (eth(host["mac"], a["mac"], 0x86dd, lanframes.nd(a["6"], host["6"], 135, host["6"], MARK)), 74),
        "nd answers": (eth(host["mac"], a["mac"], 0x86dd, lanframes.nd(a["6"], host["6"], 136, prefix + "0", MARK)), 74),
        "neighbors": (eth(host["mac"], a["mac"], 0x800, ip4(host["4"])), 30),
        "neighbors6": (eth(host["mac"], a["mac"], 0x86dd, six(prefix + "5:0")), 50),
        "connections": (eth(host["mac"], a["mac"], 0x800, ip4(outside["4"])), 34),
        "connections6": (eth(host["mac"], a["mac"], 0x86dd, six(outside["6"])), 54),
        "connections to the host": (eth(host["mac"], a["mac"], 0x800, ip4(host["4"])), 34),
        "connections to b": (eth(b["mac"], a["mac"], 0x800, ip4(b["4"])), 34),
        # First ones of packets whose rest never comes; ends that overlap them.
        "fragments": (eth(host["mac"], a["mac"], 0x800, fragment(a["4"], host["4"], 1, 0, True, MARK)), 16),
        "overlaps": (eth(host["mac"], a["mac"], 0x800, fragment(a["4"], host["4"], 1, 16, True, MARK)), 40),
        "fragments6": (eth(host["mac"], a["mac"], 0x86dd, piece), 58),
        "tags": (eth(everybody, a["mac"], 0x88a8, q(0x8100) + q(0x8100) + q(0x800) + ip4(b["4"])), 50),
        "wrong sums": (eth(host["mac"], a["mac"], 0x800, ip4(outside["4"])[:10] + b"\1\1" + ip4(outside["4"])[12:]), 34),
        "runts": (eth(host["mac"], a["mac"], 0x800, b"\x45\0\0\x14"), 14),
        "runts6": (eth(everybody, a["mac"], 0x86dd, b"\x60\0\0\0"), 14),
        "giants": (eth(host["mac"], a["mac"], 0x800, lanframes.ipv4(a["4"], host["4"], 1, 1, bytes(8000))), 60),
    }


def unreclaimable():
    """What the kernel of all that runs here keeps for itself, in MiB."""
    return next(int(line.split()[1]) >> 10 for line in open("/proc/meminfo") if line.startswith("SUnreclaim"))


def known(lab):
    """What the host keeps of the network: MACs, neighbors, connections, memory of the servers."""
    pid, = servers(lab)
    rss = next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))
    return {"macs": sh("bridge fdb show br vr-lab").count("\n"), "neighbors": sh("ip neigh show nud all dev vr-lab").count("\n"),
            "connections": int(sh("sysctl -n net.netfilter.nf_conntrack_count")), "server": rss, "kernel": unreclaimable()}


def storms(lab, count, *only):
    """Of each kind so many frames, or of those that are named: KIND or KIND=COUNT."""
    lab.vireo("net", "create", "lab", "--nat")
    a, b = lab.machine("lab", "a"), lab.machine("lab", "b")
    show = shown(lab)
    mac = json.loads(sh("ip -j link show vr-lab"))[0]["address"]
    host = {"mac": mac, "4": show["subnet"].rsplit(".", 1)[0] + ".1", "6": show["subnet6"].split("/")[0] + "1"}
    kinds = frames({"mac": a.mac, **a.addresses}, {"mac": b.mac, **b.addresses}, host, lab.outside.addresses)
    pairs = [(b, lab.host), (b, lab.outside), (lab.host, b)]
    found = {"before": known(lab), "table": lab.table(pairs), "storms": {}}
    for name in only or kinds:
        name, _, own = name.partition("=")
        frame, at = kinds[name]
        a.cable.stdin.write(f"{own or count} {at} {frame.hex()}\n")
        a.cable.stdin.flush()
        # All the while, by new connections and by an old one; the worst of it counts.
        lost, longest, rounds = set(), 0, 0
        while not select.select([a.cable.stdout], [], [], 0)[0] or not rounds:
            begin = time.monotonic()
            table = lab.table(pairs, 2)
            more = {"flow": b.ask(lab.outside.addresses["4"], "flow", 2, ECHO), "long": b.ask(lab.outside.addresses["4"], "long", 1)}
            answers = b.answers()
            table.update({name: answers[n] for name, n in more.items()})
            longest, rounds = max(longest, time.monotonic() - begin), rounds + 1
            lost |= {k for k, v in table.items() if not v}
            # Not so often that b has used up its own share of connections.
            time.sleep(max(0.0, begin + 0.2 - time.monotonic()))
        found["storms"][name] = {"frames": a.cable.stdout.readline().split(), "lost": sorted(lost), "longest": round(longest, 2),
                                 "rounds": rounds, "after": known(lab)}
    return found


if __name__ == "__main__":
    lanlab.play(globals())
