"""VNC viewers: what they see and type, and viewers that lie."""
import contextlib
import os
import random
import re
import socket
import struct
import subprocess
import time

import pexpect
import pytest

from conftest import SLOW, VIREO, Guest, Qmp, guest_files, run_cli, run_file
from rfb import TlsViewer, Viewer
from test_firmware import ovmf, seabios
from test_ide import GRUB
from test_save import free_port
from test_screen import grub, screen_text

with_vnc = pytest.mark.skipif(b"vireo-vnc" not in open(VIREO, "rb").read(),
                              reason="vireo was built without neatvnc")
pytestmark = with_vnc


def viewer(vm, **kw):
    return Viewer(str(run_file(vm.name, "vnc.sock")), timeout=60 * SLOW, **kw)


@ovmf
def test_ovmf_reads_keys_typed_by_vnc(vms):
    vm = vms(["--firmware", "uefi", "--vnc", "unix", "--set", "boot.order=net"], prompt="Shell> ")
    vm.child.expect("Shell> ")
    v = viewer(vm).enter()
    v.full()
    v.type("echo Typed (by) VNC\n", gap=0.1)
    vm.child.expect(r"\r\nTyped \(by\) VNC\r\n")
    # The same is on the screen: something light on black.
    v.full()
    assert (v.width, v.height) == (1280, 800)
    assert v.pixels.count(b"\x98\x98\x98\x00") > 200
    # Its characters, with the font that is in the machine's memory; in the middle of the screen, at two sizes.
    text = screen_text(vm, "Typed .by. VNC\n +Shell>$")
    assert "UEFI Interactive Shell v2" in text
    v.type("exit\n", gap=0.1)
    screen_text(vm, r"<Standard English>(?:.|\n)*↑↓=Move Highlight +<Enter>=Select Entry")


@seabios
@grub
def test_a_viewer_sees_what_changes(vms):
    vm = vms(["--firmware", "bios", "--vnc", "unix", "--cdrom", GRUB, "--serial", "null"])
    screen_text(vm, "automatically in")
    v = viewer(vm).enter()
    assert v.name == vm.name
    assert v.full() == 720 * 400
    assert v.get(700, 4 * 16 + 8) == (170, 170, 170)
    # The chosen line moves: less than the screen is sent.
    v.press(0xff54)
    sent = v.update()
    assert 0 < sent < 720 * 200
    end = time.monotonic() + 30 * SLOW
    while v.get(700, 5 * 16 + 8) != (170, 170, 170):
        assert time.monotonic() < end
        v.update()
    # Another viewer sees it as well; a size that changes is told.
    other = viewer(vm).enter()
    other.full()
    assert other.get(700, 5 * 16 + 8) == (170, 170, 170)
    other.close()
    v.type("c")
    screen_text(vm, "grub> *$")
    for line in ("insmod vbe", "loadfont unicode", "set gfxmode=800x600"):
        v.type(line + "\n")
        screen_text(vm, f"{line}\ngrub> *$")
    # Nothing has gone to a newcomer but words about keys when the size changes: it has its pixels first.
    newcomer = viewer(vm).enter()
    assert newcomer.update(False) == 0
    v.type("terminal_output gfxterm\n")
    time.sleep(1)
    assert newcomer.full() == 720 * 400
    end = time.monotonic() + 30 * SLOW
    for each in (v, newcomer):
        while each.height != 600:
            assert time.monotonic() < end
            each.update()
        assert each.width == 800


def test_linux_has_a_frame_buffer_and_a_mouse(tmp_path, vms):
    guest = Guest(guest_files("generic"), str(tmp_path))
    vm = vms(["--kernel", guest.kernel, "--initrd", guest.initrd, "--append", "console=ttyS0 quiet",
              "--vnc", "unix"]).boot()
    vm.sh("modprobe bochs; for i in $(seq 100); do [ -e /dev/fb0 ] && break; sleep 0.1; done")
    assert "bochs-drm" in vm.sh("cat /proc/fb")
    assert vm.sh("cat /sys/class/graphics/fb0/virtual_size") == "1280,800"
    vm.sh("for n in $(seq 1000); do printf '\\377\\0\\377\\0'; done >/dev/fb0")
    v = viewer(vm).enter()
    v.full()
    end = time.monotonic() + 30 * SLOW
    while v.width != 1280 or v.get(999, 0) != (255, 0, 255):
        assert time.monotonic() < end
        v.update()
    assert v.get(1001, 0) == (0, 0, 0)
    r = run_cli("screentext", vm.name)
    assert r.returncode == 1 and "shows a picture" in r.stderr
    # Its console's characters, which are read from the picture.
    vm.sh(r"printf '\033[2J\033[3;5HRead me: 0123 {~}\033[44;33m blue \033[0m' >/dev/tty0")
    lines = screen_text(vm, "Read me").split("\n")
    assert lines[2] == "    Read me: 0123 {~} blue", lines[2]
    # The pointer's ways, a button and the wheel.
    event = re.search(r"Generic Explorer Mouse(?:.|\n)*?\b(event\d+)", vm.sh("cat /proc/bus/input/devices"))[1]
    vm.sh(f"exec 3</dev/input/{event}; cat <&3 >/moves & true")
    v.pointer(100, 100)
    for x, y, buttons in ((110, 95, 0), (110, 95, 1), (110, 95, 0), (110, 95, 16), (110, 95, 0)):
        v.pointer(x, y, buttons)
        time.sleep(0.1)
    time.sleep(1)
    raw = bytes.fromhex(vm.sh("kill $!; hexdump -v -e '24/1 \"%02x\" \"\\n\"' /moves").replace("\n", ""))
    events = [e for e in struct.iter_unpack("<16xHHi", raw) if e[0]]
    assert (2, 0, 10) in events and (2, 1, -5) in events, events
    assert (1, 272, 1) in events and (1, 272, 0) in events and (2, 8, -1) in events, events


