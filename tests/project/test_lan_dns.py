"""The name server of a network: its machines, the cache, and other name servers that lie, are slow or absent."""
import os
import re
import shutil
import socket
import struct
import threading
import time

import pytest

from lan_net import Net, absent, gone

ALPHA = "52:54:00:77:00:01"
KNOWN = f"host={ALPHA},alpha,10.77.0.50,fd77::50"
A, NS, SOA, PTR, TXT, AAAA, OPT, DS, HTTPS = 1, 2, 6, 12, 16, 28, 41, 43, 65


def labels(name):
    return b"".join(bytes([len(x)]) + x.encode() for x in name.split(".") if x) + b"\0"


def query(name, kind=A, ident=0x1234, flags=0x100, edns=None):
    m = struct.pack(">6H", ident, flags, 1, 0, 0, 1 if edns else 0) + labels(name) + struct.pack(">2H", kind, 1)
    return m + (b"\0" + struct.pack(">2HIH", OPT, edns, 0, 0) if edns else b"")


def record(kind, data, ttl=300, name=b"\xc0\x0c"):
    return name + struct.pack(">2HIH", kind, 1, ttl, len(data)) + data


def reverse(address):
    return ".".join(reversed(socket.inet_pton(socket.AF_INET6, address).hex())) + ".ip6.arpa"


def service(*parts):
    """A record of a service at its own name, with these parameters."""
    return b"\0\1\0" + b"".join(struct.pack(">2H", key, len(data)) + data for key, data in parts)


def rcode(m):
    return m[3] & 15


class Upstream:
    """Somebody else's name server, in the host's name space: `answers[name](question, by TCP)` is a list of messages."""

    def __init__(self, space, address="127.0.0.1", port=5353):
        def sockets():
            u, t = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
            t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            u.bind((address, port))
            t.bind((address, port))
            t.listen(8)
            return u, t

        self.answers, self.asked = {}, []
        self.udp, self.tcp = space.enter(sockets)
        for target in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=target, daemon=True).start()

    def reply(self, m, tcp):
        name = self.name(m)
        return self.answers.get(name.lower(), lambda q, tcp: [])(m, tcp)

    @staticmethod
    def name(m):
        at, out = 12, []
        while m[at]:
            out.append(m[at + 1:at + 1 + m[at]].decode("latin1"))
            at += 1 + m[at]
        return ".".join(out)

    def serve_udp(self):
        while True:
            try:
                m, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            self.asked.append((self.name(m), m[:2], peer[1], "udp"))
            for answer in self.reply(m, False):
                self.udp.sendto(answer, peer)

    def serve_tcp(self):
        while True:
            try:
                c, peer = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.serve_connection, args=(c, peer), daemon=True).start()

    def serve_connection(self, c, peer):
        m = c.recv(4096)[2:]
        self.asked.append((self.name(m), m[:2], peer[1], "tcp"))
        for answer in self.reply(m, True):
            c.sendall(struct.pack(">H", len(answer)) + answer)
        c.close()

    def close(self):
        if self.udp.fileno() < 0:
            return
        self.udp.close()
        self.tcp.shutdown(socket.SHUT_RDWR)
        self.tcp.close()


def answer(q, *records, flags=0x8180, authority=(), question=None, ident=None):
    """An answer to the question `q`, with the OPT that it has."""
    end = 12
    while q[end]:
        end += 1 + q[end]
    body = question or q[12:end + 5]
    opt = b"\0" + struct.pack(">2HIH", OPT, 1232, 0, 0)
    return (ident or q[:2]) + struct.pack(">5H", flags, 1, len(records), len(authority), 1) + body + b"".join(records) + \
        b"".join(authority) + opt


class Client:
    def __init__(self, machine, address="10.77.0.50/24", server="10.77.0.2"):
        machine.run(f"ip addr add {address} dev eth0")
        self.machine = machine
        self.udp = machine.enter(lambda: socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM))
        self.udp.connect((server, 53))
        self.udp.settimeout(8)

    def ask(self, name, kind=A, **kw):
        self.udp.send(query(name, kind, **kw))
        return self.udp.recv(4096)

    def tcp(self):
        t = self.machine.enter(lambda: socket.socket())
        t.settimeout(8)
        t.connect(("10.77.0.2", 53))
        return t

    @staticmethod
    def read(t):
        """One message; b"" at the end."""
        def all_of(n):
            # Where there is a time limit, MSG_WAITALL does not wait.
            got = b""
            while len(got) < n and (more := t.recv(n - len(got))):
                got += more
            return got
        m = all_of(2)
        return all_of(struct.unpack(">H", m)[0]) if len(m) == 2 else b""


