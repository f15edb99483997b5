"""Frames that a machine may and may not send, for lanscenes.py. Run as a program in a machine's name space: "send" reads
frames as hex, one a line; "hear" prints which marked frames come until its input ends, and a moment after."""
import binascii
import select
import socket
import struct
import sys
import time

from lanlab import checksum

MARK = b"vireo-frame-%03d!"


def mac(text):
    return binascii.unhexlify(text.replace(":", ""))


def eth(dst, src, kind, body):
    return mac(dst) + mac(src) + struct.pack("!H", kind) + body


def arp(op, src_mac, src_ip, dst_ip, mark):
    return struct.pack("!HHBBH", 1, 0x800, 6, 4, op) + mac(src_mac) + socket.inet_aton(src_ip) + bytes(6) + \
        socket.inet_aton(dst_ip) + mark


def ipv4_of(src, dst, proto, body):
    head = lambda total: struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, proto, total) + socket.inet_aton(src) + \
        socket.inet_aton(dst)
    return head(checksum(head(0))) + body


def ipv4(src, dst, sport, dport, mark):
    return ipv4_of(src, dst, 17, struct.pack("!HHHH", sport, dport, 8 + len(mark), 0) + mark)


def asks_dhcp(src, machine, mark):
    """What a DHCP server gets from `src`, as far as the MAC that it is to be for."""
    return eth("ff:ff:ff:ff:ff:ff", src, 0x800, ipv4("0.0.0.0", "255.255.255.255", 68, 67, bytes(28) + mac(machine) + mark))


def ipv6(src, dst, proto, body):
    return struct.pack("!IHBB", 6 << 28, len(body), proto, 255) + socket.inet_pton(socket.AF_INET6, src) + \
        socket.inet_pton(socket.AF_INET6, dst) + body


def udp6(src, dst, sport, dport, mark):
    return ipv6(src, dst, 17, struct.pack("!HHHH", sport, dport, 8 + len(mark), 0) + mark)


def nd(src, dst, kind, target, mark):
    return ipv6(src, dst, 58, struct.pack("!BBHI", kind, 0, 0, 0x60000000 if kind == 136 else 0) +
                socket.inet_pton(socket.AF_INET6, target) + mark)


def options(then, body):
    """An extension header that says nothing, with `body` in it."""
    pad = (-len(body) - 4) % 8
    return struct.pack("!BBBB", then, (len(body) + 4 + pad) // 8 - 1, 1, len(body) + pad) + body + bytes(pad)


def part(then, offset, more):
    return struct.pack("!BBHI", then, 0, offset | more, 77)


def own6(prefix, of):
    """The address of a /64 that follows from a MAC."""
    m = mac(of)
    return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, prefix.split("/")[0])[:8] +
                            bytes([m[0] ^ 2]) + m[1:3] + b"\xff\xfe" + m[3:])


