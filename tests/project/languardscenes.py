"""What must hold although files, rules or interfaces of a network are lost or changed by somebody else, in a lab (lanlab.py):
scenarios for test_lan_guards.py."""
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time

import lanframes
import lanlab
from lanlab import Space, sh
from lanscenes import gone, send, servers, shown, wait


def lose(lab, *which):
    subprocess.run(["rm", "-rf", *(os.path.join(lab.dir, d) for d in which)], check=True)


def another_command(lab):
    """One that is about another network, and so repairs what it finds."""
    return lab.vireo("net", "start", "other", check=False).stderr


def forged(a, b):
    """Frames from a to b that no filter lets pass, by what they are."""
    other = "52:54:00:99:99:99"
    frames = {
        "mac": lambda m: lanframes.eth(b.mac, other, 0x800, lanframes.ipv4("192.0.2.77", "192.0.2.78", 1, 1, m)),
        "router": lambda m: lanframes.eth(b.mac, a.mac, 0x86dd, lanframes.nd("fe80::1", "ff02::1", 134, "fe80::", m)),
        "dhcp server": lambda m: lanframes.eth(b.mac, a.mac, 0x800, lanframes.ipv4("192.0.2.77", "255.255.255.255", 67, 68, m)),
    }
    return {name: make(lanframes.MARK % n) for n, (name, make) in enumerate(frames.items())}


def uplink_kept(lab):
    """The host's addresses are on the bridge of a network of which nothing is known any more."""
    before = sh("ip -br addr show dev up0 scope global; ip route")
    lab.vireo("net", "create", "br", "--bridged", "up0")
    lose(lab, "run", "networks")
    another_command(lab)
    lab.outside.addresses = {"4": "192.0.2.2"}
    found = {"same": sh("ip -br addr show dev up0 scope global; ip route") == before, "left": gone(lab),
             "outside": all(lab.table([(lab.host, lab.outside)]).values())}
    sh("ip addr add 192.0.2.7/24 dev up0 valid_lft 3600 preferred_lft 3600")
    r = lab.vireo("net", "create", "br", "--bridged", "up0", check=False)
    return {**found, "lease": [r.returncode, "up0 has 192.0.2.7 for 3" in r.stderr, "192.0.2.7" in sh("ip addr show dev up0")]}


def joined(lab):
    """Machines in somebody else's bridge are never there without filters."""
    sh("ip link add br0 type bridge; ip link set br0 up")
    lab.vireo("net", "create", "one", "--bridged", "br0")
    lab.vireo("net", "create", "two", "--bridged", "br0")
    a, b = lab.machine("one", "a", configure=False), lab.machine("two", "b", configure=False)
    frames = forged(a, b)
    lose(lab, "run")
    another_command(lab)
    found = {"lost": send(lab, a, b, frames), "state": shown(lab, "one")["state"]}
    master = lambda m: json.loads(sh(f"ip -j link show {m.tap}"))[0].get("master", "")
    found["before"] = master(a)
    mark = json.loads(sh(f"ip -j link show {a.tap}"))[0]["ifalias"]
    lab.vireo("net", "delete", "--force", "one")
    found["deleted"] = master(a)
    # As a delete that was killed leaves it: with nothing that says what it is but its mark.
    sh(f"ip link set {a.tap} master br0 alias '{mark}'")
    another_command(lab)
    found["again"] = master(a)
    found["b"] = master(b)
    return found