@pytest.fixture
def lab(tmp_path):
    """(net, client, upstream) with the servers on; without `forward` there is no upstream."""
    why = absent()
    if why:
        pytest.skip(why)
    made = []

    def make(*more, **keys):
        n = Net(tmp_path, **keys)
        made.append(n)
        up = Upstream(n.host) if keys.get("forward") == "on" else None
        if up:
            made.append(up)
            more = (*more, "forwarder=127.0.0.1#5353")
        n.serve(KNOWN, *more)
        return n, Client(n.machine(ALPHA)), up

    yield make
    for m in reversed(made):
        m.close()


def test_names_of_machines(lab):
    n, c, _ = lab()
    alpha4, alpha6 = bytes([10, 77, 0, 50]), socket.inet_pton(socket.AF_INET6, "fd77::50")
    for name in ("alpha", "alpha.lab.internal", "ALPHA.Lab.Internal"):
        m = c.ask(name)
        assert rcode(m) == 0 and m.endswith(record(A, alpha4, 10)) and m[2] & 4  # AA
        assert labels(name) in m
        assert c.ask(name, AAAA).endswith(record(AAAA, alpha6, 10))
        assert rcode(c.ask(name, TXT)) == 0
    for name in ("50.0.77.10.in-addr.arpa", reverse("fd77::50")):
        assert c.ask(name, PTR).endswith(record(PTR, labels("alpha.lab.internal"), 10))
    assert c.ask("gateway.lab.internal").endswith(record(A, bytes([10, 77, 0, 1]), 10))
    assert c.ask("gateway", AAAA).endswith(record(AAAA, socket.inet_pton(socket.AF_INET6, "fd77::1"), 10))
    for name in ("1.0.77.10.in-addr.arpa", reverse("fd77::1")):
        assert c.ask(name, PTR).endswith(record(PTR, labels("gateway.lab.internal"), 10))
    assert c.ask("localhost").endswith(record(A, bytes([127, 0, 0, 1]), 10))
    # What does not exist here exists nowhere, and says how long.
    for name, kind in (("beta.lab.internal", A), ("x.alpha.lab.internal", A), ("51.0.77.10.in-addr.arpa", PTR),
                       ("x.invalid", A)):
        m = c.ask(name, kind)
        assert rcode(m) == 3 and b"\3dns\3lab\x08internal" in m
    assert rcode(c.ask("beta")) == 3
    # The zones that deny are there, and their server is one.
    numbers = struct.pack(">5I", 1, 3600, 1200, 604800, 10)
    for name in ("lab.internal", "0.77.10.in-addr.arpa", reverse("fd77::")[32:]):
        assert c.ask(name, SOA).endswith(record(SOA, labels("dns.lab.internal") + labels("nobody.invalid") + numbers, 10)), name
        assert c.ask(name, NS).endswith(record(NS, labels("dns.lab.internal"), 10)), name
    assert c.ask("dns.lab.internal").endswith(record(A, bytes([10, 77, 0, 2]), 10))
    assert c.ask("dns.lab.internal", AAAA).endswith(record(AAAA, socket.inet_pton(socket.AF_INET6, "fd77::2"), 10))
    assert c.ask("2.0.77.10.in-addr.arpa", PTR).endswith(record(PTR, labels("dns.lab.internal"), 10))
    # The rest of the world is not here.
    for name in ("example.org", "50.0.78.10.in-addr.arpa", "com"):
        assert rcode(c.ask(name, NS)) == 5
    # Who has an address has a name.
    n.ask("hosts", hosts=[{"mac": ALPHA, "name": "beta", "address4": "10.77.0.50"}])
    assert rcode(c.ask("alpha")) == 3 and rcode(c.ask("beta.lab.internal")) == 0
    # Also as this server: then that has a name that nobody can have.
    n.ask("hosts", hosts=[{"mac": ALPHA, "name": "dns", "address4": "10.77.0.50"}])
    assert c.ask("dns.lab.internal").endswith(record(A, alpha4, 10))
    assert c.ask("lab.internal", NS).endswith(record(NS, labels("_dns.lab.internal"), 10))
    assert c.ask("_dns.lab.internal").endswith(record(A, bytes([10, 77, 0, 2]), 10))
    assert c.ask("2.0.77.10.in-addr.arpa", PTR).endswith(record(PTR, labels("_dns.lab.internal"), 10))
    assert c.ask("50.0.77.10.in-addr.arpa", PTR).endswith(record(PTR, labels("dns.lab.internal"), 10))
    n.ask("hosts", hosts=[{"mac": ALPHA, "name": "ns", "address4": "10.77.0.50"}])
    assert c.ask("ns.lab.internal").endswith(record(A, alpha4, 10))
    assert c.ask("lab.internal", NS).endswith(record(NS, labels("dns.lab.internal"), 10))


