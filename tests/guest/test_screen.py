"""The screen: what SeaBIOS, GRUB and Linux show of themselves, as characters and as pictures."""
import os
import re
import struct
import subprocess
import time
import zlib

import pytest

from conftest import SLOW, VIREO, run_cli
from test_firmware import SEABIOS, ovmf, own_copy, seabios
from test_ide import GRUB

ROM = "/usr/share/seabios/vgabios-stdvga.bin"
grub = pytest.mark.skipif(not os.path.exists(GRUB), reason="the package grub-rescue-pc is not installed")


def screen_text(vm, wanted, timeout=60):
    """The lines of the screen once they match."""
    end = time.monotonic() + timeout * SLOW
    while True:
        r = run_cli("screentext", vm.name)
        if re.search(wanted, r.stdout):
            return r.stdout
        assert time.monotonic() < end, r.stdout + r.stderr
        time.sleep(0.2)


def screen_type(vm, text):
    r = run_cli("type", vm.name, text)
    assert r.returncode == 0, r.stderr


class Picture:
    """A PNG of 8 bits a color, as the tests need it: get(x, y)."""

    def __init__(self, data):
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        at, packed = 8, b""
        while at < len(data):
            size, kind = struct.unpack_from(">I4s", data, at)
            body = data[at + 8:at + 8 + size]
            assert struct.unpack_from(">I", data, at + 8 + size)[0] == zlib.crc32(kind + body)
            if kind == b"IHDR":
                self.width, self.height, depth, color = struct.unpack_from(">IIBB", body)
                assert (depth, color) == (8, 2)
            elif kind == b"IDAT":
                packed += body
            at += 12 + size
        raw, stride = zlib.decompress(packed), 3 * self.width
        self.rows, above = [], bytearray(stride)
        for y in range(self.height):
            kind, row = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
            for x in range(stride) if kind else ():
                left, up = row[x - 3] if x >= 3 else 0, above[x]
                corner = above[x - 3] if x >= 3 else 0
                guess = left + up - corner
                paeth = min((left, up, corner), key=lambda v: abs(guess - v))
                row[x] = row[x] + (0, left, up, (left + up) // 2, paeth)[kind] & 255
            self.rows.append(row)
            above = row

    def get(self, x, y):
        return tuple(self.rows[y][3 * x:3 * x + 3])

    def colors(self):
        return {bytes(row[x:x + 3]) for row in self.rows for x in range(0, len(row), 3)}


def screenshot(vm, tmp_path):
    path = tmp_path / "shot.png"
    r = run_cli("screenshot", vm.name, str(path))
    assert r.returncode == 0, r.stderr
    return Picture(path.read_bytes())


@seabios
@grub
def test_grub_is_read_and_typed_to(tmp_path, vms):
    vm = vms(["--firmware", "bios", "--vga", "std", "--cdrom", GRUB, "--serial", "null"])
    text = screen_text(vm, r"GNU GRUB +version[\s\S]*automatically in")
    assert "*GNU/Linux" in text and "┌──" in text and "Use the ↑ and ↓ keys" in text
    shot = screenshot(vm, tmp_path)
    assert (shot.width, shot.height) == (720, 400)
    # The line that is chosen: black on light gray.
    assert shot.get(700, 4 * 16 + 8) == (170, 170, 170) and shot.get(100, 3 * 16 + 4) == (0, 0, 0)
    assert run_cli("sendkey", vm.name, "down", "down").returncode == 0
    screen_text(vm, r"\*FreeBSD \(or GNU/kFreeBSD\), direct")
    assert run_cli("sendkey", vm.name, "c").returncode == 0
    screen_text(vm, "grub> *$")
    screen_type(vm, 'echo "Hello, {World}" \'~!@#$%^&*()_+|:<>?`-=[];,./\'\n')
    screen_text(vm, r"\nHello, \{World\} ~!@#\$%\^&\*\(\)_\+\|:<>\?`-=\[\];,\./\n")
    # Other modes of the BIOS: planes, and linear ones.
    # A BIOS keeps 16 keys while nobody reads them.
    for line in ("insmod vbe", "loadfont unicode", "set gfxmode=640x480x32"):
        screen_type(vm, line + "\n")
        screen_text(vm, f"{line}\ngrub> *$")
    screen_type(vm, "terminal_output gfxterm\n")
    end = time.monotonic() + 30 * SLOW
    while (shot := screenshot(vm, tmp_path)).height != 480 or shot.colors() == {bytes(3)}:
        assert time.monotonic() < end
        time.sleep(0.5)
    assert shot.width == 640 and shot.colors() == {bytes(3), b"\xa8" * 3}
    # Its characters are read from the picture, as far as it has been drawn.
    screen_type(vm, "echo 'Read {me}: ~0123!'\n")
    screen_text(vm, r"\nRead \{me\}: ~0123!\ngrub>$")
    assert run_cli("sendkey", vm.name, "esc").returncode == 0
    text = screen_text(vm, r"GNU GRUB +version")
    assert "│*FreeBSD (or GNU/kFreeBSD), direct boot  " in text and "┌──" in text and "Use the ↑ and ↓ keys" in text
    assert run_cli("sendkey", vm.name, "c").returncode == 0
    screen_text(vm, r"Minimal BASH-like[\s\S]*grub>$")
    shot = screenshot(vm, tmp_path)
    # Back in text, after a save in the middle of the picture.
    state = tmp_path / "state"
    assert run_cli("save", vm.name, str(state)).returncode == 0
    vm.wait()
    vm = vms([str(state)], command="restore")
    end = time.monotonic() + 30 * SLOW
    while run_cli("screenshot", vm.name, str(tmp_path / "again.png")).returncode:
        assert time.monotonic() < end
        time.sleep(0.2)
    again = Picture((tmp_path / "again.png").read_bytes())
    assert (again.width, again.height) == (640, 480) and again.rows[:400] == shot.rows[:400]
    screen_type(vm, "terminal_output console\necho back\n")
    screen_text(vm, "\nback\n")


def own_menu(tmp_path, config):
    """A disk of the busybox guest with another grub.cfg."""
    disk, menu = own_copy(tmp_path), tmp_path / "grub.cfg"
    with open(disk, "rb") as f:
        first = struct.unpack_from("<I", f.read(512), 446 + 16 + 8)[0]
    menu.write_text(config)
    subprocess.run(["mcopy", "-o", "-i", f"{disk}@@{first * 512}", str(menu), "::/grub/grub.cfg"], check=True)
    return disk


@seabios
@pytest.mark.parametrize("engine", ["interp", "jit"])
def test_linux_has_a_vga_console(tmp_path, vms, engine):
    disk = own_menu(tmp_path, "linux /vmlinuz root=/dev/vda1 console=tty0 console=ttyS0 quiet\ninitrd /initrd.img\nboot\n")
    vm = vms(["--firmware", "bios", "--vga", "std", "--disk", disk, "--engine", engine])
    vm.child.expect(vm.prompt, timeout=300 * SLOW)
    assert "VGA+ 80x25" in vm.sh("dmesg | grep Console:")
    vm.sh(r"printf '\033[2J\033[3;5Hhere\033[44;33mcolors\033[0m' >/dev/tty0")
    lines = screen_text(vm, "herecolors").split("\n")
    assert lines[2] == "    herecolors"
    shot = screenshot(vm, tmp_path)
    assert shot.get(9 * 8, 2 * 16) == (0, 0, 170)
    # Seven pages of scrolling: the start address moves, the text is the last of it.
    vm.sh("seq 1 170 >/dev/tty0")
    lines = screen_text(vm, "(?m)^170$").split("\n")
    assert lines[lines.index("170") - 20:][:20] == [str(n) for n in range(150, 170)]


@seabios
@ovmf
def test_firmware_has_a_screen(tmp_path, vms):
    blank = tmp_path / "blank"
    blank.write_bytes(bytes(1 << 20))
    vm = vms([str(blank)])
    assert "SeaBIOS" in screen_text(vm, "No bootable device")
    vm.kill()
    vm = vms([str(blank), "--firmware", "uefi", "--set", "boot.order=disk"])
    vm.child.expect("Shell> ")
    shot = screenshot(vm, tmp_path)
    assert (shot.width, shot.height) == (1280, 800) and len(shot.colors()) > 2
    vm.kill()
    for args in ([str(blank), "--vga", "none"], ["--firmware", SEABIOS, "--disk", str(blank)]):
        vm = vms(args)
        vm.child.expect("No bootable device")
        assert "There is no screen" in run_cli("screentext", vm.name).stderr
        vm.kill()


def test_without_a_screen(tmp_path, busybox, vms):
    vm = vms([*busybox.args("quiet")]).boot()
    for command in (["screenshot", vm.name, str(tmp_path / "a.png")], ["screentext", vm.name]):
        r = run_cli(*command)
        assert r.returncode == 1 and "There is no screen" in r.stderr, r.stderr
    r = run_cli("type", vm.name, "x")
    assert r.returncode == 1 and "No keyboard" in r.stderr
    assert not (tmp_path / "a.png").exists()


def test_bad_input(tmp_path):
    for args, said in ((["screenshot", "x", "a.gif"], "FILE.png, FILE.ppm, or -"),
                       (["sendkey", "x", "ctrl-nokey"], "'nokey' is no key"),
                       (["sendkey", "x", "ctrl-"], "'' is no key"),
                       (["sendkey", "x", "-".join("abcdefghi")], "at most 8"),
                       (["type", "x", "a\u00e4"], "no such key"),
                       (["run", "--vga", "cirrus", "--kernel", "/none"], "vga: 'cirrus' is not one of none, std"),
                       (["run", "--vga", "std,memory=3M", "--kernel", "/none"], "vga.memory: '3M' is not"),
                       (["run", "--vga", "std,addr=1", "--firmware", "bios", "--disk", "/dev/null"], "vga"),
                       (["run", "--vga", "std,rom=/none", "--firmware", "bios"], "/none")):
        r = run_cli(*args)
        assert r.returncode == 1 and said in r.stderr and r.stderr.count("\n") == 1, r.stderr


@seabios
@grub
def test_a_picture_on_standard_output(tmp_path, vms):
    vm = vms(["--firmware", "bios", "--vga", "std", "--cdrom", GRUB, "--serial", "null"])
    screen_text(vm, "GNU GRUB")
    r = subprocess.run([VIREO, "screenshot", vm.name, "-"], capture_output=True, timeout=60 * SLOW)
    assert r.returncode == 0 and Picture(r.stdout).width == 720
    assert run_cli("screenshot", vm.name, str(tmp_path / "a.ppm")).returncode == 0
    data = (tmp_path / "a.ppm").read_bytes()
    assert data.startswith(b"P6\n720 400\n255\n") and len(data) == 15 + 720 * 400 * 3
    # A link, as /dev/stdout is one, stays one.
    os.symlink(tmp_path / "a.ppm", tmp_path / "link.png")
    assert run_cli("screenshot", vm.name, str(tmp_path / "link.png")).returncode == 0
    assert (tmp_path / "link.png").is_symlink() and Picture((tmp_path / "a.ppm").read_bytes()).width == 720
    os.unlink(tmp_path / "link.png")
    # Nobody waits for the other end of a FIFO, or for who does not read there.
    os.mkfifo(tmp_path / "f.png")
    r = run_cli("screenshot", vm.name, str(tmp_path / "f.png"))
    assert r.returncode == 1 and "No such device or address" in r.stderr
    reader = os.open(tmp_path / "f.png", os.O_RDONLY | os.O_NONBLOCK)
    os.rename(tmp_path / "f.png", tmp_path / "f.ppm")
    r = run_cli("screenshot", vm.name, str(tmp_path / "f.ppm"))
    assert r.returncode == 1 and "temporarily unavailable" in r.stderr
    os.close(reader)
    os.unlink(tmp_path / "f.ppm")
    # What cannot be written is an error, and nothing is left.
    r = run_cli("screenshot", vm.name, str(tmp_path / "no" / "a.png"))
    assert r.returncode == 1 and "No such file" in r.stderr
    assert not [f for f in os.listdir(tmp_path) if f != "a.ppm"]
