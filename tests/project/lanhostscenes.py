"""What a network does to its host and to what others have there, in a lab (lanlab.py): scenarios for test_lan_host.py."""
import ctypes
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time

import lanframes
import lanlab
from lan_net import discover
from lanfirewalls import asked, dropped, endless, firewalled, noticed, noticed_frames, noticed_input, noticed_legacy  # noqa: F401, scenes of their own file
from lanlab import sh
from lanscenes import gone, routes_to, servers, shown, wait


def ended_by_nobody(pid):
    """Whether a process of user nobody may end it."""
    words = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", f"kill -0 {pid}"]
    return subprocess.run(words, stderr=subprocess.DEVNULL).returncode == 0


def jailed(lab):
    """What the process of the servers is and sees."""
    lab.vireo("net", "create", "lab", "--nat")
    pid, = servers(lab)
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)
    found = {"uid": status["Uid"].split(), "gid": status["Gid"].split(), "groups": status["Groups"].split(),
             "capabilities": status["CapPrm"], "root": os.listdir(f"/proc/{pid}/root/"),
             "leases": os.stat(f"/proc/{pid}/root/leases").st_uid, "ended": ended_by_nobody(pid),
             "mounts": open(f"/proc/{pid}/mountinfo").read().count("\n"),
             "own": os.stat(os.path.join(lab.dir, "run", "lab")).st_uid}
    lab.vireo("net", "create", "two", "--nat")
    found["others"] = [os.stat(f"/proc/{p}/root/leases").st_uid for p in servers(lab) if p != pid]
    lab.vireo("net", "delete", "two", "lab")
    return {**found, "left": gone(lab)}


def dnsmasq_jailed(lab):
    """What dnsmasq is when it has begun, and whether it still hears of machines."""
    os.chmod(lab.dir, 0o755)
    lab.vireo("net", "create", "lab", "--nat", "--dns", "dnsmasq")
    pid, = servers(lab)
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)
    a, b = lab.machine("lab", "a"), lab.machine("lab", "b")
    gateway = shown(lab)["subnet"].rsplit(".", 1)[0] + ".1"
    wait(lambda: b.addresses["4"] in a.sh(f"busybox nslookup -type=a b {gateway}", check=False))
    found = {"uid": status["Uid"].split(), "ended": ended_by_nobody(pid), "capabilities": int(status["CapPrm"], 16), "bounds": int(status["CapBnd"], 16),
             "no new": status["NoNewPrivs"], "named": b.addresses["4"] in a.sh(f"busybox nslookup -type=a b {gateway}", check=False),
             "lease": "obtained" in a.sh("busybox udhcpc -i eth0 -n -q -f -t 5 -T 1 -s /bin/true 2>&1", check=False)}
    for m in (a, b):
        m.end()
    lab.machines.clear()
    lab.vireo("net", "delete", "lab")
    return {**found, "left": gone(lab)}


ASK = """
import socket, struct, sys
q = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"\\1a\\3lab\\x08internal\\0" + struct.pack("!2H", 1, 1)
kind = socket.SOCK_STREAM if sys.argv[2] == "tcp" else socket.SOCK_DGRAM
with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, kind) as s:
    s.settimeout(float(sys.argv[3]))
    try:
        s.connect((sys.argv[1], 53))
        s.send(struct.pack("!H", len(q)) * (sys.argv[2] == "tcp") + q)
        print(len(s.recv(500)))
    except OSError:
        print(0)
"""


def answers(spaces, to, patience="0.5"):
    """Who of them has an answer of the name server, by which protocol."""
    asked = {(s.name, how): subprocess.Popen(["nsenter", "-t", str(s.pid or os.getpid()), "-n", sys.executable, "-c", ASK, to, how, patience],
                                             stdout=subprocess.PIPE, text=True)
             for s in spaces for how in ("udp", "tcp")}
    return sorted(f"{name} {how}" for (name, how), p in asked.items() if int(p.communicate()[0]))


KNOCK = """
import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as s:
    for port in sys.argv[2:]:
        for n in range(50):
            try:
                s.sendto(b"x" * 300, (sys.argv[1], int(port)))
                break
            except OSError:
                time.sleep(0.02)  # a router advertisement that has just come is being taken
with socket.socket(family, socket.SOCK_STREAM) as s:
    s.settimeout(0.5)
    print(s.connect_ex((sys.argv[1], 53)) == 0)
"""


def knock(space, to, *ports):
    """Whether the host takes a connection to port 53, and how many datagrams for these ports a socket of its."""
    def taken():
        rows = [line.split() for line in open("/proc/net/snmp6") if line.startswith("Udp6InDatagrams")]
        return int(rows[0][1]) if ":" in to else int([line.split() for line in open("/proc/net/snmp") if line.startswith("Udp:")][1][1])
    before = taken()
    r = subprocess.run(["nsenter", "-t", str(space.pid), "-n", sys.executable, "-c", KNOCK, to, *map(str, ports)], stdout=subprocess.PIPE, text=True, check=True)
    wait(lambda: taken() - before == len(ports), 0.3)
    return [r.stdout.strip() == "True", taken() - before]