def hostile(a, b, gateway4, gateway6, prefix):
    """{name: frame} from machine a to machine b, which are {"mac", "4", "6"}."""
    other, d, s = "52:54:00:99:99:99", b["mac"], a["mac"]
    frames = {
        "good arp": lambda m: eth(d, s, 0x806, arp(1, s, a["4"], b["4"], m)),
        "good arp probe": lambda m: eth(d, s, 0x806, arp(1, s, "0.0.0.0", a["4"], m)),
        "good ipv4": lambda m: eth(d, s, 0x800, ipv4(a["4"], b["4"], 1000, 1000, m)),
        "good dhcp": lambda m: asks_dhcp(s, s, m),
        "good ipv6": lambda m: eth(d, s, 0x86dd, udp6(a["6"], b["6"], 1000, 1000, m)),
        "good ipv6 of its own making": lambda m: eth(d, s, 0x86dd, udp6(prefix + "aaaa:1", b["6"], 1000, 1000, m)),
        "good nd": lambda m: eth(d, s, 0x86dd, nd(a["6"], b["6"], 136, a["6"], m)),
        "good dad": lambda m: eth("33:33:ff:00:00:01", s, 0x86dd, nd("::", "ff02::1:ff00:1", 135, prefix + "aaaa:2", m)),
        "good options": lambda m: eth(d, s, 0x86dd, ipv6(a["6"], b["6"], 60, options(17, b"") + udp6(a["6"], b["6"], 1000, 1000, m)[40:])),
        "good fragment": lambda m: eth(d, s, 0x86dd, ipv6(a["6"], b["6"], 44, part(17, 0, 1) + udp6(a["6"], b["6"], 1000, 1000, m)[40:])),
        "good rest of a fragment": lambda m: eth(d, s, 0x86dd, ipv6(a["6"], b["6"], 44, part(17, 24, 0) + m)),
        "fragment that ends before its head": lambda m: eth(d, s, 0x86dd, ipv6(a["6"], b["6"], 44, part(60, 0, 1) + options(17, m))),
        "options and no more": lambda m: eth(d, s, 0x86dd, ipv6(a["6"], b["6"], 60, options(17, m))),
        "nd in fragments": lambda m: eth(d, s, 0x86dd, ipv6(a["6"], b["6"], 44, part(58, 0, 0) + nd(a["6"], b["6"], 136, a["6"], m)[40:])),
        "arp probe of another": lambda m: eth("ff:ff:ff:ff:ff:ff", s, 0x806, arp(1, s, "0.0.0.0", b["4"], m)),
        "mac": lambda m: eth(d, other, 0x800, ipv4(a["4"], b["4"], 1000, 1000, m)),
        "arp address": lambda m: eth(d, s, 0x806, arp(2, s, gateway4, b["4"], m)),
        "arp mac": lambda m: eth(d, s, 0x806, arp(2, other, a["4"], b["4"], m)),
        "ipv4 address": lambda m: eth(d, s, 0x800, ipv4(gateway4, b["4"], 1000, 1000, m)),
        "ipv4 of nobody": lambda m: eth(d, s, 0x800, ipv4("203.0.113.1", b["4"], 1000, 1000, m)),
        "ipv6 address": lambda m: eth(d, s, 0x86dd, udp6(b["6"], b["6"], 1000, 1000, m)),
        "ipv6 gateway": lambda m: eth(d, s, 0x86dd, udp6(gateway6, b["6"], 1000, 1000, m)),
        "ipv6 elsewhere": lambda m: eth(d, s, 0x86dd, udp6("2001:db8:5::1", b["6"], 1000, 1000, m)),
        "ipv6 nothing": lambda m: eth(d, s, 0x86dd, udp6("::", b["6"], 1000, 1000, m)),
        "nd of the gateway": lambda m: eth(d, s, 0x86dd, nd(a["6"], b["6"], 136, gateway6, m)),
        "nd of another": lambda m: eth(d, s, 0x86dd, nd(a["6"], b["6"], 136, b["6"], m)),
        "dad of another": lambda m: eth("33:33:ff:00:00:01", s, 0x86dd, nd("::", "ff02::1:ff00:1", 135, b["6"], m)),
        "router": lambda m: eth("33:33:00:00:00:01", s, 0x86dd, nd(a["6"], "ff02::1", 134, "fe80::", m)),
        "redirect": lambda m: eth(d, s, 0x86dd, nd(a["6"], b["6"], 137, "fe80::", m)),
        "dhcp server": lambda m: eth("ff:ff:ff:ff:ff:ff", s, 0x800, ipv4(a["4"], "255.255.255.255", 67, 68, m)),
        "dhcpv6 server": lambda m: eth(d, s, 0x86dd, udp6(a["6"], b["6"], 547, 546, m)),
        "dhcp server of any port": lambda m: eth("ff:ff:ff:ff:ff:ff", s, 0x800, ipv4(a["4"], "255.255.255.255", 6767, 68, m)),
        "dhcpv6 server of any port": lambda m: eth(d, s, 0x86dd, udp6(a["6"], b["6"], 5470, 546, m)),
        "dhcp for another": lambda m: asks_dhcp(s, other, m),
        "dhcp for nobody": lambda m: eth("ff:ff:ff:ff:ff:ff", s, 0x800, ipv4("0.0.0.0", "255.255.255.255", 68, 67, m)),
        "dhcp for another by its own address": lambda m: eth(d, s, 0x800, ipv4(a["4"], b["4"], 68, 67, bytes(28) + mac(other) + m)),
        "querier": lambda m: eth("01:00:5e:00:00:01", s, 0x800, ipv4_of(a["4"], "224.0.0.1", 2, struct.pack("!BBHI", 0x11, 1, 0, 0) + m)),
        **{f"nd {kind}": lambda m, kind=kind: eth(d, s, 0x86dd, nd(a["6"], b["6"], kind, a["6"], m)) for kind in (138, 141, 142, 148, 151)},
        "vlan": lambda m: eth(d, s, 0x8100, struct.pack("!HH", 1, 0x800) + ipv4(gateway4, b["4"], 1000, 1000, m)),
        "unknown": lambda m: eth(d, s, 0x88b5, m),
    }
    for n in range(20):
        frames[f"many {n}"] = lambda m, n=n: eth(d, s, 0x86dd, udp6(f"{prefix}bbbb:{n + 1:x}", b["6"], 1000, 1000, m))
    return {name: make(MARK % n) for n, (name, make) in enumerate(frames.items())}


def send():
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind(("eth0", 0))
    for line in sys.stdin:
        s.send(binascii.unhexlify(line.strip()))
        time.sleep(0.002)


def hear():
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.bind(("eth0", 0))
    s.settimeout(0.1)
    print("ready", flush=True)
    ended = False
    while True:
        try:
            data, where = s.recvfrom(4000)
        except socket.timeout:
            if ended:
                return
            ended = bool(select.select([sys.stdin], [], [], 0)[0])
            continue
        at = data.find(b"vireo-frame-")
        if at >= 0 and where[2] != socket.PACKET_OUTGOING:
            print(int(data[at + 12:at + 15]), flush=True)


if __name__ == "__main__":
    send() if sys.argv[1] == "send" else hear()