def status(vm):
    return Qmp(vm.name).execute("query-status")["status"]


@seabios
@grub
def test_viewers_that_lie(vms):
    vm = vms(["--firmware", "bios", "--vnc", "unix", "--cdrom", GRUB, "--serial", "null"])
    screen_text(vm, "GNU GRUB")
    path = str(run_file(vm.name, "vnc.sock"))
    dice = random.Random(7)
    openings = [b"", b"RFB 003.008\n", b"RFB 003.008\n\x01", b"RFB 003.008\n\x01\x01", b"RFB 999.999\n" * 100]
    messages = [struct.pack(">BxH", 2, 65535), struct.pack(">BxH40i", 2, 40, *range(40)),
                struct.pack(">BBHHHH", 3, 0, 65535, 65535, 65535, 65535), struct.pack(">BBHHHH", 3, 1, 0, 0, 0, 0),
                struct.pack(">BxxxI", 6, 0xffffffff), struct.pack(">BxxxI", 6, 0x7fffffff) + bytes(1000),
                struct.pack(">BBxxI", 4, 1, 0xffffffff), struct.pack(">BBHHI", 255, 0, 1, 1, 0xffffffff),
                struct.pack(">BBHHI", 255, 0, 1, 0, 0xffff), struct.pack(">BBHH", 5, 255, 65535, 65535),
                struct.pack(">B3xBBBBHHHBBB3x", 0, 7, 255, 1, 0, 0, 0, 0, 255, 255, 255), b"\xff" * 5000,
                struct.pack(">B3xBBBBHHHBBB3x", 0, 8, 8, 0, 1, 7, 7, 3, 40, 50, 60)]

    def connect():
        """Also while the process of the server is started again: some of this ends it."""
        end = time.monotonic() + 30 * SLOW
        while True:
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(path)
                s.settimeout(10)
                return s
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.05)

    # What libraries say about rectangles that cannot be is not for the terminal.
    odd = viewer(vm).enter()
    with contextlib.suppress(OSError):
        for _ in range(100):
            odd.sock.sendall(struct.pack(">BBHHHH", 3, 0, 65535, 65535, 65535, 65535))
    for n in range(40):
        s = connect()
        try:
            s.sendall(openings[3] if n % 2 else dice.choice(openings))
            for _ in range(dice.randrange(6)):
                data = dice.choice(messages) if dice.random() < 0.8 else dice.randbytes(dice.randrange(1, 400))
                s.sendall(data[:dice.randrange(1, len(data) + 1)] if dice.random() < 0.3 else data)
        except OSError:
            pass
        s.close()
        if n % 8 == 0:
            assert status(vm) == "running"
    # One that asks and never reads, and many that say nothing, do not keep others away.
    idle = [connect() for _ in range(30)]

    def one_more():
        end = time.monotonic() + 30 * SLOW
        while True:
            try:
                return viewer(vm).enter()
            except (OSError, EOFError):
                assert time.monotonic() < end
                time.sleep(0.2)

    deaf = one_more()
    for _ in range(2000):
        deaf.ask(False)
    v = one_more()
    assert v.full() == 720 * 400
    assert status(vm) == "running" and len(idle) == 30
    vm.child.expect(pexpect.TIMEOUT, timeout=0.1)
    assert "BUG" not in vm.child.before


def certificate(tmp_path):
    """A directory with a certificate for TLS that is its own authority."""
    creds = tmp_path / "tls"
    creds.mkdir()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=vireo", "-days", "2", "-keyout",
                    creds / "server-key.pem", "-out", creds / "server-cert.pem"], check=True, capture_output=True)
    return creds


def turned_away(address, *parts):
    """A viewer that begins with these parts and a ClientInit, which would be told the screen's size: what it gets."""
    said = b""
    with socket.create_connection(address, 30) as s:
        try:
            for part in (*parts, b"\x01"):
                s.sendall(part)
                said += s.recv(4096)
            while data := s.recv(4096):
                said += data
        except ConnectionError:
            pass
    return said