def resolver(lab):
    """Who is answered by dnsmasq at the gateway's address, which the outside has a way to; and whose packets it gets at all."""
    lab.vireo("net", "create", "lab", "--nat", "--dns", "dnsmasq", "--subnet", "198.51.100.0/24", "--subnet6", "2001:db8:9::/64")
    a = lab.machine("lab", "a")
    routes_to(lab, lab.outside, shown(lab))
    found = {to: answers((a, lab.host, lab.outside), to) for to in ("198.51.100.1", "2001:db8:9::1")}
    found["knocks"] = {s.name: [knock(s, "198.51.100.1", *ports), knock(s, "2001:db8:9::1", 53)] for s, ports in ((a, (53,)), (lab.outside, (53, 67)))}
    found["outside reaches"] = lab.outside.ask("198.51.100.1", "udp", 0.5) and any(lab.outside.answers().values())
    return found


# A host that forwards by single interfaces, and takes no redirects.
HOST = {"ipv4/ip_forward": "0", "ipv6/conf/all/forwarding": "0", "ipv4/conf/all/accept_redirects": "0",
        "ipv4/conf/d0/forwarding": "1", "ipv4/conf/d1/forwarding": "1", "ipv4/conf/up0/forwarding": "0",
        "ipv4/conf/default/forwarding": "1", "ipv6/conf/d0/forwarding": "1", "ipv6/conf/default/forwarding": "0",
        "ipv6/conf/d0/accept_ra": "1", "ipv6/conf/up0/accept_ra": "1"}


def forwarding(lab):
    """Switches of the host before, while and after; with one that somebody else changes meanwhile."""
    sh("ip link add d0 type veth peer name d1; ip link set d0 up")
    for name, value in HOST.items():
        open("/proc/sys/net/" + name, "w").write(value)
    look = lambda: {name: open("/proc/sys/net/" + name).read().strip() for name in HOST}
    before = look()
    found = {"before": {k: v for k, v in before.items() if v != HOST[k]}}
    lab.vireo("net", "create", "lab", "--nat")
    found["while"] = look()
    lab.vireo("net", "delete", "lab")
    found["after"] = {k: v for k, v in look().items() if v != before[k]}
    lab.vireo("net", "create", "lab", "--nat")
    sh("sysctl -qw net.ipv4.conf.d1.forwarding=0 net.ipv4.conf.all.accept_redirects=1")
    lab.vireo("net", "delete", "lab")
    found["changed"] = {k: v for k, v in look().items() if v != before[k]}
    sh("ip link del d0")
    return {**found, "left": gone(lab)}


def relied(lab):
    """Forwarding that others rely on by now stays on, by family; who does not forward keeps nothing on."""
    off = "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 net.ipv6.conf.up0.accept_ra=1"
    bridge = "ip link add x0 type bridge; ip link set x0 up; ip addr add 10.66.0.1/24 dev x0"
    nat = "add table {0} x; add chain {0} x y {{ type nat hook postrouting priority 100; }}; "
    found = {}
    for name, begin, end in (
            ("bridge", bridge, "ip link del x0"),
            ("bridge6", "ip link add x0 type bridge; ip link set x0 up; ip addr add fd00:66::1/64 dev x0 nodad", "ip link del x0"),
            ("pair", "ip link add x0 type veth peer name x1; ip addr add 10.66.0.1/24 dev x0", "ip link del x0"),
            ("nat", "nft '" + nat.format("ip") + "add rule ip x y masquerade'", "nft delete table ip x"),
            ("nat6", "nft '" + nat.format("ip6") + "add rule ip6 x y masquerade'", "nft delete table ip6 x"),
            ("both", "nft '" + nat.format("inet") + "add rule inet x y masquerade'", "nft delete table inet x"),
            ("machine", bridge + "; ip route add default via 10.66.0.2 dev x0 metric 9000", "ip link del x0"),
            ("filters", "nft '" + nat.format("ip") + "add chain ip x z { type filter hook forward priority 0; }; add rule ip x z counter'",
             "nft delete table ip x"),
            ("nobody", "ip link add x0 type bridge; ip link set x0 up", "ip link del x0")):
        sh(off)
        lab.vireo("net", "create", "lab", "--nat")
        sh(begin)
        said = lab.vireo("net", "delete", "lab", check=False).stderr
        left = lab.left()
        found[name] = [*left["forward"], sh("sysctl -n net.ipv6.conf.up0.accept_ra").strip(), re.findall(r"IPv.*", said),
                       [t for t in left["tables"] if "vireo" in t] + left["files"]]
        sh(end)
    sh(off)
    return found


def led(lab):
    """The administrator's own translation to machines: of a network that anybody reaches, and of one that nobody does. A port that
    the first one publishes no more ends for all that.
    """
    lab.vireo("net", "create", "lab", "--routed", "--publish", f"tcp:8081-a:{lanlab.ECHO}")
    lab.vireo("net", "create", "two", "--nat")
    a, b = lab.machine("lab", "a"), lab.machine("two", "b")
    rules = "".join(f"add rule inet x y meta nfproto ipv{f} tcp dport {port} dnat {'ip' if f == '4' else 'ip6'} to {m.addresses[f]} : {lanlab.PORT}; "
                    for f in "46" for m, port in ((a, 9090), (b, 9091)))
    sh(f"nft 'add table inet x; add chain inet x y {{ type nat hook prerouting priority -110; }}; {rules}'")
    hosts = {"4": "192.0.2.1", "6": "2001:db8::1"}

    def flows():
        asked = [lab.outside.ask(to, "flow", 1, 8081) for to in hosts.values()]
        answers = lab.outside.answers()
        return [answers[n] for n in asked]

    asked = {f"{name}{f}": lab.outside.ask(to, "tcp", 0.8, port) for f, to in hosts.items() for name, port in (("routed", 9090), ("nat", 9091))}
    answers = lab.outside.answers()
    found = {**{name: answers[n] for name, n in asked.items()}, "published": flows()}
    lab.vireo("net", "edit", "lab", "--publish", "none")
    found["no more"] = flows()
    sh("nft delete table inet x")
    return found


