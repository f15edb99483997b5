"""Machines that begin in a ROM: a small one of our own, and Debian's firmware unmodified."""
import functools
import os
import re
import shutil
import subprocess

import pexpect
import pytest

from conftest import SLOW, VIREO, guest_files, need_fast_kvm, run_cli

HERE = os.path.dirname(__file__)
SEABIOS = "/usr/share/seabios/bios-256k.bin"
OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
VARIABLE = "hello -guid 11111111-2222-3333-4444-555555555555"
IPXE = "/usr/lib/ipxe/qemu/efi-virtio.rom"
ENGINES = ["interp", "jit"]

seabios = pytest.mark.skipif(not os.path.exists(SEABIOS), reason="the package seabios is not installed")

ovmf = pytest.mark.skipif(not os.path.exists(OVMF_VARS), reason="the package ovmf is not installed")


@functools.cache
def bootable():
    """The busybox guest with GRUB; its path."""
    if not shutil.which("mformat") or not os.path.exists("/usr/lib/grub/i386-pc/boot.img"):
        pytest.skip("mtools, grub-pc-bin or grub-efi-amd64-bin is not installed")
    return os.path.join(guest_files("busybox", "--bootable"), "bootable.img")


def own_copy(tmp_path):
    path = str(tmp_path / "disk.img")
    subprocess.run(["cp", "--sparse=always", bootable(), path], check=True)
    return path


def assemble(source, directory):
    out = str(directory / (source + ".bin"))
    subprocess.run(["nasm", "-f", "bin", "-o", out, os.path.join(HERE, source + ".asm")], check=True)
    return out


def boot_disk(directory):
    path = assemble("bootsector", directory)
    os.truncate(path, 1 << 20)
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rom_finds_pam_smram_and_smm(tmp_path, engine):
    r = run_cli("run", "--firmware", assemble("rom", tmp_path), "--engine", engine, "--set", "jit.heat=0",
                "--device", "isa-debug-exit")
    assert r.stdout.split("\n")[:-1] == ["rom ok", "pam ok", "code ok", "smram ok", "smm ok"], r.stdout + r.stderr
    assert r.returncode == 1


@seabios
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("more", [[], ["--cpus", "3", "--memory", "5G"], ["--memory", "16M"]])
def test_seabios_starts_a_disk(tmp_path, engine, more):
    log = tmp_path / "log"
    r = run_cli("run", "--firmware", "bios", "--disk", f"{boot_disk(tmp_path)},format=raw", "--engine", engine, *more,
                "--device", "isa-debug-exit", "--set", f"debugcon=file:{log}", "--set", "debugcon.iobase=0x402")
    said = log.read_text()
    assert "boot sector 80" in r.stdout and "int 10h" in r.stdout, r.stdout + r.stderr + said
    assert r.returncode == 1
    assert "Found QEMU fw_cfg" in said and "using modern (1.0) virtio mode" in said
    if "--cpus" in more:
        assert "Found 3 cpu(s) max supported 3 cpu(s)" in said
        assert "0000000100000000 - 0000000180000000 = 1 RAM" in said


@seabios
def test_a_disk_without_a_kernel_boots(tmp_path):
    disk = boot_disk(tmp_path)
    r = run_cli("run", disk, "--device", "isa-debug-exit")
    assert "boot sector 80" in r.stdout and r.returncode == 1, r.stdout + r.stderr
    assert "nothing to boot" in run_cli("run").stderr


@seabios
@pytest.mark.parametrize("engine", ENGINES)
def test_a_disk_on_ide_boots(tmp_path, engine):
    r = run_cli("run", "--engine", engine, "--disk", f"{boot_disk(tmp_path)},bus=ide", "--device", "isa-debug-exit")
    assert "boot sector 80" in r.stdout and r.returncode == 1, r.stdout + r.stderr