def test_a_password_by_tls(tmp_path, vms, busybox):
    at, word = ("127.0.0.1", free_port()), "a long enough password"
    (tmp_path / "word").write_text(word + "\n")
    vm = vms([*busybox.args("quiet"), "--vnc", f"127.0.0.1:{at[1]},tls-creds={certificate(tmp_path)},password-file={tmp_path}/word"])
    vm.boot()
    v = TlsViewer(at, word, "anybody").enter()
    assert v.name == vm.name and v.full() == v.width * v.height
    v.type("x")
    v.update(False)
    for wrong in ("", "a long enough passwor", word + "x"):
        with pytest.raises(PermissionError, match="not the password"):
            TlsViewer(at, wrong)
    # Who chooses what was not offered, or speaks no TLS, or says nothing.
    hello = b"RFB 003.008\n"
    for parts in ([hello, b"\x01"], [hello, b"\x02"], [hello, b"\x00"], [b"RFB 003.003\n"], [b"RFB 003.007\n", b"\x01"],
                  [hello, b"\x13", b"\0\1"], [hello, b"\x13", b"\0\2", struct.pack(">I", 256)],
                  [hello, b"\x13", b"\0\2", struct.pack(">I", 262), bytes(8)], [b"GET / HTTP/1.0\r\n\r\n"]):
        said = turned_away(at, *parts)
        assert vm.name.encode() not in said, parts
        assert parts[1:] != [b"\x01"] or parts[0] != hello or said.endswith(b"this server asks for a password")
    with pytest.raises((EOFError, ConnectionError)):
        TlsViewer(at, "x" * 1025)
    # Those that say nothing keep nobody away; who is in stays.
    idle = [socket.create_connection(at) for _ in range(30)]
    end = time.monotonic() + 10 * SLOW
    while True:
        try:
            TlsViewer(at, word).enter().full()
            break
        except (EOFError, ConnectionError):
            assert time.monotonic() < end
            time.sleep(0.5)
    v.update(False)
    assert len(idle) == 30
    # The user's own socket is there as well.
    assert os.stat(run_file(vm.name, "vnc.sock")).st_mode & 0o777 == 0o700
    assert viewer(vm).enter().full()


def test_what_is_refused(tmp_path, vms, busybox):
    (tmp_path / "file").write_text("mine")
    creds = certificate(tmp_path)
    (tmp_path / "empty").write_text("\nsecond line\n")
    (tmp_path / "long").write_text("x" * 2000)
    for vnc, said in (("unix,password-file=/dev/null", "go together"), (f"127.0.0.1:5900,tls-creds={creds}", "go together"),
                      (f"unix,tls-creds={creds},password-file={tmp_path}/file", "is the user's alone"),
                      (f"127.0.0.1:5900,tls-creds={creds},password-file=/none", "vnc.password-file: /none"),
                      (f"127.0.0.1:5900,tls-creds={creds},password-file={tmp_path}/empty", "has no password in its first line"),
                      (f"127.0.0.1:5900,tls-creds={creds},password-file={tmp_path}/long", "is too long"),
                      (f"127.0.0.1:5900,tls-creds={tmp_path},password-file={tmp_path}/file", "server-cert.pem: No such file"),
                      (f"192.0.2.1:5900,tls-creds={creds},password-file={tmp_path}/file", "vnc: 192.0.2.1:5900"),
                      ("unix,tls-key=x", "vnc.tls-key"),
                      ("0.0.0.0:5900", "0.0.0.0 is for others, too"), ("192.0.2.1:5999", "is for others, too"),
                      (f"unix:{tmp_path}/file", "is there, and not a socket"),
                      ("unix:/none/x", "vnc: /none/x"),
                      ("5900", "vnc: '5900' is not"), (":70000", "is not"), ("127.0.0.1:0", "is not"),
                      ("unix,colour=1", "vnc.colour")):
        r = run_cli("run", *busybox.args("quiet"), "--vnc", vnc)
        assert r.returncode == 1 and said in r.stderr and r.stderr.count("\n") == 1, (vnc, r.stderr)
    assert (tmp_path / "file").read_text() == "mine"
    r = run_cli("run", *busybox.args("quiet"), "--vnc", "unix", "--vga", "none")
    assert r.returncode == 1 and "vga is none" in r.stderr
    # A socket that nobody listens at is taken, one in use is not.
    path = f"{tmp_path}/vnc.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
    vm = vms([*busybox.args("quiet"), "--vnc", f"unix:{path}"]).boot()
    assert os.stat(path).st_mode & 0o777 == 0o700
    Viewer(path).enter()
    r = run_cli("run", *busybox.args("quiet"), "--vnc", f"unix:{path}")
    assert r.returncode == 1 and "listens at" in r.stderr, r.stderr
    assert vm.sh("echo alive") == "alive"