def wire(space, ifname="eth0"):
    """A packet socket in a name space."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    for fd, step in ((os.open(f"/proc/{space.pid or os.getpid()}/ns/net", os.O_RDONLY), True), (own, False)):
        assert ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000) == 0
        os.close(fd)
        if step:
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            s.bind((ifname, 0))
    return s


def arriving(mouth, ear, frames):
    """Those of {name: frame, which has the mark of its number} that come out of the other socket."""
    for frame in frames.values():
        mouth.send(frame)
    heard, end = set(), time.monotonic() + 0.3
    while len(heard) < len(frames) and (left := end - time.monotonic()) > 0:
        ear.settimeout(left)
        try:
            data, where = ear.recvfrom(4000)
        except socket.timeout:
            break
        at = data.find(b"vireo-frame-")
        if at >= 0 and where[2] != socket.PACKET_OUTGOING:
            heard.add(int(data[at + 12:at + 15]))
    return sorted(name for n, name in enumerate(frames) if n in heard)


def bindings(lab):
    """An address that b has made itself is b's: after new rules, and while b is away for a moment."""
    lab.vireo("net", "create", "lab", "--isolated")
    a, b = lab.machine("lab", "a"), lab.machine("lab", "b")
    made = shown(lab)["subnet6"].split("/")[0] + "cccc:1"
    right = lanframes.own6(shown(lab)["subnet6"], "52:54:00:00:00:03")

    def arrive(m, to, **sources):
        mouth, ear = wire(m), wire(to)
        send = lambda **sources: arriving(mouth, ear, {
            name: lanframes.eth(to.mac, m.mac, 0x86dd, lanframes.udp6(source, to.addresses["6"], 1, 1, lanframes.MARK % n))
            for n, (name, source) in enumerate(sources.items())})
        wait(lambda: send(own=m.addresses["6"]))
        return send(**sources)

    found = {"first": arrive(b, a, made=made), "free": arrive(a, b, right=right)}
    c = lab.machine("lab", "c", "52:54:00:00:00:03")
    found["stolen"], found["again"] = arrive(a, b, made=made, right=right), arrive(b, a, made=made)
    b.end()
    lab.machines.remove(b)
    c.addresses["6"] = right
    lab.vireo("net", "edit", "lab", "--host", "52:54:00:00:00:99,fixed,")
    found["stolen while away"] = arrive(a, c, made=made)
    found["back"] = arrive(lab.machine("lab", "b"), a, made=made)
    # And of the host's own saying nothing comes into this network.
    def said():
        try:
            return arriving(wire(lab.host, "vr-lab"), wire(a), {"said": lanframes.eth(a.mac, c.mac, 0x88b5, lanframes.MARK % 0)})
        except OSError as e:
            return e.strerror

    found["host"] = [said()]
    sh("nft delete table netdev vireo-lab")
    found["host"].append(said())
    return found


def reused(lab):
    """A tap with the name that a killed machine's had, in somebody else's bridge: what comes of its frames."""
    lab.vireo("net", "create", "lab", "--isolated")
    a = lab.machine("lab", "a", configure=False)
    tap, before = a.tap, "elements" in sh("nft list set bridge vireo-lab cables")
    a.end()
    lab.machines.clear()
    sh(f"ip link add other type bridge; ip link set other up; ip link add {tap} type veth peer name in0; ip link set {tap} master other up; "
       "ip link add out1 type veth peer name in1; ip link set out1 master other up; ip link set in0 up; ip link set in1 up")
    mouth, ear = wire(lab.host, "in0"), wire(lab.host, "in1")
    # A port carries once the kernel has seen that its link is up, some time later.
    heard = wait(lambda: arriving(mouth, ear, {"foreign": lanframes.eth("ff:ff:ff:ff:ff:ff", "52:54:00:99:99:99", 0x88b5,
                                                                        lanframes.MARK % 0)}), 2)
    still = "elements" in sh("nft list set bridge vireo-lab cables")
    sh(f"ip link del {tap}; ip link del out1; ip link del other")
    return {"before": before, "still": still, "heard": heard}


def addressed(ifname):
    """All that an interface has of addresses, routes and neighbors, without the times that pass and its own link-local address."""
    own = lanframes.own6("fe80::/64", json.loads(sh(f"ip -j link show dev {ifname}"))[0]["address"])
    text = sh(f"ip addr show dev {ifname}; ip -4 route show table all; ip -6 route show table all; ip neigh show nud permanent; ip neigh show proxy; "
              "ip -6 neigh show proxy")
    lines = [re.sub(r" (expires|valid_lft|preferred_lft) \S+| linkdown| pref medium| tentative| dadfailed", "", line).strip() for line in text.splitlines()]
    return sorted(line for line in lines if not re.search(fr"^(\d+: |link/)|{own}|fe80::/|ff00::|^(local|anycast|broadcast) .*proto kernel|valid_lft", line))