def test_the_gateway_without_ipv4(tmp_path):
    why = absent()
    if why:
        pytest.skip(why)
    n = Net(tmp_path, addr4=None, prefix4=None, gateway4=None, first4=None, last4=None, dhcp4="off")
    try:
        n.serve()
        c = Client(n.machine(ALPHA), "fd77::50/64", "fd77::2")
        assert c.ask("gateway.lab.internal", AAAA).endswith(record(AAAA, socket.inet_pton(socket.AF_INET6, "fd77::1"), 10))
        assert rcode(c.ask("gateway")) == 0
    finally:
        n.close()


def test_servers_of_the_host(tmp_path):
    """Those of the host's resolv.conf, which the process cannot see, as it is by and by."""
    why = absent()
    if why:
        pytest.skip(why)
    n = Net(tmp_path, forward="on")
    etc = n.dir / "etc"
    etc.mkdir()
    first, second = Upstream(n.host, port=53), Upstream(n.host, "127.0.0.2", 53)

    def say(server):
        (n.dir / "etc/new").write_text(f"search x\nnameserver {server}\n")
        os.rename(n.dir / "etc/new", n.dir / "etc/resolv.conf")

    try:
        say("127.0.0.1")
        n.host.run(f"mount --bind {etc} /etc")
        n.serve(KNOWN)
        c = Client(n.machine(ALPHA))
        first.answers["a.example"] = lambda q, tcp: [answer(q, record(A, bytes([192, 0, 2, 1])))]
        second.answers["b.example"] = lambda q, tcp: [answer(q, record(A, bytes([192, 0, 2, 2])))]
        assert c.ask("a.example").find(bytes([192, 0, 2, 1])) > 0
        say("127.0.0.2")
        assert c.ask("b.example").find(bytes([192, 0, 2, 2])) > 0
        children = open(f"/proc/{n.pid}/task/{n.pid}/children").read().split()
        status = open(f"/proc/{children[0]}/status").read()
        assert open(f"/proc/{children[0]}/cmdline").read().rstrip("\0") == "vireo-resolv"
        assert len(children) == 1 and "Seccomp:\t2" in status and "Uid:\t65534\t" in status
        n.kill()
        end = time.monotonic() + 2
        while not gone(int(children[0])):
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        for x in (first, second, n):
            x.close()


def test_dig(lab):
    if not shutil.which("dig"):
        pytest.skip("dig is not installed")
    n, c, up = lab(forward="on")
    up.answers["www.example"] = lambda q, tcp: [answer(q, record(A, bytes([192, 0, 2, 1])))]
    c.machine.run("ip addr add fd77::50/64 dev eth0 nodad")

    def dig(*words):
        return c.machine.run(["dig", "+tries=1", "+time=3", *words]).stdout

    for server in ("@10.77.0.2", "@fd77::2"):
        for how in ("+notcp", "+tcp"):
            text = dig(server, how, "alpha.lab.internal")
            assert re.search(r"^alpha\.lab\.internal\.\s+10\s+IN\s+A\s+10\.77\.0\.50$", text, re.M) and "WARNING" not in text
            text = dig(server, how, "www.example")
            assert re.search(r"^www\.example\.\s+\d+\s+IN\s+A\s+192\.0\.2\.1$", text, re.M) and "flags: qr rd ra;" in text
    assert dig("@fd77::2", "-x", "10.77.0.50", "+short") == "alpha.lab.internal.\n"
    assert "status: BADVERS" in dig("@10.77.0.2", "+edns=5", "+noednsneg", "alpha")
    assert "status: NOTIMP" in dig("@10.77.0.2", "+opcode=2", "alpha")
    assert "status: REFUSED" in dig("@10.77.0.2", "-c", "CH", "-t", "TXT", "version.bind")