def closed(lab):
    """Who is in the bridge and is not known sends nothing; who is known stays it, whatever it is called by now."""
    lab.vireo("net", "create", "lab", "--nat")
    a, b, bad = lab.machine("lab", "a"), lab.machine("lab", "b"), lab.machine("lab", "bad\udcc3")
    edit = lambda n: lab.vireo("net", "edit", "lab", "--publish", f"tcp:{n}-a:{n}")
    gateway = a.addresses["4"].rsplit(".", 1)[0] + ".1"
    good = {"good": lanframes.eth(b.mac, a.mac, 0x800, lanframes.ipv4(a.addresses["4"], b.addresses["4"], 1, 1, lanframes.MARK % 3))}
    frames = {**forged(a, b), **good}
    edit(1)
    found = {"bad": send(lab, bad, b, forged(bad, b))}
    sh(f"ip link set {a.tap} alias 'web server'")
    edit(2)
    found["alias"] = [send(lab, a, b, frames), sorted(c["tap"] for c in shown(lab)["cables"]) == sorted(m.tap for m in (a, b, bad))]
    found["delete"] = lab.vireo("net", "delete", "lab", check=False).returncode
    sh(f"ip link set {a.tap} down; ip link set {a.tap} name other0; ip link set other0 up")
    found["renamed"] = send(lab, a, b, frames)
    edit(3)
    found["named"] = a.shown()["tap"]
    c = Space(lab, "c")
    sh(f"ip link add stranger type veth peer name eth0 netns {c.pid}; ip link set stranger master vr-lab up")
    c.sh(f"ip link set eth0 up; ip addr add {a.addresses['4']}/24 dev eth0; ip route add default via {gateway}")
    c.mac = "52:54:00:11:11:11"
    edit(4)
    host, server = Space.__new__(Space), Space.__new__(Space)
    host.name, host.addresses = "host", {"4": gateway}
    server.name, server.addresses = "server", {"4": gateway[:-1] + "2"}
    says = {"says": lanframes.eth("ff:ff:ff:ff:ff:ff", a.mac, 0x800,
                                  lanframes.ipv4(a.addresses["4"], "255.255.255.255", 1, 1, lanframes.MARK % 0))}
    reached = lambda: [send(lab, c, b, forged(c, b)), send(lab, a, c, says),
                       sorted(k for k, v in lab.table([(c, host), (c, server)], 0.3).items() if v)]
    found["stranger"] = reached()
    sh("nft delete table bridge vireo-lab")
    found["without"] = reached()
    c.end()
    return found


def as_host(lab):
    """Frames of a machine that says that it is the host, of which the bridge has the addresses, or a router that the host
    has routes by; and its server in a nat network."""
    lab.vireo("net", "create", "lab", "--bridged", "up0")
    # More of them than one, by one router.
    for n in range(70):
        sh(f"ip route add 198.18.{n}.0/24 via 192.0.2.6 dev vr-lab; ip -6 route add 2001:db8:6:{n}::/64 via 2001:db8::6 dev vr-lab")
    sh("ip route add 203.0.113.0/25 via 192.0.2.7 dev vr-lab; ip route add 203.0.113.128/25 nexthop via 192.0.2.8 dev vr-lab"
       " nexthop via 192.0.2.9 dev vr-lab; ip route add 198.51.100.0/24 via inet6 fe80::7 dev vr-lab;"
       " ip -6 route add 2001:db8:7::/48 via 2001:db8::8 dev vr-lab")
    a, b = lab.machine("lab", "a", configure=False), lab.machine("lab", "b", configure=False)
    local = sh("ip -br -6 addr show dev vr-lab scope link").split()[2].split("/")[0]
    arp = lambda mark: lanframes.eth(b.mac, a.mac, 0x806, lanframes.arp(2, a.mac, "192.0.2.1", "192.0.2.9", mark))
    six = lambda body: lanframes.eth(b.mac, a.mac, 0x86dd, body)
    frames = {
        "good": lambda m: six(lanframes.udp6("2001:db8::99", "2001:db8::9", 1, 1, m)),
        "good address": lambda m: lanframes.eth(b.mac, a.mac, 0x800, lanframes.ipv4("192.0.2.99", "192.0.2.9", 1, 1, m)),
        "arp": arp,
        "address": lambda m: lanframes.eth(b.mac, a.mac, 0x800, lanframes.ipv4("192.0.2.1", "192.0.2.9", 1, 1, m)),
        "neighbor": lambda m: six(lanframes.nd("2001:db8::99", "ff02::1", 136, "2001:db8::1", m)),
        "local neighbor": lambda m: six(lanframes.nd("2001:db8::99", "ff02::1", 136, local, m)),
        "nothing": lambda m: six(lanframes.udp6("::", "2001:db8::9", 1, 1, m)),
        "switches": lambda m: lanframes.eth("01:80:c2:00:00:21", a.mac, 0x88f5, m),
        "asks": lambda m: six(lanframes.nd("::", "ff02::1", 135, "2001:db8::1", m)),
        "address6": lambda m: six(lanframes.udp6("2001:db8::1", "2001:db8::9", 1, 1, m)),
        **{f"router {last}": lambda m, last=last: lanframes.eth(b.mac, a.mac, 0x800,
                                                                  lanframes.ipv4(f"192.0.2.{last}", "192.0.2.77", 1, 1, m))
           for last in (7, 8, 9)},
        **{f"router {addr}": lambda m, addr=addr: six(lanframes.nd("2001:db8::99", "ff02::1", 136, addr, m))
           for addr in ("fe80::7", "2001:db8::8")},
        "querier": lambda m: six(lanframes.nd(lanframes.own6("fe80::", a.mac), "ff02::1", 130, "::", m)),
    }
    found = send(lab, a, b, {name: make(lanframes.MARK % n) for n, (name, make) in enumerate(frames.items())})
    lab.vireo("net", "create", "nat", "--nat", "--no-start")
    a, b = lab.machine("nat", "a"), lab.machine("nat", "b")
    # A machine has started it, but it is not the machine's.
    pid, = servers(lab, "vireo:")
    parent = open(f"/proc/{pid}/status").read().split("PPid:\t")[1].split()[0]
    process = [open(f"/proc/{pid}/cmdline").read().strip("\0"), *(os.readlink(f"/proc/{p}/cwd") for p in servers(lab, "vireo-")),
               parent == str(a.cable.pid)]
    inside = sh(f"nsenter -t {pid} -n ip -br -6 addr show dev lan0 scope link")
    frame = six(lanframes.nd(a.addresses["6"], "ff02::1", 136, inside.split()[2].split("/")[0], lanframes.MARK % 0))
    return {"host": found, "server": send(lab, a, b, {"server": frame}), "inside": inside, "process": process}