def rewrite(lab, **values):
    """Change what is written of the uplink of a network. None: it is not written."""
    path = os.path.join(lab.dir, "run", "lab", "state.json")
    state = json.load(open(path))
    state["uplink"] = {k: v for k, v in {**state["uplink"], **values}.items() if v is not None}
    json.dump(state, open(path, "w"))


def uplink(lab):
    """What an interface has, while its bridge has it and afterwards; and another one that was down."""
    for line in ("ip addr add 2001:db8:9::1/64 dev up0 valid_lft 3000 preferred_lft 2000 nodad",
                 "ip addr add 192.0.2.4/24 dev up0 label up0:1",
                 "ip addr add 198.18.0.4/24 dev up0 noprefixroute",
                 "ip route add 198.18.0.0/24 dev up0 proto kernel scope link src 198.18.0.4 metric 100",
                 "ip route add 172.21.0.0/16 nexthop via 192.0.2.2 dev up0 nexthop via 192.0.2.3 dev up0",
                 "ip route add 172.22.0.0/16 via 10.99.0.1 dev up0 onlink table 77",
                 "ip -6 route add 2001:db8:55::/48 via 2001:db8::2 metric 5",
                 "ip -6 route add 2001:db8:56::/48 via 2001:db8::2 dev up0 proto ra expires 900",
                 "ip addr add fe80::1/64 dev up0; ip addr add 169.254.7.7/16 scope link dev up0; ip addr add 2001:db8:8::1/64 dev up0",
                 "ip route add 172.24.0.0/16" + "".join(f" nexthop via 192.0.2.{n} dev up0" for n in range(100, 140)),
                 "ip -6 route add 2001:db8:57::/48" + "".join(f" nexthop via 2001:db8::{n} dev up0" for n in range(100, 140)),
                 "ip route add local 198.51.100.0/25 dev up0; ip route add multicast 239.1.0.0/16 dev up0",
                 "ip neigh add proxy 192.0.2.78 dev up0; ip neigh add proxy 2001:db8::78 dev up0",
                 "ip neigh add 192.0.2.77 lladdr 52:54:00:00:00:77 nud permanent dev up0",
                 "ip link add e0 type veth peer name e1"):
        sh(line)
    before = addressed("up0")
    note = lab.vireo("net", "create", "lab", "--bridged", "up0", check=False).stderr
    found = {"note": note, "count": len(before), "still": [line for line in addressed("up0") if "up0" in line and not re.search("nud|PERMANENT|proxy", line)],
             "gets": [sh(f"ip route get {to}").split(" dev ")[1].split()[0]
                      for to in ("192.0.2.2", "172.21.0.1", "2001:db8::2", "2001:db8:9::2", "2001:db8:55::1", "2001:db8:56::1", "2001:db8:99::1")],
             "moved": sorted(set(before) ^ set(line.replace("vr-lab", "up0") for line in addressed("vr-lab")))}
    # What somebody removes meanwhile does not come back,
    sh("ip -6 route del 2001:db8:55::/48 dev vr-lab")
    lab.vireo("net", "delete", "lab")
    found["after"] = sorted(set(before) ^ set(addressed("up0")))
    # but what is lost where who moved it is killed.
    before = addressed("up0")
    lab.vireo("net", "create", "lab", "--bridged", "up0")
    rewrite(lab, whole=False)
    sh("ip route del 172.21.0.0/16; ip route del 172.22.0.0/16 table 77")
    lab.vireo("net", "delete", "lab")
    found["killed"] = sorted(set(before) ^ set(addressed("up0")))
    # An older version has moved it.
    lab.vireo("net", "create", "lab", "--bridged", "up0")
    rewrite(lab, whole=None, boot=None)
    sh("ip route del 172.21.0.0/16; ip -6 route del 2001:db8:56::/48")
    lab.vireo("net", "edit", "lab", "--mtu", "1400")
    found["older"] = [sh("ip route show 172.21.0.0/16; ip -6 route show 2001:db8:56::/48")]
    lab.vireo("net", "delete", "lab")
    found["older"].append(sorted(line.split(" ")[0] for line in set(before) ^ set(addressed("up0"))))
    sh("ip addr add 198.18.1.1/24 dev e0; ip addr add 2001:db8:18::1/64 dev e0")
    lab.vireo("net", "create", "lab", "--bridged", "e0")
    lab.vireo("net", "delete", "lab")
    down, = json.loads(sh("ip -j addr show dev e0"))
    found["down"] = ["UP" in down["flags"], sorted(a["local"] for a in down["addr_info"])]
    # Set down by somebody while it was in the bridge: it has no routes then, and the network goes all the same.
    found["cut"] = []
    for end in ("stop", "delete"):
        sh("ip link set e1 up; ip link set e0 up; ip route add 172.26.0.0/16 via 198.18.1.2")
        lab.vireo("net", *(["start", "lab"] if end == "delete" else ["create", "lab", "--bridged", "e0"]))
        sh("ip link set e0 down")
        r = lab.vireo("net", end, "lab", check=False)
        e0, = json.loads(sh("ip -j addr show dev e0"))
        found["cut"].append([r.returncode, r.stderr, [n["state"] for n in json.loads(lab.vireo("net", "list", "--json"))],
                             "UP" in e0["flags"], sorted(a["local"] for a in e0["addr_info"])])
    sh("ip nexthop add id 7 via 192.0.2.2 dev up0; ip route add 172.23.0.0/16 nhid 7")
    found["refused"] = lab.vireo("net", "create", "lab", "--bridged", "up0", check=False).stderr
    sh("ip route del 172.23.0.0/16; ip nexthop del id 7; ip link set e0 up; "
       "seq 10000 | awk '{ printf \"route add 172.25.%d.%d via 198.18.1.2 dev e0\\n\", $1 / 250, $1 % 250 }' | ip -batch -")
    found["many"] = [lab.vireo("net", "create", "lab", "--bridged", "e0", check=False).stderr, sh("ip route show dev e0 | wc -l").strip()]
    sh("ip link del e0")
    # What was so before the host has booted does not come back after that.
    lab.vireo("net", "create", "lab", "--bridged", "up0")
    rewrite(lab, boot="another")
    sh("ip link del vr-lab; ip addr add 198.51.100.9/24 dev up0")
    lab.vireo("net", "start", "other", check=False)
    found["booted"] = [line for line in sh("ip -4 -br addr show dev up0").split()[2:]]
    return {**found, "left": gone(lab)}