@seabios
def test_a_cd_boots(tmp_path, vms):
    if not shutil.which("grub-mkrescue") or not shutil.which("xorriso"):
        pytest.skip("grub-common or xorriso is not installed")
    iso = tmp_path / "rescue.iso"
    (tmp_path / "tree").mkdir()
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", iso, tmp_path / "tree"], check=True,
                   capture_output=True)
    blank = tmp_path / "blank"
    blank.write_bytes(bytes(1 << 20))
    vm = vms([str(blank), str(iso)])
    # The BIOS's console moves its cursor within what it shows.
    vm.child.expect("rub> ")
    vm.child.send("ls\r")
    vm.child.expect(r"hd0\).*cd")


@ovmf
@pytest.mark.parametrize("as_what", ["cdrom", pytest.param("disk", marks=pytest.mark.slow)])
def test_uefi_boots_from_ide(tmp_path, vms, as_what):
    if not shutil.which("grub-mkrescue") or not shutil.which("xorriso") or not shutil.which("mformat"):
        pytest.skip("grub-common, xorriso or mtools is not installed")
    iso = tmp_path / "rescue.iso"
    (tmp_path / "tree").mkdir()
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/x86_64-efi", "-o", iso, tmp_path / "tree"], check=True,
                   capture_output=True)
    # A drive without a medium keeps it from nothing.
    vm = vms(["--firmware", "uefi", "--vga", "none", "--cdrom", "none",
              *(["--cdrom", str(iso)] if as_what == "cdrom" else ["--disk", f"{iso},bus=ide,readonly=on"])])
    vm.child.expect("rub> ")
    vm.child.send("ls\r")
    vm.child.expect("cd0" if as_what == "cdrom" else "hd0")


@seabios
def test_the_order_of_devices(tmp_path):
    log = tmp_path / "log"
    args = ["run", boot_disk(tmp_path), "--net", "user", "--device", "isa-debug-exit", "--set", f"debugcon=file:{log}",
            "--set", "debugcon.iobase=0x402"]
    for order, says in [("disk,net", ["*@3"]), ("net,disk", ["*@3"]), ("disk", ["HALT"])]:
        r = run_cli(*args, "--set", f"boot.order={order}")
        assert "boot sector" in r.stdout
        assert all(w in log.read_text() for w in says)
    # The BIOS starts its first disk only.
    blank = tmp_path / "blank"
    blank.write_bytes(bytes(1 << 20))
    r = run_cli("run", str(blank), *args[1:], "--set", "disk1.bootindex=1")
    assert "boot sector 80" in r.stdout and r.returncode == 1, r.stdout + r.stderr
    r = run_cli(*args, "--set", "disk0.bootindex=first")
    assert r.returncode == 1 and "disk0.bootindex" in r.stderr and len(r.stderr.splitlines()) == 1
    r = run_cli(*args, "--set", "boot.order=floppy")
    assert r.returncode == 1 and "boot.order" in r.stderr and len(r.stderr.splitlines()) == 1
    r = run_cli(*args, "--set", "boot.menu=300")
    assert "boot sector" in r.stdout and "Press ESC for boot menu" in r.stdout


@seabios
@pytest.mark.parametrize("engine", ENGINES)
def test_grub_starts_linux(tmp_path, vms, engine):
    vm = vms([own_copy(tmp_path), "--engine", engine, "--cpus", "2", "--memory", "4G", "--net", "user"]).boot()
    said = vm.sh("dmesg")
    assert "SMBIOS 2.8 present" in said and "DMI: Vireo Standard PC" in said
    assert "PM-Timer IO Port: 0x608" in said and "using IOAPIC" in said.replace("Using", "using")
    assert "smp: Brought up 1 node, 2 CPUs" in said
    assert not re.search(r"ACPI (BIOS )?(Error|Warning)|\[Firmware (Bug|Warn)|BAR \d+: (no space|failed)|can't claim", said), said
    # The network is set up beside the shell.
    state = "/sys/class/net/eth0/operstate"
    assert vm.sh(f"for i in $(seq 300); do grep -q up {state} && break; sleep 0.1; done; cat {state}") == "up"
    vm.child.sendline("poweroff")
    assert vm.wait() == 0