def trusted(lab):
    """What no filter lets pass, from a machine that is trusted, and from the one that comes after it."""
    lab.vireo("net", "create", "lab", "--nat")
    a = lab.machine("lab", "a", trust=True)
    b, c = lab.machine("lab", "b"), lab.machine("lab", "c")
    frames = forged(a, b)
    found = {"all": sorted(frames), "trusted": send(lab, a, b, frames), "another": send(lab, c, b, forged(c, b)),
             "shown": [m.shown().get("trusted") for m in (a, b)]}
    a.end()
    lab.machines.remove(a)
    a = lab.machine("lab", "a")
    return {**found, "after": send(lab, a, b, forged(a, b))}


def unable(lab):
    """What is said, and what there is, without each of the rights, and without the program nft."""
    create = lambda *before: subprocess.run([*before, lab.VIREO, "net", "create", "lab", "--nat"], capture_output=True, text=True,
                                            stdin=subprocess.DEVNULL, timeout=30)
    r = {right: create("setpriv", "--bounding-set", f"-{right}") for right in ("net_admin", "net_raw", "sys_admin")}
    nothing = os.path.join(lab.dir, "nothing")
    open(nothing, "w").close()
    program = os.path.realpath(shutil.which("nft"))
    sh(f"mount --bind {nothing} {program}")
    r["nft"] = create()
    # One that ends before it has read a word.
    with open(nothing, "w") as f:
        f.write("#!/bin/sh\nexit 1\n")
    os.chmod(nothing, 0o755)
    r |= {f"nft {n}": create() for n in range(8)}
    sh(f"umount {program}")
    return {name: (p.returncode, p.stderr) for name, p in r.items()} | {"left": gone(lab)}


def hundred(lab):
    """Machines of one network, whose filters the kernel takes as a whole."""
    lab.vireo("net", "create", "lab", "--nat", "--publish", "tcp:8080-m0:80")
    machines = [lab.machine("lab", f"m{n}", configure=False) for n in range(100)]
    first, last = machines[0], machines[-1]
    for m in (first, last):
        m.configure()
    reached = lab.table([(first, last), (last, first)])
    return {"there": len(shown(lab)["cables"]), "reached": all(reached.values()), "forged": send(lab, last, first, forged(last, first))}