# Switches as an administrator has set them, each unlike what a new interface has.
SWITCHES = {"ipv4/conf/%s/rp_filter": "2", "ipv4/conf/%s/forwarding": "1", "ipv4/conf/%s/proxy_arp": "1", "ipv4/conf/%s/arp_ignore": "1",
            "ipv4/conf/%s/accept_redirects": "0", "ipv4/neigh/%s/retrans_time_ms": "160", "ipv6/conf/%s/accept_ra": "0",
            "ipv6/conf/%s/autoconf": "0", "ipv6/conf/%s/forwarding": "1", "ipv6/conf/%s/stable_secret": "2001:db8::7"}


def advertise(lab, lifetime, valid):
    """A router of the outside says that it is one, and a prefix."""
    link, = json.loads(lab.outside.sh("ip -j addr show dev out0"))
    own = next(a["local"] for a in link["addr_info"] if a["scope"] == "link")
    six = lambda text: socket.inet_pton(socket.AF_INET6, text)
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime, 0, 0) + struct.pack("!BBBBIII", 3, 4, 64, 0xc0, valid, valid, 0) + six("2001:db8:7::")
    total = lanlab.checksum(six(own) + six("ff02::1") + struct.pack("!II", len(body), 58) + body)
    with wire(lab.outside, "out0") as s:
        s.send(lanframes.eth("33:33:00:00:00:01", link["address"], 0x86dd,
                             lanframes.ipv6(own, "ff02::1", 58, body[:2] + struct.pack("!H", total) + body[4:])))
    return own


def heard(ifname):
    """What there is of that router: its address' time, how it stands beside the static route, and whether the kernel calls it its own."""
    address = [a for a in json.loads(sh(f"ip -j -6 addr show dev {ifname}"))[0]["addr_info"] if a["local"].startswith("2001:db8:7:")]
    routes = sh(f"ip -6 route show default dev {ifname}")
    flags = [int(line.split()[8], 16) for line in open("/proc/net/ipv6_route") if line.startswith("0" * 32 + " 00 ") and line.split()[4][:4] == "fe80"]
    return [round(address[0]["valid_life_time"], -2) if address else 0, routes.count("default via"), "expires" in routes, "nexthop" in routes,
            [f >> 16 & 0x45 for f in flags]]


def routers(lab):
    """Routers outside that the uplink believes or not, before, while and after its bridge has what it had."""
    lab.outside.sh("sysctl -qw net.ipv6.conf.all.forwarding=1")
    sh("sysctl -qw net.ipv6.conf.default.accept_dad=0")
    found = {"first": heard("up0")}
    wait(lambda: advertise(lab, 1800, 2000) and heard("up0")[0])
    found["before"] = heard("up0")
    lab.vireo("net", "create", "lab", "--bridged", "up0")
    found["moved"] = heard("vr-lab")
    wait(lambda: advertise(lab, 1800, 3000) and heard("vr-lab")[0] == 3000)
    found["goes on"] = heard("vr-lab")
    # A network that makes the host forward does not make it deaf.
    lab.vireo("net", "create", "nat", "--nat")
    wait(lambda: advertise(lab, 1800, 4000) and heard("vr-lab")[0] == 4000)
    found["forwards"] = heard("vr-lab")
    lab.vireo("net", "delete", "nat")
    lab.vireo("net", "delete", "lab")
    found["after"] = heard("up0")
    wait(lambda: advertise(lab, 0, 5000) and heard("up0")[0] == 5000)
    found["ended"] = heard("up0")
    sh("ip -6 addr del $(ip -6 -br addr show dev up0 | tr ' ' '\\n' | grep 2001:db8:7:) dev up0; ip -6 route flush 2001:db8:7::/64")
    for name, value in SWITCHES.items():
        open("/proc/sys/net/" + name % "up0", "w").write(value)
    look = lambda ifname: {name: open("/proc/sys/net/" + name % ifname).read().strip() for name in SWITCHES}
    found["set"] = {name: value for name, value in look("up0").items() if not SWITCHES[name] in (value, "2001:db8::7")}
    before, own = look("up0"), sh("ip -6 -br addr show dev up0")
    lab.vireo("net", "create", "lab", "--bridged", "up0")
    found["copied"] = [n % "X" for n, v in look("vr-lab").items() if v != before[n]]
    for n in range(5):
        advertise(lab, 1800, 2000)
        time.sleep(0.1)
    found["not believed"] = heard("vr-lab")
    lab.vireo("net", "delete", "lab")
    found["kept"] = [heard("up0"), [n % "X" for n, v in look("up0").items() if v != before[n]], sh("ip -6 -br addr show dev up0") == own]
    sh("sysctl -qw net.ipv6.conf.up0.disable_ipv6=1")
    lab.vireo("net", "create", "lab", "--bridged", "up0")
    found["off"] = sh("sysctl -n net.ipv6.conf.vr-lab.disable_ipv6").strip()
    lab.vireo("net", "delete", "lab")
    return {**found, "left": gone(lab)}


