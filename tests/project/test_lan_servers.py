"""The servers of a network with other people's clients, in network name spaces of their own."""
import os
import re
import shutil
import signal
import time

import pytest

from lan_net import Net, absent, discover, gone, raw_socket

ALPHA = "52:54:00:77:00:01"
KNOWN = f"host={ALPHA},alpha,10.77.0.50,fd77::50"


@pytest.fixture
def net(tmp_path):
    why = absent()
    if why:
        pytest.skip(why)
    nets = []

    def make(*more, **keys):
        nets.append(Net(tmp_path, **keys))
        nets[-1].serve(*more)
        return nets[-1]

    yield make
    for n in nets:
        n.close()


def need(tool):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")


def until(what, seconds=8):
    end = time.monotonic() + seconds
    while not (got := what()):
        assert time.monotonic() < end, what
        time.sleep(0.02)
    return got


def dhclient(net, machine, *more):
    lf, pf = f"{net.dir}/dh.leases", f"{net.dir}/dh.pid"
    if not os.path.exists(lf):
        open(lf, "w").close()
    script = net.dir / "script"
    script.write_text("#!/bin/sh\n[ -z \"$new_ip_address\" ] || ip addr replace $new_ip_address/24 dev eth0\n")
    script.chmod(0o755)
    machine.run(["dhclient", "-v", *more, "-lf", lf, "-pf", pf, "-sf", str(script), "eth0"])
    with open(lf) as f:
        return f.read()


def udhcpc(machine, *more):
    r = machine.run(["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true", "-t", "3", "-T", "1", *more],
                    check=False)
    return re.findall(r"lease of (\S+) obtained from (\S+), lease time (\d+)", r.stderr), r.stderr


def test_dhclient_v4(net):
    need("dhclient")
    n = net(KNOWN, dns="off")
    alpha, other = n.machine(ALPHA), n.machine()
    text = dhclient(n, alpha, "-1")
    for line in ("fixed-address 10.77.0.50;", "option subnet-mask 255.255.255.0;", "option routers 10.77.0.1;",
                 "option dhcp-lease-time 3600;", "option dhcp-server-identifier 10.77.0.2;", 'option host-name "alpha";',
                 'option domain-name "lab.internal";', 'option domain-search "lab.internal.";', "option interface-mtu 1400;",
                 "option broadcast-address 10.77.0.255;"):
        assert line in text
    assert n.leases()[ALPHA]["known"] and n.leases()[ALPHA]["expires"] > time.time()
    # Given back, it is kept for it.
    dhclient(n, alpha, "-r")
    until(lambda: n.leases()[ALPHA]["expires"] == 0)
    dhclient(n, other, "-1")
    lease = n.leases()[other.mac]
    assert re.fullmatch(r"10\.77\.0\.1\d\d", lease["address"]) and not lease["known"]
    dhclient(n, other, "-r")
    until(lambda: other.mac not in n.leases())
    assert n.log() == ""


def test_dhclient_v6(net):
    need("dhclient")
    n = net(KNOWN, dns="off")
    alpha, other = n.machine(ALPHA), n.machine()
    text = dhclient(n, alpha, "-6", "-1")
    assert "iaaddr fd77::50 {" in text and 'option dhcp6.domain-search "lab.internal.";' in text
    dhclient(n, alpha, "-6", "-r")
    until(lambda: n.leases(6)[ALPHA]["expires"] == 0)
    dhclient(n, other, "-6", "-1")
    assert re.fullmatch(r"fd77::1[0-9a-f]{3}", n.leases(6)[other.mac]["address"])
    dhclient(n, other, "-6", "-r")
    until(lambda: other.mac not in n.leases(6))


def test_udhcpc(net):
    need("busybox")
    n = net(KNOWN, dns="off")
    alpha, other = n.machine(ALPHA), n.machine()
    assert udhcpc(alpha)[0] == [("10.77.0.50", "10.77.0.2", "3600")]
    # It may wish for an address, and may say its name.
    assert udhcpc(other, "-r", "10.77.0.142", "-x", "hostname:Web_1.example.org", "-B")[0][0][0] == "10.77.0.142"
    assert n.leases()[other.mac]["name"] == "web-1"
    # Another cannot have it, and gets its own.
    third = n.machine()
    assert udhcpc(third, "-r", "10.77.0.142")[0][0][0] not in ("10.77.0.142", "10.77.0.50")


def test_networkd(net):
    networkd = "/lib/systemd/systemd-networkd"
    if not os.path.exists(networkd):
        pytest.skip("systemd-networkd is not installed")
    n = net(KNOWN, dns="off")
    m = n.machine(ALPHA)
    conf = n.dir / "eth0.network"
    conf.write_text("[Match]\nName=eth0\n[Network]\nDHCP=yes\n")
    m.run(["sh", "-c", "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/network /run/systemd/netif/links "
           f"/run/systemd/netif/leases && cp {conf} /run/systemd/network/ && mount -t sysfs -o ro sysfs /sys"])
    with open(n.dir / "networkd.log", "w") as log:
        m.start([networkd], stdout=log, stderr=log)
    until(lambda: "fd77::50" in m.run("ip -6 addr show dev eth0").stdout)
    until(lambda: "10.77.0.50/24" in m.run("ip -4 addr show dev eth0").stdout)
    assert "default via 10.77.0.1 " in m.run("ip route").stdout
    assert "default via fe80::1 " in m.run("ip -6 route").stdout
    assert n.leases()[ALPHA]["expires"] and n.leases(6)[ALPHA]["expires"]
    assert n.ask("stats")["router-solicitations"]