@ovmf
@pytest.mark.parametrize("engine", ["jit", "kvm", pytest.param("interp", marks=pytest.mark.slow)])
def test_ovmf_starts_linux(tmp_path, vms, monkeypatch, engine):
    if engine == "kvm":
        need_fast_kvm()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    vm = vms([own_copy(tmp_path), "--firmware", "uefi", "--engine", engine, "--cpus", "2", "--net", "user"])
    vm.child.expect("BdsDxe: starting Boot", timeout=300 * SLOW)
    vm.boot()
    said = vm.sh("dmesg")
    assert "efi: EFI v2" in said and "SMBIOS 2.8 present" in said
    assert "PM-Timer IO Port: 0xb008" in said and "smp: Brought up 1 node, 2 CPUs" in said
    assert not re.search(r"ACPI (BIOS )?(Error|Warning)|\[Firmware (Bug|Warn)|BAR \d+: (no space|failed)|can't claim", said), said
    # The machine's variables: this firmware has written what it boots from.
    variables = tmp_path / "vireo" / vm.name / "efivars.fd"
    assert variables.stat().st_size == os.path.getsize(OVMF_VARS)
    assert "Boot0001".encode("utf-16-le") in variables.read_bytes()
    r = run_cli("run", "--firmware", "uefi", "--set", f"firmware.vars={variables}")
    assert r.returncode == 1 and "belongs to another machine" in r.stderr, r.stderr
    vm.child.sendline("poweroff")
    assert vm.wait() == 0


@ovmf
def test_variables_are_kept(tmp_path, vms):
    variables = tmp_path / "vars"
    args = ["--firmware", "uefi", "--set", f"firmware.vars={variables}"]
    vm = vms(args)
    vm.child.expect("Shell> ")
    vm.child.send(f'setvar {VARIABLE} -nv -bs ="kept"\r')
    vm.child.expect("Shell> ")
    vm.kill()
    assert b"kept" in variables.read_bytes()
    vm = vms(args)
    vm.child.expect("Shell> ")
    vm.child.send(f"setvar {VARIABLE}\r")
    vm.child.expect("6B 65 70 74")
    vm.child.expect("Shell> ")
    # A machine that is reset in the middle finds them, too, and one that is moved.
    r = run_cli("save", vm.name, str(tmp_path / "state"))
    assert r.returncode == 0, r.stderr
    assert vm.wait() == 0
    vm = vms([str(tmp_path / "state")], command="restore")
    for _ in range(20):  # the first ones may come before the terminal is raw
        vm.child.send("\r")
        if vm.child.expect(["Shell> ", pexpect.TIMEOUT], timeout=2) == 0:
            break
    vm.child.send("reset\r")
    vm.child.expect("Shell> ")
    vm.child.send(f"setvar {VARIABLE}\r")
    vm.child.expect("6B 65 70 74")
    # Firmware switches it off as the chip has it, and asks no tables.
    vm.child.send("reset -s\r")
    assert vm.wait() == 0
    variables.write_bytes(b"short")
    r = run_cli("run", *args)
    assert r.returncode == 1 and "5 bytes" in r.stderr and len(r.stderr.splitlines()) == 1
    os.mkfifo(tmp_path / "fifo")
    for path in ("/dev/zero", "/dev/null", tmp_path / "fifo", tmp_path):
        r = run_cli("run", "--firmware", "uefi", "--set", f"firmware.vars={path}")
        assert r.returncode == 1 and r.stderr == f"vireo: firmware.vars: {path} is not a regular file\n", r.stderr
    r = run_cli("run", "--firmware", "uefi", "--set", f"firmware.vars={tmp_path}/none/vars")
    assert r.returncode == 1 and "No such file" in r.stderr and len(r.stderr.splitlines()) == 1