def temporary(lab):
    """What the uplink and its bridge have of a router's prefix in turn, where the kernel makes temporary addresses of it."""
    sh("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.up0.use_tempaddr=2")

    def made(ifname):
        of = [a for a in json.loads(sh(f"ip -j -6 addr show dev {ifname}"))[0]["addr_info"] if a["local"].startswith("2001:db8:7:")]
        return sorted("temporary" if "temporary" in a else "mngtmpaddr" if "mngtmpaddr" in a else a["local"] for a in of)
    wait(lambda: advertise(lab, 1800, 2000) and len(made("up0")) == 2)
    found = [made("up0")]
    for _ in range(2):
        lab.vireo("net", "create", "lab", "--bridged", "up0")
        found.append(made("vr-lab"))
        lab.vireo("net", "delete", "lab")
        found.append(made("up0"))
    return {"made": found, "left": gone(lab)}


def unlike(lab):
    """A host whose new interfaces do not forward and have link-local addresses of another making, and with a wide link outside."""
    sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.default.forwarding=0 net.ipv6.conf.default.forwarding=0 "
       "net.ipv6.conf.default.addr_gen_mode=1; ip link set up0 mtu 9000")
    lab.outside.sh("ip link set out0 mtu 9000")
    lab.vireo("net", "create", "lab", "--nat")
    a = lab.machine("lab", "a")
    link, = json.loads(sh("ip -j addr show dev vr-lab"))
    found = {"reached": lab.table([(a, lab.outside)]), "switches": sh("sysctl -n net.ipv4.conf.vr-lab.forwarding net.ipv6.conf.vr-lab.forwarding").split(),
             "own": [x["local"] for x in link["addr_info"] if x["scope"] == "link"] == [lanframes.own6("fe80::/64", link["address"])]}
    a.end()
    lab.machines.clear()
    lab.vireo("net", "delete", "lab")
    mtu = lambda name: json.loads(sh(f"ip -j link show dev {name}"))[0]["mtu"]
    lab.vireo("net", "create", "lab", "--bridged", "up0")
    b = lab.machine("lab", "b", configure=False)
    found["widths"] = [[mtu("vr-lab"), mtu(b.tap), json.loads(b.sh("ip -j link show dev eth0"))[0]["mtu"]]]
    for width in ("1400", "0"):
        lab.vireo("net", "edit", "lab", "--mtu", width, "--force")
        found["widths"].append([mtu("vr-lab"), mtu(b.tap)])
    b.end()
    lab.machines.clear()
    lab.vireo("net", "delete", "lab")
    born, found["born"] = lambda: [mtu("vr-lab"), shown(lab)["state"]], []
    for commands in ((["create", "--bridged", "up0", "--mtu", "1400"],), (["create", "--bridged", "up0", "--mtu", "1500"],),
                     (["create", "--nat", "--mtu", "1400"], ["edit", "--bridged", "up0"]), (["create", "--bridged", "up0"],)):
        for command, *words in commands:
            lab.vireo("net", command, "lab", *words)
        found["born"].append(born())
        lab.vireo("net", "delete", "lab")
    sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
    for name, more in (("old", ()), ("both", ("--subnet6", "fd12:3456:789a::/64")), ("alone", ("--isolated",))):
        said = lab.vireo("net", "create", name, *(more if "--isolated" in more else ("--nat", *more)), "--no-start", check=False).stderr
        found[name] = ["IPv6 is off on this host" in said, "subnet6" in json.loads(lab.vireo("net", "show", name, "--json"))["definition"]]
    return found


