"""What is tried in a lab (lanlab.py): each function is a scenario, and returns what came of it for test_lan.py."""
import ctypes
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

import lanframes
from lanlab import ECHO, PORT, followed, sh

MODELS = {"nat": ["--nat"], "isolated": ["--isolated"], "routed": ["--routed"], "bridged": ["--bridged", "up0"]}


def which(program):
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


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


def routed_without_way_back(lab):
    a, b = make(lab, "routed", route=False)
    return lab.table(pairs(lab, a, b))


class Rule:
    """A rule of the network's table that is removed and comes back: by its chain and how it begins."""

    def __init__(self, chain, words, *more):
        self.chain, self.words, self.more = chain, words, more

    def take(self, lab, a, b):
        self.text = sh("nft list table inet vireo-lab")
        found = [r for r in sh(f"nft -a list chain inet vireo-lab {self.chain}").splitlines() if re.match(self.words, r.strip())]
        assert len(found) == 1, (self.words, found)
        sh(f"nft delete rule inet vireo-lab {self.chain} handle {found[0].rsplit(' ', 1)[1]}")
        for also in self.more:
            also.take(lab, a, b)

    def give(self, lab, a, b):
        subprocess.run(["nft", "-f", "-"], input="delete table inet vireo-lab\n" + self.text, text=True, check=True)
        for also in self.more:
            also.give(lab, a, b)


class Thing:
    """An object that is removed and comes back by commands; `where`: in the outside."""

    def __init__(self, take, give="true", outside=False):
        self.lines, self.outside = (take, give), outside

    def run(self, n, lab, a, b):
        show = shown(lab)
        names = {"b": b.tap, "subnet": show.get("subnet", "-"), "subnet6": show.get("subnet6", "-"),
                 "host": show.get("subnet", "-").replace(".0/", ".1/"), "host6": show.get("subnet6", "-").replace("::/", "::1/")}
        sh(self.lines[n].format(**names), ns=lab.outside.pid if self.outside else None)

    def take(self, *where):
        self.run(0, *where)

    def give(self, *where):
        self.run(1, *where)


class HostFilter(Thing):
    """And with an address for the host, which it has none of by IPv6 otherwise."""

    def take(self, lab, a, b):
        super().take(lab, a, b)
        gateway = shown(lab)["subnet6"].split("/")[0] + "1"
        a.sh(f"ip -6 route del 2001:db8::1 dev eth0; ip -6 route replace default via {gateway}")
        # IPv6 of an interface begins some time after it was turned on.
        wait(lambda: all(v for k, v in lab.table([(a, lab.host), (lab.host, a)]).items() if k.endswith("6")))


WAY_BACK = Thing("ip route del {subnet}; ip -6 route del {subnet6}",
                 "ip route add {subnet} via 192.0.2.1; ip -6 route add {subnet6} via 2001:db8::1", outside=True)