def test_forwarded_and_cached(lab):
    n, c, up = lab(forward="on")
    soa = record(SOA, labels("ns.example") + b"\0" + struct.pack(">5I", 1, 2, 3, 4, 60), 900, labels("example"))
    up.answers["www.example"] = lambda q, tcp: [answer(q, record(A, bytes([192, 0, 2, 1]), 300))]
    up.answers["no.example"] = lambda q, tcp: [answer(q, flags=0x8183, authority=(soa,))]
    for _ in range(2):
        m = c.ask("wWw.example")
        assert rcode(m) == 0 and labels("wWw.example") in m and bytes([192, 0, 2, 1]) in m
        assert m[3] & 0x80 and not m[2] & 4 and m[10:12] == b"\0\0"  # RA, no AA; it had no OPT
        assert c.ask("www.example", edns=1232)[10:12] == b"\0\1"
        m = c.ask("no.example")
        assert rcode(m) == 3
    assert [x[0].lower() for x in up.asked] == ["www.example", "no.example"]
    # Ports and numbers are new for each question, and the case is rolled.
    for k in range(16):
        up.answers[f"aaaaaaaaaaaaaaaa{k:x}.example"] = up.answers["www.example"]
        c.ask(f"aaaaaaaaaaaaaaaa{k:x}.example")
    assert len({x[1] for x in up.asked}) > 16 and len({x[2] for x in up.asked}) > 16
    assert len({x[0][:16] for x in up.asked[2:]}) == 16
    # Time goes by in the cache.
    time.sleep(1.1)
    m = c.ask("www.example")
    assert 290 < struct.unpack(">I", m[-10:-6])[0] < 300
    # Not recursive: only what is here.
    assert rcode(c.ask("www.example", flags=0)) == 0 and rcode(c.ask("other.example", flags=0)) == 5
    assert n.ask("stats")["dns"]["cached"] >= 5


def test_answers_that_lie(lab):
    """They are as if they had never come: the right one that follows counts."""
    n, c, up = lab(forward="on")
    good, bad = record(A, bytes([192, 0, 2, 1])), record(A, bytes([6, 6, 6, 6]))
    lies = {
        "number": lambda q: answer(q, bad, ident=bytes([q[0] ^ 1, q[1]])),
        "question": lambda q: answer(q, bad, question=labels("other.example") + b"\0\1\0\1"),
        "type": lambda q: answer(q, bad, question=q[12:q.index(b"\0", 12) + 1] + b"\0\x1c\0\1"),
        "noanswer": lambda q: answer(q, bad, flags=0x100),
        "loop": lambda q: answer(q, record(A, bytes(4), name=b"\xc0" + bytes([12 + len(labels(Upstream.name(q))) + 4]))),
        "beyond": lambda q: answer(q, record(A, bytes(4), name=b"\xff\xff")),
        "counts": lambda q: q[:2] + b"\x81\x80\0\1\xff\xff\0\0\0\0" + answer(q, bad)[12:],
        "cut": lambda q: answer(q, bad)[:-15],
        "runt": lambda q: b"\0",
    }
    for name, lie in lies.items():
        up.answers[f"{name}.example"] = lambda q, tcp, lie=lie: [lie(q), answer(q, good)]
        m = c.ask(f"{name}.example")
        assert bytes([192, 0, 2, 1]) in m and bytes([6, 6, 6, 6]) not in m, name
    assert n.ask("stats")["dns"]["mismatched"] == len(lies)
    # Many of them: it asks by TCP.
    up.answers["storm.example"] = lambda q, tcp: [answer(q, good)] if tcp else [lies["number"](q)] * 20
    assert bytes([192, 0, 2, 1]) in c.ask("storm.example")
    assert up.asked[-1][3] == "tcp"