def tables(lab):
    """Tables of somebody else's with names as ours have, and interfaces whose names mean something to nft."""
    sh("nft 'add table inet vireo-foo; add chain inet vireo-foo x; add table bridge vireo-bar; add table ip vireo-lab; add table inet vireo_forwarding; "
       "add table ip vireo_forwarding; add chain ip vireo_forwarding ipv4'; "
       "ip link add 'a\"b' type veth peer name 'e*'")
    before = sorted(sh("nft list tables").splitlines())
    found = {"errors": [lab.vireo("net", "create", name, *how, check=False).stderr for name, how in
                        (("bar", ["--isolated"]), ("lab", ["--nat"]))]}
    found["forwards"] = sh("sysctl -n net.ipv4.ip_forward").strip()
    found["between"] = sorted(set(sh("nft list tables").splitlines()) ^ set(before))
    sh("nft delete table inet vireo_forwarding")
    lab.vireo("net", "create", "lab", "--nat")
    found["while"] = sorted(set(sh("nft list tables").splitlines()) - set(before))
    lab.vireo("net", "delete", "lab")
    found["after"] = sorted(set(sh("nft list tables").splitlines()) ^ set(before))
    sh("ip link del 'e*'")
    return found


def switches(lab):
    """What a machine of a bridged network says to the switches outside."""
    sh("ip link add e0 type veth peer name e1; ip link set e0 up; ip link set e1 up")
    lab.vireo("net", "create", "lab", "--bridged", "e0")
    a = lab.machine("lab", "a", configure=False)
    frames, one = {"good": lanframes.eth("ff:ff:ff:ff:ff:ff", a.mac, 0x88b5, lanframes.MARK % 0)}, "52:54:00:99:99:99"
    for name, to, kind, body in (("bpdu", "01:80:c2:00:00:00", 39, b"\x42\x42\3\0\0\0\0"),
                                 ("pvst", "01:00:0c:cc:cc:cd", 50, b"\xaa\xaa\3\0\0\x0c\1\x0b"),
                                 ("llc", "ff:ff:ff:ff:ff:ff", 30, b"\xe0\xe0\3"),
                                 ("stp by type", "01:80:c2:00:00:00", 0x88b5, b""),
                                 ("mvrp", "01:80:c2:00:00:21", 0x88b5, b""), ("cfm", "01:80:c2:00:00:31", 0x88b5, b""),
                                 ("eapol", "01:80:c2:00:00:03", 0x888e, b"\2\1\0\0"), ("eapol to one", one, 0x888e, b"\2\1\0\0"),
                                 ("lldp", one, 0x88cc, b"\2\7\4"), ("macsec", one, 0x88e5, b"\x20\0\0\0\0\1"), ("lacp", one, 0x8809, b"\1\1"),
                                 ("pause", one, 0x8808, b"\0\1\xff\xff"), ("old tag", one, 0x9100, b"\0\1\x08\0"),
                                 # What a host may say.
                                 ("pppoe", one, 0x8863, b"\x11\x09\0\0\0\0"), ("mpls", one, 0x8847, b"\0\0\1\xff"), ("raw", one, 0x88b5, b"")):
        frames[name] = lanframes.eth(to, a.mac, kind, body + lanframes.MARK % len(frames))
    mouth, ear = wire(a), wire(lab.host, "e1")
    wait(lambda: arriving(mouth, ear, {"good": frames["good"]}))
    return arriving(mouth, ear, frames)


FAKE = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None)
if sys.argv[1] == "net":
    libc.unshare(0x40000000)
else:
    os.setgid(65534), os.setuid(65534)
