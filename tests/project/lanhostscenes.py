"""What a network does to its host and to what others have there, in a lab (lanlab.py): scenarios for test_lan_host.py."""
import json
import os
import subprocess
import sys

from lanlab import Lab, sh
from lanscenes import gone, routes_to, servers, shown


def jailed(lab):
    """What the process of the servers is and sees."""
    lab.vireo("net", "create", "lab", "--nat")
    pid, = servers(lab)
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)
    found = {"uid": status["Uid"].split(), "gid": status["Gid"].split(), "groups": status["Groups"].split(),
             "capabilities": status["CapPrm"], "root": os.listdir(f"/proc/{pid}/root/"),
             "leases": os.stat(f"/proc/{pid}/root/leases").st_uid,
             "mounts": open(f"/proc/{pid}/mountinfo").read().count("\n"),
             "own": os.stat(os.path.join(lab.dir, "run", "lab")).st_uid}
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


def resolver(lab):
    """Who is answered by dnsmasq at the gateway's address, which the outside has a way to."""
    lab.vireo("net", "create", "lab", "--nat", "--dns", "dnsmasq", "--subnet", "198.51.100.0/24", "--subnet6", "2001:db8:9::/64")
    a = lab.machine("lab", "a")
    routes_to(lab, lab.outside, shown(lab))
    found = {to: answers((a, lab.host, lab.outside), to) for to in ("198.51.100.1", "2001:db8:9::1")}
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


if __name__ == "__main__":
    lab = Lab()
    try:
        print(json.dumps(globals()[sys.argv[1]](lab, *sys.argv[2:])))
    finally:
        lab.end()