def held(lab):
    """A create that is killed while nft works: who comes next finds all that nft makes then."""
    program, slow = os.path.realpath(shutil.which("nft")), os.path.join(lab.dir, "slow")
    real = os.path.join(lab.dir, "nft")
    shutil.copy(program, real)
    with open(slow, "w") as f:
        f.write(f"#!/bin/sh\ncase \"$*\" in *-c*) ;; *) touch {lab.dir}/begun; sleep 1;; esac\nexec {real} \"$@\"\n")
    os.chmod(slow, 0o755)
    sh(f"mount --bind {slow} {program}")
    p = subprocess.Popen([lab.VIREO, "net", "create", "lab", "--nat"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begun = wait(lambda: os.path.exists(f"{lab.dir}/begun"), 20)
    p.kill()
    p.wait()
    another_command(lab)
    sh(f"umount {program}")
    return {"begun": begun, "left": gone(lab)}


def hung(lab):
    """A server that does not answer any more, and a command that is about another network."""
    lab.vireo("net", "create", "lab", "--nat")
    lab.machine("lab", "web_1", configure=False)
    first, = servers(lab, "vireo:")
    os.kill(first, signal.SIGSTOP)
    r = lab.vireo("net", "create", "other", "--isolated", "--no-start", check=False)
    now, = servers(lab, "vireo:")
    return {"status": r.returncode, "another": now != first,
            "names": sorted({x["name"] for x in json.loads(lab.vireo("net", "leases", "lab", "--json"))})}


def hanging(lab):
    """Several servers that do not answer any more: whoever looks waits once for all of them, and so does who ends them. Others are well."""
    names = [f"n{n}" for n in range(4)]
    for name in names:
        lab.vireo("net", "create", name, "--isolated")
    before, asked = servers(lab, "vireo:"), []
    for name in ("m-well", "n-full", "o-well"):
        lab.vireo("net", "create", name, "--isolated")
    who = lambda name: json.loads(lab.vireo("net", "stats", name, "--json"))["server"]["pid"]
    pids = {name: who(name) for name in ("m-well", "n-full", "o-well")}
    # So many have asked this one, and are gone, that it can be asked no more.
    os.kill(pids["n-full"], signal.SIGSTOP)
    with contextlib.suppress(BlockingIOError):
        while True:
            with socket.socket(socket.AF_UNIX) as s:
                s.setblocking(False)
                s.connect(os.path.join(lab.dir, "run", "n-full", "server.sock"))
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    # Whoever has asked before is still in the queue.
    for _ in range(9):
        asked.append(socket.socket(socket.AF_UNIX))
        asked[-1].setblocking(False)
        with contextlib.suppress(BlockingIOError):
            asked[-1].connect(os.path.join(lab.dir, "run", "n0", "server.sock"))

    def timed(*args):
        begin = time.monotonic()
        r = lab.vireo("net", *args, check=False)
        return time.monotonic() - begin < 6, r

    fast, r = timed("list", "--json")
    problems = {n["name"]: n.get("problems") for n in json.loads(r.stdout)}
    found = {"list": [fast, sorted(set(map(str, (problems[n] for n in names + ["n-full"])))), problems["m-well"], problems["o-well"]]}
    fast, r = timed("show", "n1", "--json")
    found["show"] = [fast, json.loads(r.stdout).get("problems")]
    fast, r = timed("start", "--all")
    found["start"] = [fast, r.returncode, r.stderr]
    # It is told nothing, but its interface is gone: it ends when it goes on.
    os.kill(pids["n-full"], signal.SIGCONT)
    ended = wait(lambda: pids["n-full"] not in servers(lab, "vireo:"), 10)
    now = set(servers(lab, "vireo:")) - {pids["m-well"], pids["o-well"]}
    found["now"] = [len(now - set(before)), sorted(now & set(before)), {n["state"] for n in json.loads(lab.vireo("net", "list", "--json"))} == {"up"}]
    found["well"] = [ended, [name for name in pids if who(name) == pids[name]]]
    return found


LAST = "$(nft -a list chain inet vireo-lab in | awk '/handle/ { last = $NF } END { print last }')"
BREAK = {
    "bridge": "nft delete table bridge vireo-lab", "netdev": "nft delete table netdev vireo-iso", "inet": "nft flush table inet vireo-lab",
    "from": "nft flush chain bridge vireo-lab from", "chain": "nft flush chain netdev vireo-iso in", "server": "ip link set vs-lab nomaster",
    "addresses": "ip addr flush dev vr-lab", "down": "ip link set vr-iso down", "all": "nft flush ruleset",
    # One thing alone, so that all else is as it was.
    "rule": f"nft delete rule inet vireo-lab in handle {LAST}", "replaced": f"nft replace rule inet vireo-lab in handle {LAST} accept",
    "inserted": "nft insert rule bridge vireo-lab from accept", "policy": "nft add chain netdev vireo-iso in '{ policy accept; }'",
    "elements": "nft flush set bridge vireo-lab known", "element": "nft add element bridge vireo-lab known '{ 1 }'",
    "dormant": "nft add table inet vireo-lab '{ flags dormant; }'", "strange": "nft add chain bridge vireo-lab mine",
}


def repaired(lab):
    """What somebody has taken of networks that run is there again after the next command, whichever part of it."""
    lab.vireo("net", "create", "iso", "--isolated")
    sh("sysctl -qw net.ipv6.conf.up0.accept_ra=1")
    lab.vireo("net", "create", "lab", "--nat")
    a = lab.machine("lab", "a")

    def look():
        links = json.loads(sh("ip -j addr"))
        own = {l["ifname"]: [l.get("master"), "UP" in l["flags"], sorted(a["local"] for a in l["addr_info"] if a.get("local", "fe80")[:4] != "fe80")]
               for l in links if l["ifname"] != "vt0"}
        # Where the host is is as it was when they were loaded, with the network's own addresses or not yet.
        return own, sorted(line for line in sh("nft -s list ruleset").splitlines() if "elements" not in line and "goto strange" not in line) + [sh("nft list set bridge vireo-lab known")]

    before, found = look(), {}
    # What passes by them changes nothing of them, and no command loads them again then.
    handles = lambda: sh("nft -a -s list ruleset | grep -o '# handle .*'")
    loaded = handles()
    lab.table([(a, lab.host), (a, lab.outside)])
    another_command(lab)
    found["nothing"] = handles() == loaded
    for name, line in BREAK.items():
        sh(line)
        another_command(lab)
        now = look()
        found[name] = now == before or [now[0], before[0], sorted(set(before[1]) ^ set(now[1]))]
    sh("nft flush ruleset")
    lab.vireo("net", "delete", "--force", "lab")
    lab.vireo("net", "delete", "iso")
    left = gone(lab)
    left["links"].remove("vt0")
    return {"mended": found, "left": left, "accept_ra": sh("sysctl -n net.ipv6.conf.up0.accept_ra").strip()}


def told(lab):
    """Each part that is taken is told by `list` and `show`, which change nothing, and made again by `start`."""
    lab.vireo("net", "create", "lab", "--nat")
    lab.vireo("net", "create", "br", "--bridged", "up0")
    lab.vireo("net", "create", "still", "--isolated")
    a = lab.machine("lab", "a", configure=False)
    listed = lambda: {n["name"]: n for n in json.loads(lab.vireo("net", "list", "--json"))}
    found = {"up": sorted(n["state"] for n in listed().values())}
    kill = lambda: os.kill(json.loads(lab.vireo("net", "stats", "lab", "--json"))["server"]["pid"], signal.SIGKILL)
    damages = {
        "server": kill,
        "filters": lambda: sh("nft flush ruleset"),
        "changed": lambda: sh("nft add chain bridge vireo-lab extra"),
        "bridge": lambda: sh("ip link del vr-lab"),
        "down": lambda: sh("ip link set vr-lab down"),
        "address": lambda: sh("ip addr flush dev vr-lab scope global"),
        "cable": lambda: sh(f"ip link set {a.tap} nomaster"),
        "forwarding": lambda: sh("sysctl -qw net.ipv4.ip_forward=0"),
        "still": lambda: sh("sysctl -qw net.ipv4.conf.vr-lab.forwarding=0"),
        "mark": lambda: sh("ip link set vr-lab alias office"),
        "mtu": lambda: sh("ip link set vr-lab mtu 1300"),
        "server down": lambda: sh("ip link set vs-lab down"),
        "record": lambda: lose(lab, "run/lab"),
    }
    for name, damage in damages.items():
        damage()
        wait(lambda: listed()["lab"]["state"] != "up")
        n, text = listed()["lab"], lab.vireo("net", "list", check=False)
        told = [n["state"], n.get("problems"), n.get("problems") == shown(lab).get("problems"),
                all(f"vireo: lab: {p}\n" in text.stderr for p in n.get("problems", []))]
        lab.vireo("net", "start", "lab")
        found[name] = [*told, listed()["lab"]["state"]]
    # One that has its interface's MAC is known as well; the host's addresses stay where they are.
    own = lambda name: sorted(a["local"] for l in json.loads(sh(f"ip -j addr show dev {name}")) for a in l["addr_info"])
    before = own("vr-br")
    sh("ip link set vr-br alias office")
    found["bridged mark"] = [listed()["br"].get("problems")]
    lab.vireo("net", "edit", "still", "--mtu", "1400")
    found["bridged mark"] += [listed()["br"]["state"], own("vr-br") == before, [x for x in own("up0") if not x.startswith("fe80:")], all(lab.table([(lab.host, lab.outside)]).values())]
    sh("ip link set up0 nomaster")
    n = listed()
    found["uplink"] = [n["br"]["state"], n["br"].get("problems"), n["still"]["state"]]
    found["uplink"].append(lab.vireo("net", "start", "br", check=False).stderr)
    found["uplink"].append(listed()["br"]["state"])
    found["uplink"].append(all(lab.table([(lab.host, lab.outside)]).values()))
    sh("ip link set up0 down")
    n, text = listed()["br"], lab.vireo("net", "list", check=False).stderr
    lab.vireo("net", "edit", "still", "--mtu", "1300")
    found["uplink down"] = [n["state"], n.get("problems"), shown(lab, "br").get("problems") == n.get("problems"), text, listed()["br"]["state"],
                            lab.vireo("net", "start", "br", check=False).stderr, listed()["br"]["state"], all(lab.table([(lab.host, lab.outside)]).values())]
    # What is being changed is not called broken before that is over; and who may change nothing sees the rest.
    sh("ip link set vr-lab down")
    held = os.open(os.path.join(lab.dir, "run"), os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    found["held"] = [listed()[n]["state"] for n in ("lab", "still")]
    # What is deleted while somebody waits for that is not in the list.
    waiting = subprocess.Popen([lab.VIREO, "net", "list", "--json"], stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    definition = os.path.join(lab.dir, "networks", "still.json")
    os.rename(definition, definition + ".away")
    os.close(held)
    found["gone"] = sorted(n["name"] for n in json.loads(waiting.communicate()[0]))
    os.rename(definition + ".away", definition)
    found["free"] = listed()["lab"]["state"]
    lab.vireo("net", "start", "lab")
    blind = subprocess.run(["setpriv", "--bounding-set=-all", "--inh-caps=-all", lab.VIREO, "net", "list", "--json"], capture_output=True, text=True)
    found["blind"] = {n["name"]: [n["state"], n.get("unseen", "")[:21]] for n in json.loads(blind.stdout)}
    return found


def counted(lab):
    """What is refused is counted by cable and by chain, from the start of the network on, whoever comes and goes."""
    lab.vireo("net", "create", "lab", "--nat")
    one, two = (lab.machine("lab", "a", f"52:54:00:00:00:0{n}", configure=False) for n in (1, 2))
    odd = lab.machine("lab", "input", configure=False)
    stats = lambda: json.loads(lab.vireo("net", "stats", "lab", "--json"))
    refused = lambda: {f"{c['machine']} {c['mac'][-1] if c['machine'] == 'a' else ''}".strip(): c["refused"] for c in stats()["cables"]}
    send(lab, two, one, forged(two, one))
    send(lab, odd, one, forged(odd, one))
    found = {"chains": sorted(stats()["refused"]), "first": refused()}
    odd.sh("busybox udhcpc -i eth0 -n -q -f -t 5 -T 1 -s /bin/true")
    found["asked"] = stats()["refused"]["input"]
    lab.machine("lab", "c", configure=False)
    found["later"] = refused()
    send(lab, two, one, forged(two, one))
    found["more"] = refused()
    found["text"] = [line.split()[-1] for line in lab.vireo("net", "stats", "lab").splitlines() if "machine=input" in line]
    lab.vireo("net", "stop", "--force", "lab")
    lab.vireo("net", "start", "lab")
    found["anew"] = sum(refused().values())
    return found


def others_files(lab):
    """A directory of somebody else's among ours is left alone; a definition that cannot be removed leaves its network as it is."""
    junk = os.path.join(lab.dir, "run", "junk")
    os.makedirs(os.path.join(junk, "a", "b"))
    open(os.path.join(junk, "file"), "w").close()
    run = lambda *args: [(r := lab.vireo("net", *args, check=False)).returncode, r.stderr.replace(lab.dir, "DIR")]
    create, edit = run("create", "lab", "--bridged", "up0"), run("edit", "lab", "--mtu", "1400")
    found = {"beside": [create[0], "junk" in create[1], edit]}
    found["bridged"] = [w for w in ("dhcp", "dns") if w in shown(lab)["definition"]]
    networks = os.path.join(lab.dir, "networks")
    sh(f"mount --bind {networks} {networks}; mount -o remount,bind,ro {networks}")
    found["read-only"] = [run("delete", "lab"), shown(lab)["state"]]
    sh(f"umount {networks}")
    found["delete"] = run("delete", "lab")
    found["kept"] = sorted(os.path.relpath(os.path.join(d, f), junk) for d, ds, fs in os.walk(junk) for f in ds + fs)
    return found


if __name__ == "__main__":
    lanlab.play(globals())