def test_answers_that_lead_inside(lab):
    """Nobody else has addresses of the network: names of elsewhere do not lead to it, where it is so."""
    n, c, up = lab("alone=on", forward="on")
    inside = {"own": record(A, bytes([10, 77, 0, 1])), "six": record(AAAA, socket.inet_pton(socket.AF_INET6, "fd77::50")),
              "mapped": record(AAAA, socket.inet_pton(socket.AF_INET6, "::ffff:10.77.0.9")),
              "hint4": record(HTTPS, service((1, b"\2h2"), (4, bytes([192, 0, 2, 1, 10, 77, 0, 9])))),
              "hint6": record(HTTPS, service((6, socket.inet_pton(socket.AF_INET6, "fd77::9"))))}
    outside = {"other": record(A, bytes([10, 78, 0, 1])), "hint": record(HTTPS, service((4, bytes([192, 0, 2, 1])))),
               "hint cut": record(HTTPS, service((4, bytes([192, 0, 2, 1])))[:-3]), "no hint": record(HTTPS, b"\0\1\77a"),
               "key": record(HTTPS, service((7, bytes([10, 77, 0, 9]))))}
    for name, r in {**inside, **outside}.items():
        up.answers[f"{name}.example"] = lambda q, tcp, r=r: [answer(q, record(5, labels("x.example")), r)]
        assert rcode(c.ask(f"{name}.example")) == (0 if name in outside else 5), name
    assert n.ask("stats")["dns"]["refused"] == len(inside)


def test_names_that_are_ours_alone(lab):
    """Whatever bytes are in them. But a machine that calls itself as a top-level domain is not one."""
    n, c, up = lab(forward="on")
    for name in ("*.lab.internal", "a b.lab.internal", "a\0.alpha.lab.internal"):
        assert rcode(c.ask(name)) == 3, name
    assert not up.asked
    m = n.machine()
    assert "obtained" in m.run("busybox udhcpc -i eth0 -n -q -f -t 5 -T 1 -x hostname:com -s /bin/true", check=False).stderr
    up.answers["com"] = lambda q, tcp: [answer(q, record(NS, labels("a.example")))]
    assert c.ask("com")[-4:-1] == bytes([10, 77, 0]) and not up.asked
    for kind in (NS, SOA, DS, 48):
        assert labels("a.example") in c.ask("com", kind), kind


def test_who_asks_most_gives_way(lab):
    n, c, up = lab(forward="on")
    other = Client(n.machine(), "10.77.0.51/24")
    good = record(A, bytes([192, 0, 2, 1]))
    # One name that is answered late, and all who wait for it.
    up.answers["late.example"] = lambda q, tcp: [answer(q, good)] if len(up.asked) > 1 else []
    for ident in range(32):
        c.udp.send(query("late.example", ident=ident))
    assert rcode(other.ask("late.example")) == 0
    codes = [rcode(c.udp.recv(4096)) for _ in range(32)]
    assert codes.count(0) == 23 and codes.count(2) == 9  # the rest has no room at once
    # Answers that take all connections to other servers, and never end.
    def hang(q, tcp):
        if tcp:
            time.sleep(8)
        return [] if tcp else [answer(q, flags=0x8380)]
    for k in range(10):
        up.answers[f"hang{k}.example"] = hang
        c.udp.send(query(f"hang{k}.example", ident=k))
    end = time.monotonic() + 5
    while len([x for x in up.asked if x[3] == "tcp"]) < 8:
        assert time.monotonic() < end
        time.sleep(0.01)
    up.answers["big.example"] = lambda q, tcp: [answer(q, *[record(TXT, b"\xc8" + b"x" * 200)] * 8) if tcp else answer(q, flags=0x8380)]
    m = other.ask("big.example", TXT)
    assert rcode(m) == 0 and m[2] & 2  # it asks by TCP now
    assert n.ask("stats")["dns"]["failed"] >= 1