@ovmf
@pytest.mark.skipif(SLOW > 1, reason="nothing can be preloaded before a sanitizer")
def test_variables_reach_the_disk(tmp_path, vms, monkeypatch):
    log, lib = tmp_path / "log", tmp_path / "watch.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", lib, os.path.join(HERE, "watch.c")], check=True)
    for name, value in (("LD_PRELOAD", lib), ("WATCH", "the-variables"), ("WATCH_LOG", log)):
        monkeypatch.setenv(name, str(value))
    vm = vms(["--firmware", "uefi", "--set", f"firmware.vars={tmp_path}/the-variables", "--vga", "none"])
    monkeypatch.delenv("LD_PRELOAD")
    vm.child.expect("Shell> ")
    said = log.read_text().split()
    assert said[-1] == "write"
    # Over a reset and at the end.
    vm.child.send("reset\r")
    vm.child.expect("Shell> ")
    again = log.read_text().split()[len(said):]
    assert "sync" in again and again[-1] == "write", again
    vm.qmp().execute("quit")
    assert vm.wait() == 0
    assert log.read_text().split()[-1] == "sync"


@seabios
def test_keys_and_a_move_in_the_menu_of_grub(tmp_path, vms):
    disk, state = own_copy(tmp_path), tmp_path / "state"
    vm = vms([disk, "--set", "boot.order=disk"])
    vm.child.expect("GNU GRUB")
    vm.child.send("c")
    vm.child.expect("grub> ")
    vm.child.send("ls\r")
    vm.child.expect(r"\(hd0\) \(hd0,msdos2\) \(hd0,msdos1\)")
    r = run_cli("save", vm.name, str(state))
    assert r.returncode == 0, r.stderr
    assert vm.wait() == 0
    vm = vms([str(state)], command="restore")
    for line in ["", "linux /vmlinuz console=ttyS0 quiet root=/dev/vda1", "initrd /initrd.img"]:
        vm.child.send(line + "\r")
        vm.child.expect("grub> ")
    vm.child.send("boot\r")
    vm.boot()
    vm.child.sendline("reboot")
    vm.child.expect("GNU GRUB")
    vm.boot()


@seabios
def test_ipxe_is_started_from_its_rom(tmp_path, vms):
    if not os.path.exists(IPXE):
        pytest.skip("the package ipxe-qemu is not installed")
    blank = tmp_path / "blank"
    blank.write_bytes(bytes(1 << 20))
    vm = vms([str(blank), "--net", "user", "--set", "net0.rom=ipxe", "--set", "boot.order=net,disk"])
    vm.child.expect("starting execution...ok")
    vm.child.expect("using virtio-net on 0000:00:04.0")
    vm.child.expect("net0: 10.0.2.15/255.255.255.0 gw 10.0.2.2")
    vm.child.expect("Booting from Hard Disk")
    vm.kill()
    for rom, says in [(blank, "not an expansion ROM"), (tmp_path / "none", "No such file")]:
        r = run_cli("run", str(blank), "--net", "user", "--set", f"net0.rom={rom}")
        assert r.returncode == 1 and says in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr
    r = run_cli("run", str(blank), "--net", "user,bus=mmio", "--set", "net0.rom=ipxe")
    assert r.returncode == 1 and "for a card on PCI" in r.stderr, r.stderr


MODELS = ["virtio", "e1000"]


@seabios
@pytest.mark.parametrize("model", MODELS)
def test_a_guest_boots_by_pxe(tmp_path, vms, model):
    if not os.path.exists(IPXE):
        pytest.skip("the package ipxe-qemu is not installed")
    program = assemble("bootsector", tmp_path)
    net = ["--firmware", "bios", "--net", f"user,model={model}", "--set", "net0.rom=ipxe", "--device", "isa-debug-exit"]
    r = run_cli("run", *net, "--set", f"net0.tftp={tmp_path}", "--set", f"net0.bootfile={os.path.basename(program)}")
    assert "boot sector" in r.stdout and r.returncode == 1, r.stdout + r.stderr
    r = run_cli("run", *net, "--set", f"net0.tftp={tmp_path}/none")
    assert r.returncode == 1 and "net0.tftp" in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr


