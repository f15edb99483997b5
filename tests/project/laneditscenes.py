"""Definitions that are wrong or change, and what is odd of the host that networks stand in, in a lab (lanlab.py): scenarios for
test_lan_edits.py.
"""
import fcntl
import ipaddress
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

import lanframes
import lanlab
from lanlab import ECHO, followed, sh
from lanscenes import gone, make, servers, shown, wait, which


def tried(lab, *args):
    """The error of a command."""
    r = lab.vireo(*args, check=False)
    return r.stderr if r.returncode else ""


def there(lab, *machines):
    """Whether the network is up, with these machines' cables in its bridge under their names, and they reach each other."""
    show = shown(lab)
    masters = {l["ifname"]: l.get("master") for l in json.loads(sh("ip -j link"))}
    a, b = machines[:2]
    return (show["state"] == "up" and sorted(c["machine"] for c in show["cables"]) == sorted(m.name for m in machines)
            and all(masters[m.tap] == show["bridge"] for m in machines) and all(lab.table([(a, b), (a, lab.host)], 2).values()))


def edited(lab):
    """Edits that are refused change nothing; those that are not, nothing that machines have."""
    lab.vireo("net", "create", "narrow", "--isolated", "--mtu", "1400")
    first = {l["ifname"]: l["mtu"] for l in json.loads(sh("ip -j link"))}["vr-narrow"]
    lab.vireo("net", "delete", "narrow")
    lab.vireo("net", "create", "lab", "--nat", "--subnet", "10.50.0.0/24")
    a, b = lab.machine("lab", "a"), lab.machine("lab", "b")
    lab.machine("lab", "gone").end()
    lab.machines.pop()
    sh("ip link add taken type bridge")
    before, errors = shown(lab)["definition"], {}
    other = "52:54:00:00:00:99"
    for name, args in {"host": ["--host", f"{other},other,{a.addresses['4']}"], "subnet": ["--subnet", "10.60.0.0/24"],
                       "subnet6": ["--subnet6", "fd00:60::/64"], "bridge": ["--bridge", "newbr"],
                       "taken": ["--bridge", "taken", "--force"], "model": ["--isolated"], "mtu": ["--mtu", "1300"], "dns": ["--dns", "dnsmasq"],
                       "uplink": ["--bridged", "nope0", "--subnet", "none", "--subnet6", "none", "--domain", "none", "--force"]}.items():
        errors[name] = tried(lab, "net", "edit", "lab", *args)
    errors["stop"] = tried(lab, "net", "stop", "lab")
    # One that fails in the middle: the server is refused its directory.
    server = os.path.join(lab.dir, "run", "lab", "server.sock")
    lab.vireo("net", "edit", "lab", "--no-dhcp", "--dns", "off", "--force")
    if os.path.exists(server):
        os.unlink(server)
    os.mkdir(server)
    errors["server"] = tried(lab, "net", "edit", "lab", "--dhcp", "--mtu", "1400", "--force")
    middle = shown(lab)["definition"]
    found = {"first": first, "after errors": there(lab, a, b)}
    os.rmdir(server)
    lab.vireo("net", "edit", "lab", "--dhcp", "--dns", "own")
    found["same"] = shown(lab)["definition"] == before and middle == {**before, "dhcp": False, "dns": "off"}
    # A machine that comes back has what it is given by now.
    lab.vireo("net", "edit", "lab", "--mtu", "1300", "--dhcp-range", "10.50.0.200-10.50.0.254", "--host", f"{b.mac},b,10.50.0.77", "--force")
    mtu = lambda: {l["ifname"]: l["mtu"] for l in json.loads(sh("ip -j link"))}
    narrow = [mtu()[x] for x in ("vr-lab", a.tap)]
    found["kept"] = there(lab, a, b) and b.shown()["address"] == b.addresses["4"] and narrow == [1300, 1300]
    b.end()
    errors["range"] = tried(lab, "net", "edit", "lab", "--subnet", "10.61.0.0/24", "--host", "none", "--force")
    lab.vireo("net", "edit", "lab", "--mtu", "0", "--subnet", "10.61.0.0/24", "--dhcp-range", "none", "--host", "none", "--force")
    host = [x["local"] for l in json.loads(sh("ip -j -4 addr show dev vr-lab")) for x in l["addr_info"]]
    found["other"] = [a.shown()["address"].startswith("10.61.0."), mtu()[a.tap], host]
    b = lab.machines[1] = lab.machine("lab", "b")
    lab.machines.pop()
    found["moved"] = b.addresses["4"].startswith("10.61.0.")
    b.end()
    lab.vireo("net", "edit", "lab", "--host", f"{b.mac},b,10.61.0.77", "--bridge", "newbr", "--force")
    b = lab.machines[1] = lab.machine("lab", "b")
    lab.machines.pop()
    a.sh("ip addr flush dev eth0")
    a.configure()
    found["static"] = b.addresses["4"] == "10.61.0.77" and there(lab, a, b)
    lab.vireo("net", "edit", "lab", "--routed")
    found["routed"] = there(lab, a, b)
    for m in (a, b):
        m.end()
    lab.machines.clear()
    lab.vireo("net", "edit", "lab", "--bridge", "again", "--subnet6", "fd00:61::/64")
    found["bridge"] = shown(lab)["bridge"]
    lab.vireo("net", "delete", "lab")
    sh("ip link del taken")
    # A range that was said stays, until it is given back.
    lab.vireo("net", "create", "lab", "--nat", "--subnet", "10.50.0.0/24", "--dhcp-range", "10.50.0.20-10.50.0.25")
    found["ranges"] = []
    for args in ["--subnet", "10.50.0.0/23"], ["--dhcp-range", "none"], ["--subnet", "10.62.0.0/24"]:
        lab.vireo("net", "edit", "lab", *args)
        found["ranges"].append(shown(lab)["definition"]["dhcp-range"])
    lab.vireo("net", "delete", "lab")
    return {**found, "errors": errors, "left": gone(lab)}


def widened(lab):
    """What the cards of machines were told is wide enough for them, however wide the network has been since."""
    width = lambda mtu: tried(lab, "net", "edit", "lab", "--mtu", str(mtu))
    lab.vireo("net", "create", "lab", "--nat", "--mtu", "1400")
    a, b = lab.machine("lab", "a"), lab.machine("lab", "b")
    found = {"back": [width(9000), width(1400), there(lab, a, b)], "less": width(1300), "wide": width(9000)}
    lab.machine("lab", "c")
    found["told"] = width(1400)
    lab.machines.pop().end()
    width(1500)
    # Who was told nothing has what it comes with, or what DHCP has told it since.
    lab.machine("lab", "d")
    width(9000)
    found["1500"] = [width(1500)]
    width(0)
    lab.machines.pop().end()
    lab.machine("lab", "e")
    width(9000)
    found["1500"] += [width(1500), tried(lab, "net", "edit", "lab", "--mtu", "1500", "--force")]
    return found