libc.prctl(15, b"dnsmasq")
print("ready", flush=True)
time.sleep(60)
"""


def processes(lab):
    """dnsmasq beside processes that look like it: one in another network, one of another user; and what it writes."""
    lab.vireo("net", "create", "lab", "--nat", "--dns", "dnsmasq")
    run = os.path.join(lab.dir, "run", "lab")
    first = servers(lab)
    fakes = [subprocess.Popen([sys.executable, "-c", FAKE, how, f"--pid-file={run}/dnsmasq.pid"], stdout=subprocess.PIPE, text=True)
             for how in ("net", "user")]
    assert all(f.stdout.readline() == "ready\n" for f in fakes)
    real = lambda: [p for p in servers(lab) if p not in [f.pid for f in fakes]]
    limits = open(f"/proc/{first[0]}/limits").read()
    found = {"limited": int(re.search(r"Max file size +(\d+)", limits).group(1))}
    log = os.path.join(run, "server.log")
    a, size = lab.machine("lab", "a", configure=False), os.path.getsize(log)
    mouth, ear = wire(a), wire(a)
    for n in range(100):
        mouth.send(discover(a.mac, n))
    ear.settimeout(2)
    while b"\x63\x82\x53\x63\x35\1\2" not in ear.recv(2000):
        pass  # until it has made an offer
    found["grown"] = os.path.getsize(log) - size
    os.kill(first[0], signal.SIGKILL)
    wait(lambda: not real())
    lab.vireo("net", "start", "other", check=False)
    found["again"] = len(real())
    # Where it is written down nowhere it is found all the same.
    os.unlink(os.path.join(run, "dnsmasq.id"))
    second = real()
    lab.vireo("net", "start", "other", check=False)
    found["same"] = real() == second
    a.end()
    lab.machines.clear()
    lab.vireo("net", "delete", "lab")
    found["left"] = len(real())
    found["fakes"] = [f.poll() for f in fakes]
    for f in fakes:
        f.kill()
        f.wait()
    return found


def solicit6(mac, number):
    """A DHCPv6 SOLICIT with rapid commit, of a DUID and an IAID of its own."""
    option = lambda kind, data: struct.pack("!HH", kind, len(data)) + data
    m = struct.pack("!I", 1 << 24 | number) + option(1, struct.pack("!H16x", 4)[:14] + struct.pack("!I", number)) + \
        option(3, struct.pack("!III", number, 0, 0)) + option(8, b"\0\0") + option(14, b"")
    own, all_servers = lanframes.own6("fe80::", mac), "ff02::1:2"
    udp = struct.pack("!HHHH", 546, 547, 8 + len(m), 0) + m
    total = lanlab.checksum(socket.inet_pton(socket.AF_INET6, own) + socket.inet_pton(socket.AF_INET6, all_servers) +
                            struct.pack("!II", len(udp), 17) + udp + bytes(len(udp) % 2))
    return lanframes.eth("33:33:00:01:00:02", mac, 0x86dd, lanframes.ipv6(own, all_servers, 17, udp[:6] + struct.pack("!H", total or 0xffff) + udp[8:]))


def greedy(lab):
    """What machines that want all of dnsmasq leave to others: many MACs (of one that may have them), many DUIDs, names."""
    lab.vireo("net", "create", "lab", "--nat", "--dns", "dnsmasq")
    a, b, c = lab.machine("lab", "a", configure=False, trust=True), lab.machine("lab", "b"), lab.machine("lab", "b")
    gateway = shown(lab)["subnet"].rsplit(".", 1)[0] + ".1"
    leases = lambda m: "obtained" in m.sh("timeout 4 busybox udhcpc -i eth0 -n -q -f -t 8 -T 1 -s /bin/true 2>&1", check=False)
    found = {"peace": leases(b)}
    mouth = wire(a)
    for n in range(300):
        mouth.send(discover(f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}", n))
        time.sleep(0.002)
    found["many MACs"] = leases(b)
    mouth = wire(c)
    for n in range(1100):
        mouth.send(solicit6(c.mac, n))
        time.sleep(0.002)
    six = lambda: sum(x["family"] == 6 for x in json.loads(lab.vireo("net", "leases", "lab", "--json")))
    wait(six)
    time.sleep(0.2)
    found["many DUIDs"] = leases(lab.machine("lab", "d"))
    found["addresses"] = six()
    found["without dots"] = "NXDOMAIN" in b.sh(f"busybox nslookup -type=a nosuch {gateway}", check=False)
    found["words"] = [leases(lab.machine("lab", "ignore")), lab.machine("lab", "3h").addresses["4"] in
                      b.sh(f"busybox nslookup -type=a 3h {gateway}", check=False)]
    # The second of a name has none of the network's; it is whatever it is not taken for.
    found["names"] = []
    for name in ("good", "wpad", "gateway", "isatap", "localhost", "dns", "wpad.x", "wpad.lab.internal"):
        c.sh(f"busybox udhcpc -i eth0 -n -q -f -t 5 -T 1 -x hostname:{name} -s /bin/true", check=False)
        said = b.sh(f"busybox nslookup -type=a {name.split('.')[0]} {gateway}", check=False).split("Name:")[1:]
        found["names"] += [name] if any(c.addresses["4"] in x for x in said) else []
    return found


SCAN = """
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for i in range(400):
    try:
        s.sendto(b"x", (sys.argv[1] + "%x:%x" % (0x1000 + i // 250, i), 9))
    except OSError:
        pass
"""


def scans(lab):
    """Addresses of nobody: of the host's own subnet and of another network by a machine, and by the outside."""
    lab.vireo("net", "create", "two", "--routed")
    lab.vireo("net", "create", "lab", "--nat")
    a, c = lab.machine("lab", "a"), lab.machine("two", "c")
    routes_to(lab, lab.outside, shown(lab, "two"))
    lab.vireo("net", "edit", "two", "--route", "lab")
    two = shown(lab, "two")["subnet6"].split("/")[0]
    count = lambda dev: len(sh(f"ip -6 neigh show dev {dev} nud all").splitlines())
    found = {}
    for who, to, dev in ((a, "2001:db8::", "up0"), (a, two, "vr-two"), (lab.outside, two, "vr-two")):
        sh("ip -6 neigh flush dev vr-two nud failed; ip -6 neigh flush dev vr-two nud incomplete", check=False)
        subprocess.run(["nsenter", "-t", str(who.pid), "-n", sys.executable, "-c", SCAN, to], check=True)
        found[f"{who.name} {dev}"] = count(dev)
    time.sleep(2)  # who has scanned has used up what it may ask for
    found["reached"] = lab.table([(lab.outside, c), (a, c)], 1)
    # All that comes from outside has the router's MAC: who scans must not use up what others may ask for.
    made = two + "cccc:1"
    c.sh(f"ip addr add {made}/64 dev eth0 nodad")
    subprocess.run(["nsenter", "-t", str(c.pid), "-n", sys.executable, "-c", "import socket, sys; s = socket.socket(socket.AF_INET6, "
                    "socket.SOCK_DGRAM); s.bind((sys.argv[1], 0)); s.sendto(b'x', ('2001:db8::2', 9))", made], check=True)
    subprocess.run(["nsenter", "-t", str(lab.outside.pid), "-n", sys.executable, "-c", SCAN, two], check=True)
    c.addresses = {"6": made}
    found["made"] = lab.table([(lab.outside, c)], 1)
    return found


if __name__ == "__main__":
    lanlab.play(globals())