def test_the_kernel_and_advertisements(net):
    """With SLAAC and without DHCPv6, and the end of a router."""
    n = net(dhcp6="off", dns="off")
    m = n.machine()
    until(lambda: "fd77::" in m.run("ip -6 addr show dev eth0").stdout)
    route = until(lambda: m.run("ip -6 route show default").stdout)
    assert "via fe80::1" in route and "mtu 1400" in route
    m.run("ping -c 1 -W 2 fe80::1%eth0") if shutil.which("ping") else None
    n.kill(signal.SIGTERM)
    until(lambda: not m.run("ip -6 route show default").stdout)


def test_kill_and_start_again(net):
    """Leases outlive the process; what its file claims beyond that does not count."""
    need("busybox")
    n = net(KNOWN, dns="off")
    m = n.machine()
    address = udhcpc(m)[0][0][0]
    until(lambda: address in open(n.dir / "leases").read())
    n.kill()
    with open(n.dir / "leases", "a") as f:
        f.write(f"4 52:54:00:77:00:66 10.77.0.50 {int(time.time()) + 3600} thief -\n"
                f"4 52:54:00:77:00:66 10.99.0.50 {int(time.time()) + 3600} - -\n6 lies\n\0\xff\n4 ")
    n.serve(KNOWN)
    assert n.leases()[m.mac]["address"] == address
    assert set(n.leases()) == {m.mac, ALPHA}
    assert "5 lines of its leases are wrong" in n.log()


def test_known_machines_change(net):
    need("busybox")
    n = net(dns="off")
    m = n.machine()
    first = udhcpc(m)[0][0][0]
    assert n.ask("hosts", hosts=[{"mac": m.mac, "name": "beta", "address4": "10.77.0.60"}]) == {}
    assert udhcpc(m, "-r", first)[0][0][0] == "10.77.0.60"
    assert n.leases()[m.mac]["name"] == "beta"
    for hosts, why in (([{"mac": "x"}], "'x' is no MAC"),
                       ([{"mac": m.mac, "address4": "10.78.0.1"}], "it is not of this network"),
                       ([{"mac": m.mac, "address4": "10.77.0.1"}], "the network's own"),
                       ([{"mac": m.mac, "name": "a"}, {"mac": "52:54:00:77:00:99", "name": "A"}], "the same name"),
                       ([{"mac": m.mac}, {"mac": m.mac}], "the same MAC"),
                       ([{"mac": m.mac, "name": "no good"}], "no name for a machine")):
        with pytest.raises(ValueError, match=why):
            n.ask("hosts", hosts=hosts)
    assert n.leases()[m.mac]["address"] == "10.77.0.60"
    with pytest.raises(ValueError, match="none of leases, stats, hosts, stop"):
        n.ask("nonsense")
    n.ask("stop")
    until(lambda: gone(n.pid))


def memory(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1))


def storm(net, macs, count):
    """How long another machine waits for its addresses meanwhile, and what memory the servers need for it."""
    n = net(KNOWN, dns="off")
    alpha, evil = n.machine(ALPHA), n.machine()
    assert udhcpc(alpha)[0]
    s, before = raw_socket(evil), memory(n.pid)
    for k in range(count):
        s.send(discover(f"0200{k % macs:08x}", k))
    start = time.monotonic()
    assert udhcpc(alpha)[0] == [("10.77.0.50", "10.77.0.2", "3600")]
    assert time.monotonic() - start < 2
    assert memory(n.pid) - before < 1024
    return n.ask("stats")


def test_a_storm_of_one_machine(net):
    """The kernel does not even give them to the process."""
    s = storm(net, 1, 5000)
    assert s["muted"] and s["frames"] < 2000 and not s["dropped"]
    assert s["leases4"]["bound"] + s["leases4"]["offered"] <= 5


def test_a_storm_of_many_machines(net):
    s = storm(net, 5000, 5000)
    assert s["limited"] > 3000 or s["dropped"] > 3000
    assert s["leases4"]["bound"] + s["leases4"]["offered"] <= 101


def test_the_process_has_nothing(net):
    n = net(dns="off")
    status = open(f"/proc/{n.pid}/status").read()
    assert re.search(r"Uid:\t65534\t65534\t65534\t65534\n", status) and re.search(r"Gid:\t65534\t65534", status)
    assert re.search(r"CapPrm:\t0+\nCapEff:\t0+\n", status) and "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status
    assert os.readlink(f"/proc/{n.pid}/ns/net") != os.readlink(f"/proc/{n.host.pid}/ns/net")
    assert os.listdir(f"/proc/{n.pid}/root/") == ["leases"]
    # It forwards nothing, and nothing of the host's is open but the leases' directory and the log.
    files = [os.readlink(f"/proc/{n.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{n.pid}/fd")]
    assert sorted(f for f in files if f.startswith("/")) == sorted(["/dev/null"] * 3 + ["/leases", f"{n.dir}/log"])
    assert os.path.samefile(f"/proc/{n.pid}/root/leases", n.dir)


@pytest.mark.parametrize("keys,why", [
    ({"ifname": "nosuch"}, "ip link set nosuch"),
    ({"mac": "01:00:00:00:00:01"}, "the MAC of srv0"),
    ({"domain": "a..b"}, "'a..b' is no domain"),
    ({"first4": "10.78.0.1", "last4": "10.78.0.9"}, "not of the network"),
    ({"first4": "10.77.0.9", "last4": "10.77.0.8"}, "its end must not lie before its beginning"),
    ({"lease_path": "/no/such/dir/leases"}, "/no/such/dir"),
    ({"control_path": "/no/such/dir/control"}, "/no/such/dir/control"),
])
def test_errors_at_the_start(net, keys, why):
    with pytest.raises(AssertionError, match=re.escape(why)):
        net(dns="off", **keys)