@ovmf
@pytest.mark.parametrize("model", MODELS)
def test_a_guest_boots_by_pxe_and_uefi(tmp_path, vms, model):
    if not os.path.exists("/usr/lib/grub/x86_64-efi/normal.mod") or not os.path.exists(IPXE):
        pytest.skip("the package grub-efi-amd64-bin or ipxe-qemu is not installed")
    subprocess.run(["grub-mkimage", "-O", "x86_64-efi", "-o", tmp_path / "grub.efi", "-p", "/", "normal", "serial",
                    "terminal", "minicmd"], check=True)
    # OVMF has a driver of its own for virtio; the other card's is in its ROM.
    rom, says = ([], "NBP file downloaded successfully") if model == "virtio" else (["--set", "net0.rom=ipxe"], "using 82540em")
    vm = vms(["--firmware", "uefi", "--net", f"user,model={model}", *rom, "--set", f"net0.tftp={tmp_path}", "--set",
              "net0.bootfile=grub.efi"])
    vm.child.expect(says)
    vm.child.expect("rub> ")


def linux_by_firmware(busybox, vms, *args):
    """A kernel that firmware reads from fw_cfg; its log."""
    vm = vms([*args, *busybox.args("quiet hello=world"), "--net", "user"]).boot()
    assert vm.sh("cat /proc/cmdline").startswith("console=ttyS0 quiet hello=world")
    said = vm.sh("dmesg")
    assert "SMBIOS 2.8 present" in said and "RAMDISK: [mem" in said
    # It is read again after a reset.
    vm.child.sendline("reboot -f")
    vm.child.expect("Restarting system|machine restart")
    vm.boot()
    vm.child.sendline("poweroff -f")
    assert vm.wait() == 0
    return said


@seabios
@pytest.mark.parametrize("engine", ["jit", pytest.param("interp", marks=pytest.mark.slow)])
def test_seabios_starts_a_kernel(busybox, vms, engine, tmp_path):
    # Before the disk, which would start as well.
    said = linux_by_firmware(busybox, vms, "--firmware", "bios", "--engine", engine, boot_disk(tmp_path))
    assert "PM-Timer IO Port: 0x608" in said and "efi: EFI" not in said


@ovmf
def test_ovmf_starts_a_kernel(busybox, vms):
    said = linux_by_firmware(busybox, vms, "--firmware", "uefi")
    assert "PM-Timer IO Port: 0xb008" in said and "efi: EFI v2" in said


@seabios
def test_kernels_that_firmware_does_not_start(busybox, tmp_path):
    cut, blank = tmp_path / "cut", tmp_path / "blank"
    with open(busybox.initrd, "rb") as f:
        cut.write_bytes(f.read()[:-20000])
    blank.write_bytes(bytes(1 << 20))
    bios = ["run", "--firmware", "bios"]
    for args, says in [(["--kernel", str(blank)], "is not a bzImage"), (["--kernel", busybox.kernel, "--initrd", cut], "truncated"),
                       (["--kernel", busybox.kernel, "--memory", "20M"], "with --memory"),
                       (["--append", "quiet", blank], "append: it goes with a kernel")]:
        r = run_cli(*bios, *args)
        assert r.returncode == 1 and says in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr


def test_what_is_no_firmware_is_refused(tmp_path):
    odd = tmp_path / "odd"
    odd.write_bytes(b"x" * 1000)
    for path, says in [(odd, "multiple of 4 KiB"), (tmp_path / "none", "No such file"), (tmp_path, "not a regular file")]:
        r = run_cli("run", "--firmware", str(path))
        assert r.returncode == 1 and says in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr
    r = run_cli("run", "--firmware", "bios", "--kernel", str(odd))
    assert r.returncode == 1 and len(r.stderr.splitlines()) == 1