def mended(lab):
    """What somebody else has destroyed under machines is made again, by what is written or what is there."""
    a, b = make(lab, "nat")
    found = {}
    sh("ip link del vr-lab")
    lab.vireo("net", "start", "other", check=False)
    found["bridge"] = there(lab, a, b)
    # Its definition cannot be read, and its server is dead.
    definition = os.path.join(lab.dir, "networks", "lab.json")
    text = open(definition).read()
    open(definition, "w").close()
    for pid in servers(lab):
        os.kill(pid, signal.SIGKILL)
    wait(lambda: not servers(lab))
    lab.vireo("net", "start", "other", check=False)
    found["served"] = len(servers(lab))
    open(definition, "w").write(text)
    found["definition"] = there(lab, a, b)
    lab.vireo("net", "stop", "--force", "lab")
    lab.vireo("net", "start", "lab")
    found["stopped"] = there(lab, a, b)
    # What cannot be mended now is, later; that is said once, and keeps nobody from what he wants.
    sh("ip link del vr-lab; ip link add vr-lab type bridge")
    run = lambda *args: (lambda r: [r.returncode, r.stderr])(lab.vireo("net", *args, check=False))
    found["said"] = [run("create", "other", "--isolated", "--no-start"), run("edit", "other", "--mtu", "1400"), run("list")]
    found["state"], found["why"] = shown(lab)["state"], shown(lab)["error"]
    sh("ip link del vr-lab")
    found["quiet"] = [run("edit", "other", "--mtu", "1300"), run("list"), "error" in shown(lab)]
    found["later"] = there(lab, a, b)
    # Without machines it is taken down; what cannot be removed is said as well.
    lab.vireo("net", "create", "idle", "--nat")
    sh("ip link del vs-idle; ip link add vs-idle type bridge")
    found["idle"] = [run("edit", "other", "--mtu", "1400"), shown(lab, "idle")["state"]]
    sh("ip link del vs-idle")
    lab.vireo("net", "start", "idle")
    held = os.path.join(lab.dir, "run", "idle", "held")
    os.mkdir(held)
    sh(f"mount -t tmpfs tmpfs {held}; ip link del vr-idle")
    found["held"] = [n if isinstance(n, int) else n.replace(lab.dir, "DIR") for n in run("edit", "other", "--mtu", "1300")]
    sh(f"umount {held}")
    lab.vireo("net", "delete", "idle", "other")
    return found


def pulled(lab):
    """Cables that were pulled are in no later network of that name; those of one that was only stopped come back to it."""
    r = {}
    for how in (["delete"], ["stop", "delete"], ["stop"]):
        lab.vireo("net", "create", "lab", "--isolated")
        m = lab.machine("lab", "a", configure=False)
        for command in how:
            lab.vireo("net", command, "--force", "lab")
        lab.vireo("net", *(["create", "lab", "--bridged", "up0"] if "delete" in how else ["start", "lab"]))
        link, = json.loads(sh(f"ip -j link show {m.tap}"))
        r[" ".join(how)] = [len(shown(lab)["cables"]), link.get("master"), "ifalias" in link]
        m.end()
        lab.machines.clear()
        lab.vireo("net", "delete", "lab")
    return {**r, "left": gone(lab)}


SOLICIT = """import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.sendto(bytes([133]) + bytes(7), ("ff02::2", 0, 0, socket.if_nametoindex("eth0")))
"""


def renumbered(lab):
    """What a machine thinks of its IPv6 addresses when the network's prefix is another one, none, and the first one again."""
    first, second = "fd00:52:1::/64", "fd00:52:2::/64"
    lab.vireo("net", "create", "lab", "--nat", "--subnet6", first)
    m = lab.machine("lab", "m", configure=False)

    def preferred():
        links = json.loads(m.sh("ip -j -6 addr show dev eth0 scope global"))
        found = [a for link in links for a in link.get("addr_info", []) if a.get("preferred_life_time")]
        return sorted({str(ipaddress.ip_network(a["local"] + "/64", False)) for a in found})

    has = lambda *prefixes: wait(lambda: preferred() == list(prefixes)) or preferred()
    edit = lambda prefix: lab.vireo("net", "edit", "lab", "--subnet6", prefix, "--force")
    kept = lambda: [o["address6"] for o in json.load(open(os.path.join(lab.dir, "run", "lab", "state.json"))).get("old6", [])]
    r = {"begin": has(first)}
    for name, prefix in (("second", second), ("none", "none"), ("first", first)):
        edit(prefix)
        r[name] = [has(*([prefix] if prefix != "none" else [])), kept(), m.sh("ip -6 route show default").count("default")]
    # A machine that has slept is told by a later server, too.
    def sleep():
        for prefix in (first, second):
            m.sh(f"ip addr change {lanframes.own6(prefix, m.mac)}/64 dev eth0 valid_lft 9000 preferred_lft 9000")
        return has(first, second)

    def restart():
        for pid in servers(lab):
            os.kill(pid, signal.SIGKILL)
        lab.vireo("net", "start", "lab")

    r["slept"] = sleep()
    restart()
    r["later"] = [has(first), kept()]
    # Not for ever.
    state = os.path.join(lab.dir, "run", "lab", "state.json")
    text, end = open(state).read(), int(time.time()) + 2
    with open(state, "w") as f:
        f.write(re.sub(r'"until": \d+', f'"until": {end}', text))
    restart()
    time.sleep(max(0, end + 1.2 - time.time()))
    r["slept again"] = sleep()
    m.sh(f"{sys.executable} -c '{SOLICIT}'")
    r["over"] = [wait(lambda: re.search(r"preferred_lft 4\d{4}sec", m.sh("ip addr show dev eth0"))), preferred()]
    return r


def served_on(lab):
    """Whether who serves is the same after edits, and what a machine hears of its router."""
    lab.vireo("net", "create", "other", "--nat")
    lab.vireo("net", "create", "lab", "--nat")
    m = lab.machine("lab", "m", configure=False)
    has_router = lambda: "default" in m.sh("ip -6 route show default")
    r = {"router": wait(has_router)}
    heard = subprocess.Popen(["nsenter", "-t", str(m.pid), "-n", "ip", "-6", "monitor", "route"], stdout=subprocess.PIPE, text=True)
    who = lambda: json.loads(lab.vireo("net", "stats", "lab", "--json"))["server"]["pid"]
    pid = who()
    names = lambda: sorted({o["name"] for o in json.loads(lab.vireo("net", "leases", "lab", "--json"))})
    for args in (["--publish", "8080-m:80"], ["--route", "other"], ["--host", "52:54:00:00:00:99,x,"], ["--host", "none"]):
        lab.vireo("net", "edit", "lab", *args)
        r[" ".join(args)] = [who() == pid, names()]
    # One that nobody would reach does not go on.
    sh("ip link set vs-lab nomaster")
    lab.vireo("net", "edit", "lab", "--route", "none")
    r["pulled"] = [who() == pid, shown(lab)["state"]]
    pid = who()
    lab.vireo("net", "edit", "lab", "--domain", "new.internal")
    r["told"] = [who() == pid, shown(lab)["state"], has_router()]
    time.sleep(0.3)
    heard.terminate()
    r["lost"] = "Deleted default" in heard.communicate()[0]
    lab.vireo("net", "stop", "lab", "--force")
    r["stopped"] = wait(lambda: not has_router())
    return r