# What rows of the models stand on.
STANDS = {
    "cable": Thing("ip link set {b} nomaster", "ip link set {b} master vr-lab"),
    "forwarding": Thing("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0",
                        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"),
    "gateway": Thing("ip addr flush dev vr-lab scope global", "ip addr add {host} dev vr-lab; ip addr add {host6} dev vr-lab nodad"),
    "way back": WAY_BACK,
    "table": Thing("nft delete table inet vireo-lab"),
    "in": Rule("in", "counter"),
    "in ip": Rule("in", "ip daddr"), "in ip6": Rule("in", "ip6 daddr"),
    "out ip": Rule("out", "ip saddr .* accept"), "out ip6": Rule("out", "ip6 saddr .* accept"),
    "input ip": Rule("input", "ip saddr"),
    # Also who answers to neighbors by IPv6 is let in by it.
    "input ip6": Rule("input", "ip6 saddr fd", Thing("ip neigh flush dev vr-lab")),
    "masquerade ip": Rule("outwards", "ip saddr .* oifname !=", WAY_BACK), "masquerade ip6": Rule("outwards", "ip6 saddr .* oifname !=", WAY_BACK),
    "host filter": HostFilter("nft delete table netdev vireo-lab; sysctl -qw net.ipv6.conf.vr-lab.disable_ipv6=0; "
                              "ip -6 addr add {host6} dev vr-lab nodad"),
    "uplink": Thing("ip link set up0 nomaster", "ip link set up0 master vr-lab"),
    "host's addresses": Thing("ip addr flush dev vr-lab scope global",
                              "ip addr add 192.0.2.1/24 dev vr-lab; ip addr add 2001:db8::1/64 dev vr-lab nodad"),
}


def rows(lab, which, *without):
    """The table of a model, whole and without each of these that it stands on."""
    a, b = make(lab, which)
    found = {"": lab.table(pairs(lab, a, b))}
    for n, name in enumerate(without):
        # What came back last works again some time later: links are up, and neighbors are found.
        if n:
            wait(lambda: lab.table(pairs(lab, a, b)) == found[""])
        STANDS[name].take(lab, a, b)
        found[name] = lab.table(pairs(lab, a, b))
        STANDS[name].give(lab, a, b)
    return found


# --- what is left ---


def servers(lab, names=("vireo:", "dnsmasq")):
    """Processes of ours that serve in this lab: by their control sockets, or by name where these are lost."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if open(f"/proc/{pid}/stat").read().split(")")[-1].split()[0] == "Z":
                continue  # nobody here waits for it
            if not open(f"/proc/{pid}/comm").read().startswith(names):
                continue
        except OSError:
            continue
        try:
            if os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user"):
                continue
        except OSError:
            pass  # it is being killed, and still has what it has
        found.append(int(pid))
    return found


def wait(what, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.01)
    return False


def gone(lab):
    """What is left after a while, which the kernel needs to remove a name space."""
    all_of_them = ("vireo:", "vireo-", "dnsmasq")
    wait(lambda: not servers(lab, all_of_them))
    left = lab.left()
    left["servers"] = servers(lab, all_of_them)
    return left


def killed(lab, command, count):
    """kill -9 of a command at `count` points of its time; then the next one must find and repair or remove."""
    args = {"create": ["net", "create", "lab", "--nat"], "start": ["net", "start", "lab"], "stop": ["net", "stop", "lab"],
            "delete": ["net", "delete", "lab"], "bridged": ["net", "create", "lab", "--bridged", "up0"],
            "unbridged": ["net", "delete", "lab"], "edit": ["net", "edit", "lab", "--subnet", "10.99.0.0/24"]}[command]
    before = sh("ip -j addr show dev up0 | sed 's/\"tentative\":true,//g'; ip route; ip -6 route show dev up0")
    bad, took, nothing = [], 0, {"links": [], "tables": [], "files": [], "forward": ["0", "0"], "servers": []}
    # The first one is let go on, and says how long it takes.
    for n in range(int(count) + 1):
        if command == "start":
            lab.vireo("net", "create", "lab", "--nat", "--no-start")
        elif command in ("stop", "delete", "edit"):
            lab.vireo("net", "create", "lab", "--nat")
        elif command == "unbridged":
            lab.vireo("net", "create", "lab", "--bridged", "up0")
        p = subprocess.Popen([os.environ.get("VIREO", lab.VIREO), *args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        begin = time.monotonic()
        try:
            p.wait(took * (n - 0.5) / int(count) if n else 30)
            took = min(took or 30, time.monotonic() - begin)
        except subprocess.TimeoutExpired:
            p.send_signal(signal.SIGKILL)
            p.wait()
        # A command that is about another network, then one about this.
        r = lab.vireo("net", "start", "other", check=False)
        states = [x["state"] for x in json.loads(lab.vireo("net", "list", "--json"))]
        if "broken" in states or (command == "create" and "down" in states) or "no network named 'other'" not in r.stderr:
            bad.append([n, "state", states, r.stderr])
        if "up" not in states and (left := gone(lab)) != nothing:
            bad.append([n, "left by the next command", left])
        r = lab.vireo("net", "delete", "--force", "lab", check=False)
        if r.returncode and "no network named" not in r.stderr:
            bad.append([n, "delete", r.stderr])
        left = gone(lab)
        if left != nothing:
            bad.append([n, "left", left])
        now = sh("ip -j addr show dev up0 | sed 's/\"tentative\":true,//g'; ip route; ip -6 route show dev up0")
        if now.replace("up0", "") != before.replace("up0", ""):
            bad.append([n, "uplink", before, now])
            break
    return {"bad": bad}


def listening(pid):
    """A copy of the socket that a process listens at: as if it were still being killed."""
    libc, process = ctypes.CDLL(None, use_errno=True), os.pidfd_open(pid)
    for fd in map(int, os.listdir(f"/proc/{pid}/fd")):
        if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:"):
            s = socket.socket(fileno=libc.syscall(438, process, fd, 0))  # pidfd_getfd
            if s.family == socket.AF_UNIX and s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                os.close(process)
                return s
            s.close()
    raise RuntimeError(f"process {pid} listens nowhere")


def server_killed(lab, how=""):
    """The server dies alone: the next command has another one, and no machine notices but for a moment."""
    a, b = make(lab, "nat")
    first = servers(lab)
    held = [listening(pid) for pid in first if how == "held"]
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    wait(lambda: not servers(lab))
    lab.vireo("net", "start", "other", check=False)
    again = servers(lab)
    leases = json.loads(lab.vireo("net", "leases", "lab", "--json"))
    return {"first": len(first), "again": len(again), "other": first != again, "held": len(held),
            "known": sorted(l["name"] for l in leases if l["family"] == 4), "table": lab.table(pairs(lab, a, b))}


def files_lost(lab, which):
    """The run directory, or the definitions, or both are gone under a network that machines are in."""
    a, b = make(lab, "nat", "--publish", "tcp:8080-a:7007")
    for d in which.split("+"):
        subprocess.run(["rm", "-rf", os.path.join(lab.dir, d)], check=True)
    lab.vireo("net", "start", "other", check=False)
    table = lab.table(pairs(lab, a, b))
    cables = sorted(c["mac"] for c in shown(lab)["cables"]) == sorted((a.mac, b.mac)) if which == "run" else None
    served = len(servers(lab))
    for m in (a, b):
        m.end()
    lab.machines.clear()
    r = lab.vireo("net", "delete", "lab", check=False)
    return {"table": table, "cables": cables, "served": served, "deleted": r.returncode, "left": gone(lab)}


def leased(lab, m):
    """Whether a machine is given its address when it asks."""
    m.sh("ip link set eth0 up; busybox udhcpc -i eth0 -n -q -f -t 5 -T 1 -s /bin/true")
    return lease_of(lab, m)


def lease_of(lab, m):
    """Its lease, once; dnsmasq writes its file anew in place, so that there is none in it for a moment."""
    known = lambda: json.loads(lab.vireo("net", "leases", "lab", "--json"))
    return wait(lambda: [e["family"] for e in known() if e["expires"] and e["address"] == m.addresses["4"]] == [4])


def rebooted(lab, dns):
    """A network after a boot of its host, which has lost all but what is on its disks; and a network that is stopped."""
    lab.vireo("net", "create", "lab", "--nat", "--dns", dns)
    a = lab.machine("lab", "a")
    kept = lambda: sorted(os.listdir(os.path.join(lab.dir, "kept")))
    found = {"leased": leased(lab, a), "kept": kept()}
    path = os.path.join(lab.dir, "kept", *(["lab.leases", "leases"] if dns == "own" else ["lab.dnsmasq"]))
    found["written"] = wait(lambda: os.path.exists(path) and a.addresses["4"] in open(path).read())
    a.end()
    lab.machines.clear()
    for pid in servers(lab):
        os.kill(pid, signal.SIGKILL)
    wait(lambda: not servers(lab))
    sh(f"nft flush ruleset; ip link del vr-lab; rm -rf {lab.dir}/run; "
       "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0; sysctl -qw net.ipv4.conf.all.accept_redirects=1")
    lab.vireo("net", "start", "lab")
    found["again"] = lease_of(lab, a)
    # Somebody has written into it what nobody can have.
    lab.vireo("net", "stop", "lab")
    with open(path, "a") as f:
        f.write("4 52:54:00:77:00:66 203.0.113.9 99999999999 thief -\n99999999999 52:54:00:77:00:66 203.0.113.9 thief *\n\0\xff\n4 ")
    lab.vireo("net", "start", "lab")
    found["lied"] = lease_of(lab, a)
    lab.vireo("net", "delete", "lab")
    return {**found, "deleted": kept(), "left": gone(lab)}


def unkept(lab, kind):
    """Where nothing can be kept the network runs all the same, and that is said."""
    kept = os.path.join(lab.dir, "kept")
    os.makedirs(kept)
    sh(f"mount -t tmpfs -o size=16k,mode=700 tmpfs {kept}")
    sh(f"mount -o remount,ro {kept}" if kind == "readonly" else f"dd if=/dev/zero of={kept}/fill bs=1k count=64 2>/dev/null", check=False)
    found = {}
    for dns in "own", "dnsmasq" if which("dnsmasq") else "own":
        r = lab.vireo("net", "create", "lab", "--nat", "--dns", dns, check=False)
        a = lab.machine("lab", "a")
        found[dns] = [r.returncode, r.stderr, leased(lab, a)]
        a.end()
        lab.machines.clear()
        lab.vireo("net", "delete", "lab")
    sh(f"umount {kept}")
    return {**found, "left": gone(lab)}


def full(lab, kind):
    """The run directory takes no more files."""
    run = os.path.join(lab.dir, "run")
    os.makedirs(run, exist_ok=True)
    sh(f"mount -t tmpfs -o size=16k,mode=700 tmpfs {run}")
    if kind == "stop":
        lab.vireo("net", "create", "lab", "--nat", "--no-dhcp", "--dns", "off")
    if kind == "readonly":
        sh(f"mount -o remount,ro {run}")
    else:
        sh(f"dd if=/dev/zero of={run}/fill bs=1k count=64 2>/dev/null", check=False)
    watch = subprocess.Popen(["ip", "monitor", "link"], stdout=subprocess.PIPE, text=True)
    seen = lambda: select.select([watch.stdout], [], [], 2)[0] and watch.stdout.readline()
    while "up0" not in (seen() or ""):
        sh("ip link set up0 txqueuelen 999; ip link set up0 txqueuelen 1000")  # until it listens
    r = lab.vireo("net", "stop" if kind == "stop" else "create", "lab", *([] if kind == "stop" else ["--nat"]), check=False)
    left = gone(lab)
    watch.terminate()
    left["begun"] = "vr-lab" in watch.communicate()[0]
    left["files"] = [f for f in left["files"] if not f.endswith("/fill")]
    names = os.listdir(os.path.join(lab.dir, "networks")) if os.path.isdir(os.path.join(lab.dir, "networks")) else []
    return {"status": r.returncode, "error": r.stderr, "left": left, "defined": names}


def foreign(lab):
    """What is not ours stays: an interface with our name, a table of another one, a route to our subnet, forwarding."""
    sh("ip link add vr-lab type bridge; ip link add vr-x type veth peer name vs-x; nft add table inet mine; "
       "nft add table inet vireoother; sysctl -qw net.ipv4.ip_forward=1; ip route add 10.77.3.0/24 via 192.0.2.2")
    first = lab.left()
    taken = lab.vireo("net", "create", "lab", "--nat", check=False)
    between = lab.left()
    overlap = lab.vireo("net", "create", "b", "--nat", "--subnet", "10.77.3.0/24", check=False)
    lab.vireo("net", "create", "c", "--nat", "--subnet", "10.78.0.0/24")
    twice = lab.vireo("net", "create", "d", "--nat", "--subnet", "10.78.0.128/25", check=False)
    lab.vireo("net", "delete", "c")
    last = lab.left()
    tables = sh("nft list tables").split("\n")
    del first["files"], last["files"], between["files"]
    return {"same": first == last and first == between, "first": first, "last": last, "tables": tables,
            "errors": [taken.stderr, overlap.stderr, twice.stderr]}


# --- what a machine may send ---


def send(lab, a, b, frames):
    """Which of the frames reach b."""
    enter = lambda m: ["nsenter", "-t", str(m.pid), "-n", sys.executable, os.path.join(os.path.dirname(__file__), "lanframes.py")]
    ear = subprocess.Popen([*enter(b), "hear"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert ear.stdout.readline() == "ready\n"
    subprocess.run([*enter(a), "send"], input="\n".join(f.hex() for f in frames.values()), text=True, check=True)
    heard = {int(n) for n in ear.communicate()[0].split()}
    return sorted(name for n, name in enumerate(frames) if n in heard)


def frames_of(lab, a, b):
    show = shown(lab)
    prefix = show["subnet6"].split("/")[0]
    m = [{"mac": x.mac, **x.addresses} for x in (a, b)]
    return lanframes.hostile(*m, show["subnet"].rsplit(".", 1)[0] + ".1", prefix + "1", prefix)


def spoofed(lab):
    """From a to b with the filters, and without."""
    lab.vireo("net", "create", "lab", "--isolated")
    a, b, c = (lab.machine("lab", name) for name in "abc")
    frames = frames_of(lab, a, b)
    with_filters = send(lab, a, b, frames)
    # An address that b has made itself is b's.
    made = shown(lab)["subnet6"].split("/")[0] + "cccc:1"
    mine = lambda m, to: {"made": lanframes.eth(to.mac, m.mac, 0x86dd, lanframes.udp6(made, to.addresses["6"], 1, 1, lanframes.MARK % 0))}
    first, stolen = send(lab, b, a, mine(b, a)), send(lab, a, b, mine(a, b))
    # A server has others to hear.
    asking = len(send(lab, b, a, {n: lanframes.asks_dhcp(b.mac, b.mac, lanframes.MARK % n) for n in range(80)}))
    # An address is b's also from when it asks: another one, which has room for more, does not get it.
    asked = shown(lab)["subnet6"].split("/")[0] + "cccc:2"
    send(lab, b, a, {"dad": lanframes.eth("33:33:ff:cc:00:02", b.mac, 0x86dd, lanframes.nd("::", "ff02::1:ffcc:2", 135, asked, lanframes.MARK % 0))})
    answer = {"answer": lanframes.eth(b.mac, c.mac, 0x86dd, lanframes.nd(asked, "ff02::1", 136, asked, lanframes.MARK % 0))}
    stolen += send(lab, c, b, answer)
    stats = json.loads(lab.vireo("net", "stats", "lab", "--json"))
    sh("nft delete table bridge vireo-lab")
    return {"with": with_filters, "first": first, "stolen": stolen, "asking": asking, "refused": sum(c["refused"] for c in stats["cables"]),
            "without": send(lab, a, b, frames), "all": sorted(frames)}


# --- ports, routes, addresses ---


def published(lab):
    lab.vireo("net", "create", "lab", "--nat", "--publish", f"tcp:8080-a:{PORT}", "--publish", f"udp:[2001:db8::1]:5353-a:{PORT}",
              "--host", "52:54:00:00:00:77,fixed,")
    asked = {}
    ask = lambda name, space, to, protocol, port: asked.__setitem__(name, (space, space.ask(to, protocol, 0.6, port)))
    a, b = lab.machine("lab", "a"), lab.machine("lab", "b")
    for family, to in (("4", "192.0.2.1"), ("6", "2001:db8::1")):
        ask(f"outside tcp{family}", lab.outside, to, "tcp", 8080)
        ask(f"host tcp{family}", lab.host, to, "tcp", 8080)
        ask(f"b tcp{family}", b, to, "tcp", 8080)
        ask(f"outside other port{family}", lab.outside, to, "tcp", 8081)
    ask("outside udp6", lab.outside, "2001:db8::1", "udp", 5353)
    answers = {s: s.answers() for s in {s for s, _ in asked.values()}}
    found = {name: answers[s][n] for name, (s, n) in asked.items()}
    # A machine by its own port, whether bridged frames pass the host's filters or not.
    for bridged in ("1", "0") if os.path.isdir("/proc/sys/net/bridge") else ("",):
        if bridged:
            sh(f"sysctl -qw net.bridge.bridge-nf-call-iptables={bridged} net.bridge.bridge-nf-call-ip6tables={bridged}")
        numbers = [a.ask(to, "tcp", 0.6, 8080) for to in ("192.0.2.1", "2001:db8::1")]
        answers = a.answers()
        found.update({f"own {bridged} tcp{f}": answers[n] for f, n in zip("46", numbers)})
    probe = lanframes.arp(1, a.mac, a.addresses["4"], b.addresses["4"], lanframes.MARK % 0)
    found["own broadcast"] = bool(send(lab, a, a, {"probe": lanframes.eth("ff:ff:ff:ff:ff:ff", a.mac, 0x806, probe)}))
    # Taken away while it runs.
    lab.vireo("net", "edit", "lab", "--publish", "none")
    n = lab.outside.ask("192.0.2.1", "tcp", 0.5, 8080)
    found["outside tcp4 after"] = lab.outside.answers()[n]
    twice = lab.vireo("net", "create", "two", "--nat", "--publish", "tcp:8080-x:1", "--publish", "tcp:9090-x:1", check=False)
    again = lab.vireo("net", "create", "three", "--nat", "--publish", "tcp:9090-y:1", check=False)
    found["errors"] = [twice.stderr, again.stderr]
    return found


def routes(lab):
    """Two networks that do not reach each other, until one of them says so; and after it has said otherwise."""
    lab.vireo("net", "create", "lab", "--nat")
    lab.vireo("net", "create", "two", "--nat")
    a, b = lab.machine("lab", "a"), lab.machine("two", "b")
    both = [(a, b), (b, a)]
    found = {"before": lab.table(both, 0.4)}
    lab.vireo("net", "edit", "two", "--route", "lab")
    found["joined"] = lab.table(both)
    lab.vireo("net", "edit", "two", "--route", "none")
    found["after"] = lab.table(both, 0.4)
    return found


def cut(lab):
    """Connections that there are when what lets them in is taken away, and ones that stay."""
    lab.vireo("net", "create", "lab", "--nat", "--publish", f"tcp:8081-a:{ECHO}", "--publish", f"tcp:8082-a:{ECHO}")
    lab.vireo("net", "create", "two", "--nat", "--route", "lab")
    a, b = lab.machine("lab", "a"), lab.machine("two", "b")

    def flows(patience):
        asked = {}
        ask = lambda name, space, to, port: asked.__setitem__(name, (space, space.ask(to, "flow", patience, port)))
        for family, host, outside in (("4", "192.0.2.1", "192.0.2.2"), ("6", "2001:db8::1", "2001:db8::2")):
            ask(f"by 8081 {family}", lab.outside, host, 8081)
            ask(f"by 8082 {family}", lab.outside, host, 8082)
            ask(f"a>b {family}", a, b.addresses[family], ECHO)
            ask(f"b>a {family}", b, a.addresses[family], ECHO)
            ask(f"a>outside {family}", a, outside, ECHO)
        answers = {s: s.answers() for s in {s for s, _ in asked.values()}}
        return sorted(name for name, (s, n) in asked.items() if answers[s][n])

    found = {"before": flows(2), "followed": [followed()]}
    lab.vireo("net", "edit", "lab", "--publish", f"tcp:8082-a:{ECHO}")
    found["followed"].append(followed())
    found["unpublished"] = flows(0.4)
    lab.vireo("net", "edit", "two", "--route", "none")
    found["parted"] = flows(0.4)
    for network in "lab", "two":
        lab.vireo("net", "delete", "--force", network)
    found["followed"].append(followed())
    found["deleted"] = flows(0.3)
    return found


UDHCPC = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/$mask dev $interface
ip route add default via $router
echo "$ip $router $dns $domain $mtu" > {dir}/bound
"""


def configured(lab, dns="own", model="nat"):
    """A machine that asks: DHCP by udhcpc, IPv6 by the kernel from router advertisements; names by DNS."""
    lab.vireo("net", "create", "lab", "--" + model, "--mtu", "1400", "--dns", dns)
    a, b = lab.machine("lab", "a", configure=False), lab.machine("lab", "b")
    script = os.path.join(lab.dir, "script")
    with open(script, "w") as f:
        f.write(UDHCPC.format(dir=lab.dir))
    os.chmod(script, 0o755)
    begin = time.monotonic()
    a.sh(f"busybox udhcpc -i eth0 -n -q -f -t 5 -T 1 -O mtu -s {script}")
    took = time.monotonic() - begin
    bound = open(os.path.join(lab.dir, "bound")).read().split()
    six = lambda: [x["local"] for i in json.loads(a.sh("ip -j -6 addr show dev eth0 scope global")) for x in i.get("addr_info", []) if "local" in x]
    wait(six, 5)
    a.addresses = {"4": bound[0], "6": six()[0] if six() else "none"}
    names = {}
    for kind, name in (("a", "b"), ("a", "b.lab.internal"), ("a", "a"), ("a", "nobody"), ("a", "gateway"), ("aaaa", "gateway.lab.internal")):
        r = a.sh(f"busybox nslookup -type={kind} {name} {bound[2]} 2>/dev/null | awk '/^Address/ {{ print $NF }}' | tail -n +2", check=False)
        names[name] = r.split()
    result = {"bound": bound, "took": took, "six": six(), "kept": a.shown(), "names": names, "b": b.addresses,
              "leases": json.loads(lab.vireo("net", "leases", "lab", "--json")),
              "table": lab.table([(a, b), (a, lab.outside)]), "served": len(servers(lab))}
    for m in (a, b):
        m.end()
    lab.machines.clear()
    lab.vireo("net", "delete", "lab")
    result["left"] = gone(lab)
    return result


# --- real machines ---


class Guest:
    def __init__(self, lab, name, files, net="lab", disk=True, saved=None):
        self.out = os.path.join(lab.dir, name + ".out")
        new = ["run", "--name", name, "--memory", "256M", "--kernel", files + "/vmlinuz", "--initrd", files + "/initrd.img",
               "--append", "console=ttyS0 quiet", *(["--disk", files + "/disk.img,snapshot=on"] if disk else []), "--net", net]
        self.process = subprocess.Popen([lab.VIREO, *(["restore", saved] if saved else new)], stdin=subprocess.PIPE,
                                        stdout=open(self.out, "w"), stderr=subprocess.STDOUT, text=True)

    def text(self):
        return open(self.out, errors="replace").read()

    def booted(self):
        if not wait(lambda: "/ # " in self.text(), 40):
            raise RuntimeError(self.text())

    def sh(self, line):
        at = len(self.text())
        self.process.stdin.write(line + "; echo DO''NE\n")
        self.process.stdin.flush()
        if not wait(lambda: "DONE" in self.text()[at:], 20):
            raise RuntimeError(self.text()[at:])
        return self.text()[at:]

    def kill(self):
        self.process.kill()
        self.process.wait()


def saved(lab, files):
    """What is said of its address when it comes back to it, and when somebody else has it."""
    state, three = f"{lab.dir}/state", Guest(lab, "three", files, disk=False)
    mine = lambda: next(c["address"] for c in shown(lab)["cables"] if c["machine"] == "three")
    three.booted()
    address, said = mine(), []
    for somebody in (None, f"52:54:00:00:00:99,other,{address}"):
        lab.vireo("save", "three", state)
        three.process.wait()
        if somebody:
            lab.vireo("net", "edit", "lab", "--host", somebody)
        three = Guest(lab, "three", files, saved=state)
        wait(lambda: os.path.exists(f"{lab.dir}/vireo/three/qmp.sock"))
        os.remove(state)
        has = re.findall(rf"net0: this machine had {address} when it was saved and has (\S+) now", three.text())
        said.append((mine() == address, has == [mine()]))
    three.kill()
    return said


def machines(lab, files):
    """Two of them in a network that is down; one is killed and comes back."""
    os.environ["XDG_RUNTIME_DIR"] = lab.dir
    lab.vireo("net", "create", "lab", "--nat", "--mtu", "1400", "--no-start")
    one, two = Guest(lab, "one", files), Guest(lab, "two", files)
    one.booted()
    two.booted()
    addresses = lambda: {c["machine"]: (c["mac"], c["address"]) for c in shown(lab)["cables"]}
    r = {"addresses": addresses(), "two by name": " 0% packet loss" in one.sh("ping -c 1 two"),
         "outside": " 0% packet loss" in one.sh("ping -c 1 192.0.2.2"), "mtu": one.sh("cat /sys/class/net/eth0/mtu").split("\n")[1].strip()}
    two.kill()
    r["gone"] = sorted(addresses())
    two = Guest(lab, "two", files, "lab,trust=on")
    two.booted()
    r["again"] = addresses()
    r["trusted"] = [c["machine"] for c in shown(lab)["cables"] if c.get("trusted")]
    r["saved"] = saved(lab, files)
    one.kill()
    two.kill()
    r["killed"] = shown(lab)["cables"]
    lab.vireo("net", "delete", "lab")
    r["left"] = gone(lab)
    return r