def test_a_server_without_edns(lab):
    n, c, up = lab(forward="on")
    good = record(A, bytes([192, 0, 2, 1]), 0)

    def ask(name):
        """The answer, where the host was not so busy that the question was sent anew."""
        for _ in range(9):
            late = n.ask("stats")["dns"]["timeouts"]
            up.asked.clear()
            m = c.ask(name)
            if n.ask("stats")["dns"]["timeouts"] == late:
                break
        return m

    def error(code):
        """With the question."""
        return lambda q: [q[:2] + bytes([0x81, 0x80 | code]) + b"\0\1" + bytes(6) + q[12:q.index(b"\0", 12) + 5]]

    def bare(code):
        return lambda q: [q[:2] + bytes([0x81, 0x80 | code]) + bytes(8)]

    for k, complain in enumerate((error(1), error(4), bare(1), bare(4), bare(2))):
        name = f"abcdefghijklmnopqrstuvwxyz{k}.example"
        up.answers[name] = lambda q, tcp, complain=complain: complain(q) if q[11] else [answer(q, good)]
        assert bytes([192, 0, 2, 1]) in ask(name), k
        # As hard to guess as the first one.
        assert len(up.asked) == 2 and up.asked[0][1:3] != up.asked[1][1:3] and name not in (up.asked[0][0], up.asked[1][0]), (k, up.asked)
    # By TCP.
    up.answers["tcp.example"] = lambda q, tcp: [answer(q, flags=0x8380)] if not tcp else bare(1)(q) if q[11] else [answer(q, good)]
    assert bytes([192, 0, 2, 1]) in ask("tcp.example")
    # It says so whatever it is asked: once without.
    up.answers["never.example"] = lambda q, tcp: error(1)(q)
    assert rcode(ask("never.example")) == 1 and len(up.asked) == 2
    # It was not the server who spoke, or not of EDNS.
    other = n.host.enter(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    other.bind(("127.0.0.1", 0))

    def from_another_port(q):
        other.sendto(bare(1)(q)[0], ("127.0.0.1", up.asked[-1][2]))
        return b""

    for lie in (lambda q: bytes([q[0] ^ 1]) + bare(1)(q)[0][1:], lambda q: bare(5)(q)[0], lambda q: bare(0)(q)[0], from_another_port):
        up.answers["lie.example"] = lambda q, tcp: [lie(q), answer(q, good)] if q[11] else []
        assert bytes([192, 0, 2, 1]) in ask("lie.example") and len(up.asked) == 1
    other.close()


def test_large_answers(lab):
    n, c, up = lab(forward="on")
    big = [record(TXT, b"\xc8" + b"x" * 200) for _ in range(100)]
    up.answers["big.example"] = lambda q, tcp: [answer(q, *big) if tcp else answer(q, flags=0x8380)]
    up.answers["middle.example"] = lambda q, tcp: [answer(q, *big[:4])]
    m = c.ask("big.example", TXT, edns=4096)
    assert m[2] & 2 and len(m) < 100  # TC
    t = c.tcp()
    for _ in range(2):
        t.sendall(b"".join(struct.pack(">H", len(q)) + q for q in (query("big.example", TXT), query("alpha"))))
        assert len(c.read(t)) > 20000
        assert rcode(c.read(t)) == 0
    m = c.ask("middle.example", TXT)
    assert m[2] & 2
    assert len(c.ask("middle.example", TXT, edns=1232)) > 800


def test_a_server_that_is_silent_or_gone(lab):
    n, c, up = lab(forward="on")
    up.answers["slow.example"] = lambda q, tcp: [] if len([x for x in up.asked if x[0].lower() == "slow.example"]) < 2 else \
        [answer(q, record(A, bytes([192, 0, 2, 1])))]
    # The second time it is asked in small letters, for those that do not keep the case.
    start = time.monotonic()
    assert rcode(c.ask("slow.example")) == 0 and time.monotonic() - start < 4
    assert up.asked[-1][0] == "slow.example"
    up.close()
    start = time.monotonic()
    assert rcode(c.ask("gone.example")) == 2 and time.monotonic() - start < 4


def test_queries_that_are_none(lab):
    n, c, _ = lab()
    q = query("alpha")
    for m, want in ((q[:4] + b"\0\2" + q[6:], 1), (q[:-2], 1), (q[:12] + b"\xc0\x0c\0\1\0\1", 1),
                    (q[:12] + b"\x40aa\0\0\1\0\1", 1), (q[:12] + (b"\x3f" + b"a" * 63) * 5 + b"\0\0\1\0\1", 1),
                    (q[:2] + b"\x09\0" + q[4:], 4), (q[:-2] + b"\0\3", 5), (query("alpha", 252), 5)):
        c.udp.send(m)
        assert rcode(c.udp.recv(4096)) == want, m
    # Answers, and nothing at all, are not answered.
    for m in (q[:2] + b"\x81\0" + q[4:], b"", q[:11]):
        c.udp.send(m)
    assert rcode(c.ask("alpha")) == 0
    # By TCP: half a query, a length that is too great; many connections.
    held = [c.tcp() for _ in range(40)]
    t = c.tcp()
    # Those that have said nothing for longest made way.
    assert [h.recv(1) for h in held[:4]] == [b""] * 4
    t.sendall(b"\0")
    time.sleep(0.05)
    t.sendall(struct.pack(">H", len(q))[1:] + q)
    assert rcode(c.read(t)) == 0
    t.sendall(b"\xff\xff")
    assert c.read(t) == b""
    assert rcode(c.ask("alpha")) == 0
    for t in held:
        t.close()