def strangers(lab):
    """Two run directories in one host: neither touches what is the other's. And what is odd of one."""
    theirs = lambda *args: subprocess.run([lab.VIREO, *args], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL,
                                          env={**os.environ, "VIREO_NET_DIR": "theirs"}, cwd=lab.dir)
    lab.vireo("net", "create", "lab", "--nat")
    lab.vireo("net", "create", "idle", "--isolated")
    a, b = lab.machine("lab", "a"), lab.machine("lab", "b")
    r = {"create": theirs("net", "create", "theirs", "--nat", "--dns", "dnsmasq" if which("dnsmasq") else "own").returncode}
    r["taken"] = theirs("net", "create", "lab", "--isolated", "--bridge", "other").stderr
    r["there"] = there(lab, a, b) and shown(lab, "idle")["state"] == "up"
    r["delete"] = theirs("net", "delete", "theirs").returncode
    r["after"] = there(lab, a, b) and all(lab.table([(a, lab.outside)]).values()) and "vireo-idle" in sh("nft list tables")
    # By his own wish only.
    r["theirs"] = [theirs("net", "delete", "--force", "lab").stderr, there(lab, a, b), theirs("net", "stop", "--foreign", "lab").returncode,
                   sh("ip -br link show type bridge").split()[::4], sh("nft list tables").count("vireo-lab")]
    for m in (a, b):
        m.end()
    lab.machines.clear()
    for name in ("dm", "stays") if which("dnsmasq") else ():
        lab.vireo("net", "create", name, "--nat", "--dns", "dnsmasq")
    before = servers(lab, ("dnsmasq",))
    theirs("net", "stop", "--foreign", "dm")
    wait(lambda: len(servers(lab, ("dnsmasq",))) < 2)
    r["served"] = [len(before), len(servers(lab, ("dnsmasq",)))]
    lab.vireo("net", "delete", "dm", "stays", check=False)
    # A directory that something is mounted over knows of nothing that it has made.
    lost = lambda *args: lab.vireo("net", *args, check=False).stderr
    lab.vireo("net", "start", "lab")
    sh(f"mount -t tmpfs none {lab.dir}/run")
    r["mounted"] = [lost("start", "lab"), lost("stop", "lab"), lost("stop", "--foreign", "lab"), lost("start", "lab"), lost("stop", "lab")]
    sh(f"umount {lab.dir}/run")
    # Somebody was killed while he wrote.
    begun = [os.path.join(lab.dir, path) for path in ("networks/killed.json.tmp", "run/.forwarding.tmp")]
    for path in begun:
        open(path, "w").close()
    lab.vireo("net", "delete", "lab", "idle")
    r["tmp"] = any(os.path.exists(path) for path in begun)
    # Who waits for a directory that is moved away has not locked the one that is there then.
    run = os.path.join(lab.dir, "run")
    held, later = (os.open(run, os.O_RDONLY), None)
    fcntl.flock(held, fcntl.LOCK_EX)
    waiting = subprocess.Popen([lab.VIREO, "net", "start", "other"], stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    wait(lambda: "FLOCK" in sh(f"grep -h -A0 -e '->' /proc/locks", check=False))
    os.rename(run, run + ".old")
    os.mkdir(run, 0o700)
    later = os.open(run, os.O_RDONLY)
    fcntl.flock(later, fcntl.LOCK_EX)
    os.close(held)
    try:
        waiting.wait(0.3)
        r["lock"] = "of the old one"
    except subprocess.TimeoutExpired:
        os.close(later)
        r["lock"] = waiting.wait(5)
    r["left"] = gone(lab)
    return r


def spaces(lab):
    """Two network name spaces with one run directory: what is in one of them is not the other's."""
    there = lambda *args: subprocess.run(["nsenter", "-t", str(lab.outside.pid), "-n", lab.VIREO, *args], capture_output=True, text=True,
                                         timeout=30, stdin=subprocess.DEVNULL)
    state = lambda: {n["name"]: n["state"] for n in json.loads(lab.vireo("net", "list", "--json"))}
    # One that ends with its network in it: with nothing that lives any more, as after a boot.
    sh(f"unshare -n {lab.VIREO} net create ended --nat")
    found = {"cleared": wait(lambda: "no network named 'other'" in tried(lab, "net", "start", "other"), 8), "ended": state()["ended"],
             "run": [f for f in os.listdir(os.path.join(lab.dir, "run")) if f[0] != "."]}
    lab.vireo("net", "delete", "ended")
    # With a server, and one that has none.
    lab.vireo("net", "create", "bare", "--isolated", "--no-dhcp", "--dns", "off")
    found["bare"] = [there("net", "create", "two", "--nat").stderr.split(" (")[0].split(", and")[0], state()]
    lab.vireo("net", "create", "lab", "--nat")
    a, b = lab.machine("lab", "a"), lab.machine("lab", "b")
    files = lambda: sorted((f, os.stat(f).st_mtime) for f in lab.left()["files"])
    before = files(), lab.outside.sh("ip link; nft list ruleset")
    found["refused"] = [there("net", *args).returncode for args in (("start", "bare"), ("stop", "--force", "lab"), ("delete", "--force", "lab"),
                                                                     ("edit", "lab", "--mtu", "1400"), ("create", "lab2", "--isolated"))]
    found["listed"] = {n["name"]: n["state"] for n in json.loads(there("net", "list", "--json").stdout)}
    found["same"] = before == (files(), lab.outside.sh("ip link; nft list ruleset")) and all(lab.table([(a, b), (a, lab.host), (a, lab.outside)]).values())
    for m in (a, b):
        m.end()
    lab.machines.clear()
    lab.vireo("net", "delete", "lab", "bare")
    return {**found, "left": gone(lab)}


def boxed(lab):
    """A container with networks and processes of its own, and the host's run directory: it leaves the host's networks alone. What is left
    of its own is removed where it can be seen that it is gone, or by hand.
    """
    box = lambda *args: subprocess.run(["unshare", "-fnp", "--mount-proc", lab.VIREO, "net", *args], capture_output=True, text=True, timeout=30)
    record = lambda name: os.path.join(lab.dir, "run", name, "state.json")
    bare = ["--isolated", "--no-dhcp", "--dns", "off"]
    kinds = {"bridged": ["--bridged", "up0"], "bare": bare, "served": ["--nat"], **({"names": ["--nat", "--dns", "dnsmasq"]} if which("dnsmasq") else {})}
    r = {"kinds": list(kinds), "host's": {}, "own": {}}
    for name, args in kinds.items():
        lab.vireo("net", "create", name, *args)
        before = open(record(name)).read(), servers(lab)
        refused = [box(*words).stderr for words in (["create", "two", "--isolated"], ["stop", "--force", name], ["edit", name, "--mtu", "1400"])]
        states = [n["state"] for n in json.loads(box("list", "--json").stdout)]
        r["host's"][name] = [[f"network {name} is in another network name space" in e for e in refused], "cannot be seen" in refused[0], states,
                             os.path.exists(record(name)) and before == (open(record(name)).read(), servers(lab))]
        lab.vireo("net", "delete", name)
    for name, args in (("bare", bare), ("served", ["--nat"])):
        box("create", name, *args)
        wait(lambda: not servers(lab))
        r["own"][name] = [tried(lab, "net", "start", "none").replace(lab.dir, "DIR")]
        if os.path.exists(record(name)):
            shutil.rmtree(os.path.dirname(record(name)))
        r["own"][name] += [tried(lab, "net", "start", name), tried(lab, "net", "delete", name)]
    # As an older version has written it, which does not say whose processes it knew.
    lab.vireo("net", "create", "older", *bare)
    with open(record("older")) as f:
        state = json.load(f)
    del state["pids"]
    with open(record("older"), "w") as f:
        json.dump(state, f)
    r["own"]["older"] = [box("create", "two", "--isolated").returncode, os.path.exists(record("older"))]
    box("delete", "two")
    lab.vireo("net", "delete", "older")
    return {**r, "left": gone(lab)}


def cards(lab):
    """MACs: not the same on two hosts and two networks of one; not the network's own. Names that are none."""
    ids = [os.path.join(lab.dir, str(n)) for n in range(2)]
    r, macs = {}, []
    for n in ids:
        with open(n, "w") as f:
            f.write(os.path.basename(n) * 32 + "\n")
    lab.vireo("net", "create", "lab", "--nat")
    lab.vireo("net", "create", "two", "--bridged", "up0")
    for n in ids if os.path.exists("/etc/machine-id") else []:
        sh(f"mount --bind {n} /etc/machine-id")
        m = lab.machine("lab", "a", configure=False)
        macs.append(m.mac)
        m.end()
        lab.machines.pop()
        sh("umount /etc/machine-id")
    first = lab.machine("lab", "b", configure=False)
    first.end()
    lab.machines.pop()
    lab.machine("two", "b", first.mac, configure=False)
    again = lab.machine("lab", "b", configure=False)
    links = {l["ifname"]: l["address"] for l in json.loads(sh("ip -j link"))}
    errors = []
    sh("ip link add wire type bridge; ip link set wire up")
    for name in ("three", "four"):
        lab.vireo("net", "create", name, "--bridged", "wire")
    lab.machine("three", "c", "52:54:00:00:00:33", configure=False)
    for network, name, mac in (("four", "x", "52:54:00:00:00:33"), ("lab", "x", links["vr-lab"]), ("lab", "x", links["vr-lab"].replace(":56:", ":53:", 1)),
                               ("two", "x", links["vr-two"]), ("lab", "x\n10.0.0.1 evil", "-")):
        try:
            lab.machine(network, name, mac, configure=False)
            errors.append("none")
        except RuntimeError as e:
            errors.append(str(e))
    return {"macs": macs, "errors": errors, "other": first.mac != again.mac}


def refused(lab):
    """What is wrong in a definition is said as it is, and nothing is made."""
    lab.vireo("net", "create", "there", "--nat", "--publish", "tcp:80-x:80", "--no-start")
    lab.vireo("net", "create", "alone", "--isolated", "--no-start")
    sh("ip addr add 10.202.0.5/32 dev lo; ip addr add fd00:202::5/128 dev lo; ip route add blackhole 10.203.1.0/24")
    errors = {name: tried(lab, "net", "create", *args) for name, args in {
        "long": ["a" * 64, "--isolated"],
        "host": ["lab", "--nat", "--host", "52:54:00:00:00:01,web,9.9.9.9"],
        "range": ["lab", "--nat", "--dhcp-range", "9.9.9.3-9.9.9.9"],
        "none": ["lab", "--nat", "--subnet", "none", "--host", "52:54:00:00:00:01,web,9.9.9.9"],
        "publish": ["lab", "--nat", "--publish", "tcp:8080-9.9.9.9:80"],
        "taken": ["lab", "--nat", "--publish", "tcp:192.0.2.1:80-x:80"],
        "bridge": ["lab", "--nat", "--bridge", "all"],
        "server": ["lab", "--nat", "--bridge", "vs-lab"],
        "address": ["lab", "--nat", "--subnet", "10.202.0.0/24"],
        "address6": ["lab", "--nat", "--subnet6", "fd00:202::/64"],
        "nowhere": ["lab", "--nat", "--subnet", "10.203.1.0/24"],
        "mtu": ["lab", "--bridged", "up0", "--mtu", "9000"],
        "alone": ["lab", "--nat", "--route", "alone"],
        "route": ["lab", "--nat", "--route", "nosuch"]}.items()}
    sh("ip route del blackhole 10.203.1.0/24")
    # Whoever reads a file that does not end keeps nobody waiting.
    slow = subprocess.Popen([lab.VIREO, "net", "import", "-", "--no-start", "--name", "mine"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(0.15)
    lab.vireo("net", "create", "a" * 31, "--isolated")
    note = slow.communicate("<network><name>my net</name><ip address='10.9.9.1' prefix='24'/></network>")[1]
    lab.vireo("net", "delete", "a" * 31)
    return {"errors": errors, "note": note, "defined": os.listdir(os.path.join(lab.dir, "networks")), "left": gone(lab)}


def vpn(lab):
    """A host with ways to half of the world each, and to no private address: networks are made, started and changed all the same."""
    lab.vireo("net", "create", "before", "--nat", "--no-start")
    for route in ("0.0.0.0/1 via 192.0.2.2", "128.0.0.0/1 via 192.0.2.2", "2000::/3 via 2001:db8::2", "fc00::/7 via 2001:db8::2",
                  "unreachable 10.0.0.0/8", "unreachable 172.16.0.0/12", "unreachable 192.168.0.0/16", "10.97.1.128/25 via 192.0.2.2"):
        sh("ip route add " + route)
    sh("ip addr add 10.98.0.1/16 dev up0")
    r = {"made": [tried(lab, "net", *args) for args in (
        ["create", "lab", "--nat"], ["start", "before"], ["create", "alone", "--isolated", "--subnet", "10.98.1.0/24"])],
         "link": tried(lab, "net", "create", "link", "--nat", "--subnet", "10.98.2.0/24"),
         "longer": tried(lab, "net", "create", "longer", "--routed", "--subnet", "10.97.1.0/24"),
         "network": tried(lab, "net", "create", "same", "--isolated", "--subnet", "10.98.0.0/16")}
    # A table that no rule leads to is nobody's way.
    sh("ip route add 10.96.1.0/24 via 192.0.2.2 table 700; ip -6 route add fd00:96:1::/64 via 2001:db8::2 table 700")
    apart = lambda *families: tried(lab, "net", "create", "apart", "--routed", "--no-start", *(a for f in families for a in (
        ("--subnet", "10.96.1.0/24") if f == 4 else ("--subnet6", "fd00:96:1::/64"))))
    r["tables"] = [apart(4, 6)]
    lab.vireo("net", "delete", "apart", check=False)
    sh("ip rule add fwmark 1 table 700")
    r["tables"] += [apart(4), apart(6)]
    lab.vireo("net", "delete", "apart", check=False)
    sh("ip -6 rule add fwmark 1 table 700")
    r["tables"] += [apart(6)]
    # One that leads to whichever table a VRF has.
    sh("ip rule del fwmark 1; ip rule add l3mdev pref 999")
    r["tables"] += [apart(4)]
    sh("ip rule del pref 999")
    # A wider one leads away where its table is asked first, by all.
    sh("ip route add 10.94.0.0/16 via 192.0.2.2 table 701; ip route add throw 10.94.0.0/16 table 702; ip -6 route add fd00:94::/32 via 2001:db8::2 table 701")

    def led(*rules):
        for rule in rules:
            sh("ip rule add " + rule)
        said = tried(lab, "net", "create", "led", "--routed", "--no-start", "--subnet", "10.94.3.0/24")
        for rule in rules:
            sh("ip rule del " + rule)
        lab.vireo("net", "delete", "led", check=False)
        return said

    r["behind"] = [led(*rules) for rules in (
        ["lookup 701 pref 32800"], ["fwmark 1 lookup 701 pref 5270"], ["iif up0 lookup 701 pref 5270"], ["lookup 702 pref 5270"],
        ["lookup main suppress_prefixlength 0 pref 5000", "not fwmark 1 lookup 701 pref 5270"], ["not from all lookup 701 pref 5270"])]
    r["ahead"] = [led(*rules) for rules in (
        ["lookup 701 pref 5270"], ["not fwmark 1 lookup 701 pref 5270"], ["fwmark 1 lookup main pref 5210", "lookup 701 pref 5270"])]
    sh("ip -6 rule add lookup 701 pref 5270")
    r["ahead"] += [tried(lab, "net", "create", "led", "--routed", "--no-start", "--subnet6", "fd00:94:3::/64")]
    sh("ip -6 rule del pref 5270")
    a = lab.machine("lab", "a")
    r["reached"] = [k for k, v in lab.table([(a, lab.host), (a, lab.outside)]).items() if not v]
    # What has come into its subnet since is no reason to refuse what has nothing to do with it.
    sh("ip route add " + shown(lab)["subnet"].replace(".0/24", ".128/25") + " via 192.0.2.2")
    r["later"] = [tried(lab, "net", *args) for args in (
        ["edit", "lab", "--publish", "80-x:80", "--mtu", "1400", "--force"], ["start", "lab"], ["edit", "alone", "--host", f"{a.mac},a,"])]
    r["edits"] = [tried(lab, "net", "edit", *args) for args in (["lab", "--subnet", "10.98.2.0/24", "--force"], ["alone", "--nat", "--force"])]
    sh("ip addr del 10.98.0.1/16 dev up0")
    return r


def full(lab):
    """A host with a full table of routes, and with long ones: all of them count, and do not make a command large."""
    sh("ip link add wire type bridge; ip link set wire up; ip addr add 198.18.0.1/16 dev wire")
    ways = [f"198.18.1.{n}" for n in range(1, 201)]
    sh("ip route add 10.204.1.0/24 " + " ".join(f"nexthop via {w} dev wire" for w in ways))
    routes = "".join(f"route add {20 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.0/24 via 192.0.2.2\n" for n in range(70000))
    subprocess.run(["ip", "-batch", "-"], input=routes, text=True, check=True)
    sh("ip route add 172.31.5.0/24 via 192.0.2.2; ip route add 203.0.113.0/24 via 198.18.9.9; ip -6 route add fd00:205::/64 via 2001:db8::2")

    def small(*args):
        r = subprocess.run([lab.VIREO, "net", *args], capture_output=True, text=True, timeout=30,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (24 << 20, 24 << 20)))
        return r.stderr if r.returncode else ""

    r = {"long": small("create", "lab", "--nat", "--subnet", "10.204.1.0/24"), "last": small("create", "lab", "--nat", "--subnet", "172.31.5.0/24"),
         "last6": small("create", "lab", "--nat", "--subnet6", "fd00:205::/64"), "made": [small("create", "lab", "--nat"), small("delete", "lab")],
         "bridged": small("create", "lab", "--bridged", "wire")}
    filters = sh("nft list table bridge vireo-lab")
    return {**r, "reserved": [a for a in (*ways, "198.18.9.9", "198.18.0.1") if f"{a}," not in filters and f"{a} " not in filters]}


def unstarted(lab):
    """Machines that cannot start leave networks as they were; so do cards with an MTU that the network has not."""
    image = os.path.join(lab.dir, "zero.img")
    with open(image, "wb") as f:
        f.truncate(1 << 20)
    env = {**os.environ, "XDG_RUNTIME_DIR": lab.dir}
    words = lambda net, *more: [lab.VIREO, "run", "--memory", "64M", "--net", net, *more]
    run = lambda *args: subprocess.run(words(*args), capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, env=env).stderr
    lab.vireo("net", "create", "lab", "--nat")
    mac = json.loads(sh("ip -j link show vr-lab"))[0]["address"]
    lab.vireo("net", "stop", "lab")
    lab.vireo("net", "create", "small", "--isolated", "--mtu", "1400", "--no-start")
    sh("ip link add e0 mtu 4000 type veth peer name e1")
    lab.vireo("net", "create", "wire", "--bridged", "e0", "--no-start")
    states = lambda: [n["state"] for n in json.loads(lab.vireo("net", "list", "--json"))]
    r = {"kernel": [run("lab", "--net", "small", "--kernel", "/nope"), states(), lab.left()["forward"]],
         "queues": [run("lab,model=e1000,queues=2", image), states()], "word": [run("lab,nope=1", image), states()],
         "mac": [run(f"lab,mac={mac}", image), states()], "left": [x for x in lab.left()["links"] if x.startswith("v")] + lab.left()["tables"],
         "mtu": [run(net, image).split("mtu: ")[-1].strip() for net in ("lab,mtu=1501", "lab,mtu=1279", "small,mtu=1401", "wire,mtu=4001")]}
    r["none"] = states()
    # One that fails while another machine is there, and one that has begun.
    m = lab.machine("lab", "m", configure=False)
    run("lab", "--kernel", "/nope")
    r["other"] = states()
    m.end()
    lab.machines.clear()
    began = subprocess.Popen(words("small,mtu=1300", image), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    r["began"] = wait(lambda: shown(lab, "small")["cables"], 20)
    time.sleep(1)
    began.terminate()
    began.communicate()
    r["ended"] = states()
    sh("ip link del e0")
    return r


TELL = """import select, socket, sys
ears = [socket.create_server(("::", int(p)), family=socket.AF_INET6, dualstack_ipv6=True) for p in sys.argv[1:]]
print("ready", flush=True)
while True:
    for ear in select.select(ears, [], [])[0]:
        s = ear.accept()[0]
        s.sendall(str(ear.getsockname()[1]).encode())
        s.close()
"""
ASK = """import socket, sys
for p in sys.argv[2:]:
    try:
        with socket.create_connection((sys.argv[1], int(p)), 0.6) as s:
            print(s.recv(10).decode())
    except OSError:
        print("-")
"""


def beside_leases(lab):
    """A machine that hosts others: what they have by DHCP is given to no other machine."""
    found = {}
    for dns in ("own", "dnsmasq") if which("dnsmasq") else ("own",):
        lab.vireo("net", "create", "lab", "--nat", "--subnet", "10.70.0.0/24", "--dhcp-range", "10.70.0.10-10.70.0.15", "--dns", dns)
        t = lab.machine("lab", "t", configure=False, trust=True)
        theirs = [f"02:aa:00:00:00:0{n}" for n in (1, 2, 3)]
        for mac in theirs:
            t.sh(f"ip link set eth0 down; ip link set eth0 address {mac}; ip link set eth0 up; "
                 "busybox udhcpc -i eth0 -n -q -f -t 8 -T 1 -s /bin/true")
        leases = lambda: {e["mac"]: e["address"] for e in json.loads(lab.vireo("net", "leases", "lab", "--json")) if e["family"] == 4}
        before = leases()
        free = {f"10.70.0.{n}" for n in range(10, 16)} - {t.shown()["address"], *(before[m] for m in theirs)}
        given = {lab.machine("lab", name, configure=False).shown()["address"] for name in ("u", "v")}
        found[dns] = [given == free, {m: leases().get(m) for m in theirs} == {m: before[m] for m in theirs}]
        for m in lab.machines:
            m.end()
        lab.machines.clear()
        lab.vireo("net", "delete", "lab")
    return found


def ranges(lab):
    """Ports of the host that lead to as many of a machine, each to its own; to the same ones; and to others after an edit."""
    lab.vireo("net", "create", "lab", "--nat", "--publish", f"tcp:8007-8008-a:{ECHO - 1}-{ECHO}")
    a = lab.machine("lab", "a")
    # Connections by the last of a range that ends are forgotten.
    flows = [lab.outside.ask(to, "flow", 2, 8008) for to in ("192.0.2.1", "2001:db8::1")]
    answers = lab.outside.answers()
    found = {"followed": [[answers[n] for n in flows], followed()]}
    lab.vireo("net", "edit", "lab", "--publish", "tcp:9000-9002-a:9500-9502", "--publish", "tcp:9600-9602-a:9600-9602")
    found["followed"].append(followed())
    inside = lambda space, code, *args: ["nsenter", "-t", str(space.pid), "-n", sys.executable, "-c", code, *map(str, args)]
    tell = subprocess.Popen(inside(a, TELL, *range(9500, 9504), *range(9600, 9604)), stdout=subprocess.PIPE)
    tell.stdout.readline()
    reached = lambda *ports: [subprocess.run(inside(lab.outside, ASK, to, *ports), capture_output=True, text=True, check=True).stdout.split()
                              for to in ("192.0.2.1", "2001:db8::1")]
    found |= {"shifted": reached(8999, 9000, 9001, 9002, 9003), "same": reached(9599, 9600, 9601, 9602, 9603)}
    lab.vireo("net", "edit", "lab", "--publish", "tcp:9001-9003-a:9500-9502")
    found["after"] = reached(9000, 9001, 9002, 9003, 9601)
    found["text"] = shown(lab)["definition"]["publish"]
    found["taken"] = tried(lab, "net", "create", "two", "--nat", "--publish", "tcp:8000-9001-x:8000-9001")
    tell.kill()
    tell.wait()
    return found


def led_on(lab):
    """Connections by ports of which an edit says something else, that still lead to the same; and ones that lead elsewhere then."""
    sh("ip addr add 192.0.2.3/24 dev up0")
    show = lambda *ports: [w for p in ports for w in ("--publish", p)]
    ways = {"range": ("192.0.2.1", 8002), "range6": ("2001:db8::1", 8002), "b": ("192.0.2.1", 80), "a": ("192.0.2.3", 80)}
    lab.vireo("net", "create", "lab", "--nat", *show(f"8001-8002-a:{ECHO - 1}-{ECHO}", f"192.0.2.1:80-b:{ECHO}", f"192.0.2.3:80-a:{ECHO}"))
    a, b = lab.machine("lab", "a"), lab.machine("lab", "b")

    def flows():
        count = followed()
        asked = {name: lab.outside.ask(to, "flow", 1.5, port) for name, (to, port) in ways.items()}
        answers = lab.outside.answers()
        return [sorted(name for name, n in asked.items() if answers[n]), count]

    flows()
    found = {"begin": flows()}
    edits = {"longer": [f"8001-8003-a:{ECHO - 1}-{ECHO + 1}", f"192.0.2.1:80-b:{ECHO}", f"192.0.2.3:80-a:{ECHO}"],
             "without b": [f"8001-8003-a:{ECHO - 1}-{ECHO + 1}", f"192.0.2.3:80-a:{ECHO}"],
             "wider": [f"8002-{a.addresses['4']}:{ECHO}", f"[::]:8002-a:{ECHO}", f"80-a:{ECHO}"],
             "elsewhere": [f"0.0.0.0:8002-a:{ECHO - 1}", f"[::]:8002-a:{ECHO}", f"80-b:{ECHO}"]}
    for name, ports in edits.items():
        lab.vireo("net", "edit", "lab", *show(*ports))
        found[name] = flows()
    return found


SPEAK = """import select, socket, sys, time
ears, said = [], []
for port in sys.argv[1:]:
    for family in socket.AF_INET, socket.AF_INET6:
        ears.append(socket.socket(family))
        ears[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            ears[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        ears[-1].bind(("", int(port)))
        ears[-1].listen()
print("ready", flush=True)
while True:
    said += [e.accept()[0] for e in select.select(ears, [], [], 0.05)[0]]
    for s in list(said):
        try:
            s.send(b"word")
        except OSError:
            said.remove(s)
"""
HEAR = """import json, select, socket, struct, sys, time
ways, begun = json.loads(sys.argv[1]), {}
def begin(name, port):
    s = begun[name] = socket.socket(socket.AF_INET6 if ":" in ways[name][0] else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.bind(("", port))
    s.settimeout(2)
    try:
        s.connect(tuple(ways[name]))
    except OSError:
        pass
def hear(seconds):
    until, names = time.monotonic() + seconds, {}
    by = {s: name for name, s in begun.items()}
    while (left := until - time.monotonic()) > 0:
        for s in select.select(list(by), [], [], left)[0]:
            try:
                data = s.recv(9999)
            except OSError:
                data = b""
            if data:
                names[by[s]] = True
            else:
                del by[s]
    return sorted(names)
for name in ways:
    begin(name, 0)
for line in sys.stdin:
    if line == "again\\n":
        for name in set(ways) - set(heard):
            port = begun[name].getsockname()[1]
            try:
                begun[name].sendall(b"well?")
                begun[name].recv(10)
            except ConnectionError:
                pass # a reset, which is the answer
            begun[name].close()
            begin(name, port)
    hear(0.01)
    heard = hear(0.6)
    print(json.dumps(heard), flush=True)
"""


def silenced(lab):
    """Machines that speak first, at the port by which they were asked for: nobody hears them by one that leads to them no more."""
    sh("ip addr add 192.0.2.3/24 dev up0")
    show = lambda *ports: [w for p in ports for w in ("--publish", p)]
    before = show("80-b:80", "81-b:81", "82-b:82", "83-b:83", "8001-8002-b:8001-8002")
    lab.vireo("net", "create", "lab", "--nat", *before)
    a, b = lab.machine("lab", "a"), lab.machine("lab", "b")
    run = lambda space, *args: subprocess.Popen([*(["nsenter", "-t", str(space.pid), "-n"] if space else []), sys.executable, "-c", *map(str, args)],
                                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    speak = run(b, SPEAK, 80, 81, 82, 83, 8001, 8002)
    speak.stdout.readline()
    ports = {"elsewhere": 80, "closed": 81, "narrow": 82, "on": 83, "first": 8001, "last": 8002}
    ways = {f"{name} {family}": (to, port) for name, port in ports.items() for family, to in (("4", "192.0.2.1"), ("6", "2001:db8::1"))}
    ways["other address 4"] = ("192.0.2.3", 82)
    who = {"outside": lab.outside, "machine": a, "host": None}
    hear = {name: run(space, HEAR, json.dumps(ways)) for name, space in who.items()}

    def heard(word="on"):
        for h in hear.values():
            h.stdin.write(word + "\n")
            h.stdin.flush()
        return {name: json.loads(h.stdout.readline()) for name, h in hear.items()}

    found = {"all": sorted(ways), "before": heard()}
    lab.vireo("net", "edit", "lab", *show("80-a:80", "192.0.2.3:82-b:82", f"83-{b.addresses['4']}:83", "[::]:83-b:83", "8001-b:8001"))
    # Filters are made again; what has ended stays so.
    lab.vireo("net", "edit", "lab", "--host", "52:54:00:00:00:99,x,")
    time.sleep(0.5)
    found["after"] = heard()
    lab.vireo("net", "edit", "lab", *before)
    found["back"] = heard()
    found["again"] = heard("again")
    for process in (speak, *hear.values()):
        process.kill()
        process.wait()
    return found


def called(lab):
    """What is said of ports that are published for a machine that is called otherwise then."""
    lab.vireo("net", "create", "lab", "--nat", "--publish", "8001-8002-web:80-81", "--publish", "82-nobody:82")
    m = lab.machine("lab", "web")
    edit = lambda host: lab.vireo("net", "edit", "lab", "--host", host, check=False).stderr
    r = {"other": edit("52:54:00:00:00:99,x,"), "www": edit(f"{m.mac},www,"), "same": edit(f"{m.mac},web,"), "again": edit(f"{m.mac},www,")}

    def end(machine):
        machine.cable.kill()
        text = machine.cable.stderr.read()
        machine.end()
        lab.machines.remove(machine)
        return text

    end(m)
    # Once more it says so itself, and others do not.
    m, a = lab.machine("lab", "web", m.mac), lab.machine("lab", "a")
    r["a"], r["web"] = end(a), end(m)
    return r


def uplinks(lab):
    """Interfaces that no bridge can have, or none has anything of: refused with their reason, before anything is changed."""
    sh("ip link add c0 type veth peer name c1; ip link add mac0 link c0 type macvlan mode bridge; ip link add c2 type veth peer name c3; "
       "ip link add pass0 link c2 type macvlan mode passthru; ip link add bare0 type veth peer name bare1; ip link add br9 type bridge; "
       "ip link add tap9 type veth peer name tap8; ip link set tap9 master br9; ip tuntap add tun9 mode tun; "
       "ip link add far0 link bare0 type macvlan mode bridge; ip addr add 192.0.3.1/24 dev bare0; ip link set bare0 up")
    sh(f"ip link set far0 netns {lab.outside.pid}")
    look = lambda: [sh("ip addr; ip route show table all; nft list ruleset"), lab.left()]
    steady = lambda: wait(lambda: look() == look())
    steady()
    before, r = look(), {}
    for name in ("lo", "mac0", "c0", "c2", "tap9", "tun9", "nope"):
        r[name] = [tried(lab, "net", "create", "w", "--bridged", name), look() == before]
    # A macvlan that is in another name space is not seen from here: what was done is undone.
    monotone = lambda: re.sub(r"^\d+: ", "", sh("ip addr show dev bare0; ip route show table all"), flags=re.M)
    unseen = monotone()
    r["bare0"] = [tried(lab, "net", "create", "w", "--bridged", "bare0"), monotone() == unseen, gone(lab)["tables"], gone(lab)["files"]]
    # One that says in no other way that it is wireless.
    sh("mount -t tmpfs tmpfs /sys/class/net; mkdir -p /sys/class/net/up0/phy80211")
    r["up0"] = [tried(lab, "net", "create", "w", "--bridged", "up0"), lab.left()["tables"]]
    sh("umount /sys/class/net")
    r["taken"] = [tried(lab, "net", "create", name, "--bridged", link) for name, link in (("a", "pass0"), ("b", "pass0"), ("c", "br9"))]
    r["states"] = {n["name"]: n["state"] for n in json.loads(lab.vireo("net", "list", "--json"))}
    return r


def service(kind, host, port, only=0, to=None, device=None):
    """A socket of this host that listens, or takes what comes; `to`: only from there, `device`: only by it."""
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    if ":" in host:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    if device:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    s.bind((host, port))
    if to:
        s.connect(to)
    elif kind == socket.SOCK_STREAM:
        s.listen()
    return s


def listened(lab):
    """Ports at which somebody listens already are published by no command, and those that are published stay so."""
    tcp, udp = socket.SOCK_STREAM, socket.SOCK_DGRAM
    there = [service(tcp, "0.0.0.0", 80), service(tcp, "192.0.2.1", 81), service(tcp, "::", 82), service(tcp, "::", 83, 1), service(udp, "::", 84),
             service(tcp, "127.0.0.1", 85), service(udp, "192.0.2.1", 86, to=("192.0.2.2", 1)),
             service(tcp, "0.0.0.0", 88, device="lo"), service(udp, "::", 88, device="lo"), service(tcp, "::", 89, device="up0")]
    create = lambda *ports: tried(lab, "net", "create", "lab", "--nat", *(word for p in ports for word in ("--publish", p + "-web:80")))
    r = {"refused": [create(p) for p in ("tcp:80", "tcp:192.0.2.1:80", "tcp:81", "tcp:82", "tcp:0.0.0.0:82", "tcp:83", "udp:84", "udp:192.0.2.1:84", "tcp:89")],
         "range": tried(lab, "net", "create", "lab", "--nat", "--publish", "tcp:8000-8010-web:8000-8010", "--publish", "tcp:70-80-web:70-80")}
    hidden = subprocess.run(["unshare", "-fp", "--mount-proc", lab.VIREO, "net", "create", "lab", "--nat", "--publish", "80-web:80"], capture_output=True,
                            text=True, timeout=30)
    r["unseen"], r["nothing"] = hidden.stderr, gone(lab)
    # Others' protocols, addresses and families; loopback, also as a device; who talks to one only.
    r["taken"] = create("udp:80", "tcp:[2001:db8::1]:80", "tcp:192.0.2.9:81", "tcp:0.0.0.0:83", "tcp:84", "tcp:85", "udp:86", "tcp:88", "udp:88")
    before = [shown(lab)["definition"], sh("nft list table inet vireo-lab")]
    r["edit"] = tried(lab, "net", "edit", "lab", "--publish", "tcp:80-web:80", "--mtu", "1400")
    r["same"] = before == [shown(lab)["definition"], sh("nft list table inet vireo-lab")]
    # A network that is down publishes nothing; whatever starts it does.
    lab.vireo("net", "delete", "lab")
    lab.vireo("net", "create", "down", "--nat", "--publish", "tcp:80-10.9.9.9:80", "--subnet", "10.9.9.0/24", "--no-start")
    r["edited"] = tried(lab, "net", "edit", "down", "--publish", "tcp:81-web:80")
    r["start"] = tried(lab, "net", "start", "down")
    try:
        lab.machine("down", "web")
    except RuntimeError as e:
        r["cable"] = str(e)
    r["down"] = shown(lab, "down")["state"]
    there.pop(1).close()
    r["free"] = tried(lab, "net", "start", "down")
    # What runs is not refused for who has come since, who is named when a machine comes.
    there.append(service(tcp, "192.0.2.1", 81))
    r["later"] = [tried(lab, "net", *args) for args in (["start", "down"], ["edit", "down", "--publish", "tcp:81-web:80", "--publish", "tcp:87-web:80"])]
    sh("nft delete table inet vireo-down; ip link set vr-down down")
    r["repaired"] = [tried(lab, "net", "edit", "down", "--mtu", "1400"), shown(lab, "down")["definition"]["publish"]]
    said = lambda m: (m.cable.kill(), m.cable.stderr.read())[1]
    r["said"] = [said(lab.machine("down", name, configure=False)) for name in ("web", "other")]
    r["more"] = tried(lab, "net", "edit", "down", "--publish", "tcp:80-81-web:80-81")
    # Servers of ours are services of the host as well.
    if which("dnsmasq"):
        lab.vireo("net", "create", "names", "--nat", "--dns", "dnsmasq")
        r["ours"] = tried(lab, "net", "create", "three", "--nat", "--publish", "udp:53-web:53")
    return {**r, "own": f"{open('/proc/self/comm').read().strip()} (process {os.getpid()})"}


def several(lab):
    """Of several networks each has its turn, whatever becomes of those before it; what runs as it is defined is left alone."""
    for name in ("a", "b", "c"):
        lab.vireo("net", "create", name, "--isolated", "--no-start")
    state = lambda: {n["name"]: n["state"] for n in json.loads(lab.vireo("net", "list", "--json"))}
    lab.vireo("net", "start", "--all")
    made = lambda: {t["table"]["name"]: t["table"]["handle"] for t in json.loads(sh("nft -j list tables"))["nftables"] if "table" in t}
    before = made()
    sh("nft add chain bridge vireo-b extra")
    lab.vireo("net", "start", "--all")
    r = {"anew": sorted({n for n, handle in made().items() if before.get(n) != handle}), "all": state(), "neither": [tried(lab, "net", "start"), tried(lab, "net", "start", "--all", "a")]}
    lab.vireo("net", "stop", "--all")
    r["stopped"] = [state(), *(tried(lab, "net", "stop", *words) for words in ([], ["--all", "a"], ["--all", "--foreign"]))]
    for command in ("start", "stop", "delete"):
        done = lab.vireo("net", command, "a", "nope", "b", "nope2", check=False)
        r[command] = [done.returncode, done.stderr.count("no network named 'nope"), state()]
    return r


def remodelled(lab):
    """To the outside's addresses and back to ones of its own."""
    sh("ip link property add dev up0 altname enp0s9alt")
    lab.vireo("net", "create", "w", "--bridged", "enp0s9alt")
    r = {"uplink": shown(lab, "w")["uplink"], "nothing": tried(lab, "net", "edit", "w"),
         "words": [tried(lab, "net", *words) for words in (["rm", "w"], ["ls"], ["destroy", "w"], ["inspect", "w"], ["creat", "w"], [""])]}
    for name, args in {"nat": ["--nat", "--subnet6", "none"], "isolated": ["--isolated"], "bridged": ["--bridged", "up0"],
                       "both": ["--routed"]}.items():
        lab.vireo("net", "edit", "w", *args)
        d = shown(lab, "w")["definition"]
        r[name] = [d["model"], "subnet" in d, "subnet6" in d, d.get("domain"), shown(lab, "w")["state"]]
    lab.vireo("net", "delete", "w")
    return {**r, "left": gone(lab)}


def hidden(lab):
    """What somebody sees who may not read definitions, or has a place of his own for them."""
    lab.vireo("net", "create", "lab", "--nat", "--no-start")
    os.chmod(lab.dir, 0o755)
    os.chmod(os.path.join(lab.dir, "networks", "lab.json"), 0)  # who leaves the name space for one of his own has its owner's number still
    user = lambda *words, **env: subprocess.run(["unshare", "-U", lab.VIREO, *(words or ("net", "list"))], capture_output=True, text=True, timeout=20,
                                        env={**{k: v for k, v in os.environ.items() if k != "VIREO_NET_DIR"}, **env})
    seen = user(VIREO_NET_DIR=lab.dir)
    r = {"state": seen.stdout.split("\n")[1].split()[2], "error": seen.stderr}
    sh("mount -t tmpfs tmpfs /etc")
    own = [user(HOME=os.path.join(lab.dir, "nobody")).stderr]
    os.makedirs("/etc/vireo/networks")
    own.append(user(HOME=os.path.join(lab.dir, "nobody")).stderr)
    own.append(user(VIREO_NET_DIR=os.path.join(lab.dir, "nobody")).stderr)
    own.append(user("net", "stop", "lab", HOME=os.path.join(lab.dir, "nobody")).stderr)
    own += [user(*words, HOME=os.path.join(lab.dir, "nobody"), XDG_RUNTIME_DIR=lab.dir).stderr
            for words in (("net", "show", "lab"), ("run", "--net", "lab"))]
    sh("umount /etc")
    lab.vireo("net", "delete", "lab")
    return {**r, "own": own}


def neighbors(lab):
    """What is another network's, also of one that is down, and what is nobody's any more."""
    lab.vireo("net", "create", "a", "--nat", "--no-start")
    r = {name: tried(lab, "net", "create", "q", "--nat", "--bridge", name) for name in ("vr-a", "vs-a")}
    lab.vireo("net", "create", "vr", "--isolated", "--bridge", "vs-b", "--no-start")
    r["vs-b"] = tried(lab, "net", "create", "b", "--nat")
    lab.vireo("net", "delete", "vr")
    # Another network a is not the one that b was to reach, whether b runs or not.
    lab.vireo("net", "start", "a")
    for name, more in (("b", []), ("c", ["--no-start"])):
        lab.vireo("net", "create", name, "--nat", "--route", "a", *more)
    filters = lambda: "vr-a" in sh("nft list table inet vireo-b")
    r["before"] = [filters(), shown(lab, "c")["definition"]["routes"]]
    r["named"] = [tried(lab, "net", "edit", "a", *args) for args in (["--isolated"], ["--bridged", "up0"], ["--routed"])]
    r["model"] = shown(lab, "a")["definition"]["model"]
    lab.vireo("net", "delete", "a")
    lab.vireo("net", "create", "a", "--nat")
    r["after"] = [filters(), *("routes" in shown(lab, name)["definition"] for name in ("b", "c"))]
    r["public"] = [lab.vireo("net", "create", f"p{n}", *args, "--no-start", check=False).stderr for n, args in
                   enumerate((["--nat", "--subnet", "8.8.8.0/24"], ["--routed", "--subnet", "9.8.8.0/24"], ["--nat", "--subnet", "100.64.7.0/24"]))]
    lab.vireo("net", "delete", "p0", "p1", "p2")
    # The last word on a list counts.
    lab.vireo("net", "edit", "c", "--host", "52:54:00:00:00:01,x,", "--host", "none", "--publish", "none", "--publish", "tcp:80-x:80")
    d = shown(lab, "c")["definition"]
    r["lists"] = ["hosts" in d, d["publish"]]
    with open(os.path.join(lab.dir, "networks", "j.json"), "w") as f:
        f.write('{"name": "j"}')
    r["empty"] = tried(lab, "net", "start", "j")
    lab.vireo("net", "delete", "a", "b", "c", "j")
    return {**r, "left": gone(lab)}


def imported(lab):
    """libvirt's XML: what is said, and that only a bridge of the host is taken for one."""
    def imports(name, text, *args):
        with open(os.path.join(lab.dir, name), "w") as f:
            f.write(text)
        r = lab.vireo("net", "import", *args, os.path.join(lab.dir, name), check=False)
        return [r.returncode, r.stderr.replace(lab.dir + "/", "")]

    bridge = "<network><name>lan</name><forward mode='bridge'/><bridge name='%s'/></network>"
    default = """<network><name>default</name><uuid>9a05da11-e96b-47f3-8253-a3a482e445f5</uuid><forward mode='nat'/>
        <ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip></network>"""
    r = {"default": imports("default", default), "twice": imports("default", default), "card": imports("card", bridge % "up0"),
         "none": imports("none", bridge % "nope0"), "later": imports("later", bridge % "nope0", "--no-start", "--name", "later")}
    sh("ip link add br9 type bridge")
    r["bridge"] = imports("bridge", bridge % "br9")
    r["list"] = {n["name"]: [n["model"], n["state"], n.get("subnet")] for n in json.loads(lab.vireo("net", "list", "--json"))}
    lab.vireo("net", "delete", "lan", "later", "default")
    sh("ip link del br9")
    return {**r, "left": gone(lab)}


def interfaces(lab):
    """Interfaces that others take, rename and remove."""
    sh("ip link add vs-lab type bridge")
    r = {"taken": tried(lab, "net", "create", "lab", "--isolated"), "links": lab.left()["links"], "tables": lab.left()["tables"]}
    sh("ip link del vs-lab; ip link add gone0 type veth peer name gone1")
    has = lambda link: sorted(a["local"] for l in json.loads(sh(f"ip -j addr show dev {link} scope global")) for a in l.get("addr_info", []) if "local" in a)
    lab.vireo("net", "create", "lab", "--bridged", "up0")
    lab.vireo("net", "create", "two", "--bridged", "gone0")
    sh("ip link set up0 down; ip link set up0 name e9; ip link set e9 up; ip link del gone0")
    r["renamed"] = lab.vireo("net", "delete", "lab", check=False).returncode
    r["kept"] = has("e9")
    gone0 = lab.vireo("net", "delete", "two", check=False)
    r["gone"] = [gone0.returncode, gone0.stderr]
    sh("ip link set e9 down; ip link set e9 name up0; ip link set up0 up")
    r["left"] = gone(lab)
    return r


if __name__ == "__main__":
    lanlab.play(globals())
