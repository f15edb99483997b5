"""Media of Debian's packages that a machine has to boot. What is large is fetched as guests are, once."""
import functools
import os
import re
import shutil
import subprocess

import pytest

from conftest import SLOW, TOP
from test_firmware import IPXE, ovmf, seabios

MEMTEST = "/boot/memtest86+x64.bin"

memtest = pytest.mark.skipif(not os.path.exists(MEMTEST), reason="the package memtest86+ is not installed")
ipxe = pytest.mark.skipif(not os.path.exists(IPXE), reason="the package ipxe-qemu is not installed")


@functools.cache
def fetched(name):
    """The directory of a recipe of scripts/guest that is not one of `vireo guest`."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    where = os.path.join(cache, "vireo", "check", "vireo", "guests", name)
    for force in [], ["--force"]:
        r = subprocess.run([os.path.join(TOP, "scripts/guest/build"), name, where, *force], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
        if r.returncode or "by another version" not in r.stderr:
            break
    if r.returncode:
        pytest.skip(f"{name} cannot be fetched here: {r.stderr.strip().splitlines()[-1:]}")
    return where


def installer(tmp_path):
    """A directory for TFTP: the installer, and menus of our own that make it use the serial port."""
    netboot, root = os.path.join(fetched("installer"), "netboot"), tmp_path / "tftp"
    shutil.copytree(netboot, root, symlinks=True, ignore=shutil.ignore_patterns("initrd.gz", "linux"))
    amd64 = "debian-installer/amd64"
    for big in "linux", "initrd.gz":
        os.symlink(os.path.join(netboot, amd64, big), root / amd64 / big)
    (root / amd64 / "pxelinux.cfg/default").write_text(f"""serial 0 115200
path {amd64}/boot-screens/
default install
label install
kernel {amd64}/linux
append initrd={amd64}/initrd.gz console=ttyS0 ---
""")
    (root / amd64 / "grub/grub.cfg").write_text(f"""terminal_output serial console
linux /{amd64}/linux console=ttyS0 ---
initrd /{amd64}/initrd.gz
boot
""")
    return root


def keys(vm, text):
    """Type as people do: the BIOS's console shows each key before it takes the next."""
    for c in text:
        vm.child.send(c)
        vm.child.expect(re.escape(c))
    vm.child.send("\r")


@memtest
def test_memtest_tests(vms):
    vm = vms(["--kernel", MEMTEST, "--append", "console=ttyS0,115200"])
    vm.child.expect("Memtest86")
    vm.child.expect("Status: Testing")
    vm.child.expect(r"#\d+ +\[(?!Address test, walking)", timeout=120 * SLOW)  # the second test
    assert "Errors: 0" in vm.child.before


@pytest.mark.slow
@memtest
@seabios
def test_memtest_starts_from_a_cd(vms, tmp_path):
    if not shutil.which("grub-mkrescue") or not shutil.which("xorriso"):
        pytest.skip("grub-common or xorriso is not installed")
    boot = tmp_path / "tree/boot/grub"
    boot.mkdir(parents=True)
    shutil.copy(MEMTEST, tmp_path / "tree/memtest")
    (boot / "grub.cfg").write_text("linux16 /memtest console=ttyS0,115200\nboot\n")
    iso = tmp_path / "memtest.iso"
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", iso, tmp_path / "tree"], check=True,
                   capture_output=True)
    vm = vms([str(iso)])
    vm.child.expect("Memtest86")
    vm.child.expect("Status: Testing")


@ipxe
@seabios
@pytest.mark.parametrize("model", ["virtio", "e1000"])
def test_ipxe_has_a_shell(vms, model):
    vm = vms(["--firmware", "bios", "--net", f"user,model={model}", "--set", "net0.rom=ipxe"])
    vm.child.expect("Ctrl-B for the iPXE command line")
    vm.child.send("\x02")
    vm.child.expect("iPXE> ")
    keys(vm, "dhcp")
    vm.child.expect("iPXE> ")
    keys(vm, "echo =${net0/dns}=")
    vm.child.expect("=10.0.2.3=")


@ipxe
@seabios
def test_the_installer_by_pxe_and_bios(vms, tmp_path):
    vm = vms(["--memory", "1G", "--firmware", "bios", "--net", "user,model=e1000", "--set", "net0.rom=ipxe", "--set",
              f"net0.tftp={installer(tmp_path)}", "--set", "net0.bootfile=pxelinux.0"])
    vm.child.expect("Select a language", timeout=300 * SLOW)


@pytest.mark.slow
@ovmf
def test_the_installer_by_pxe_and_uefi(vms, tmp_path):
    vm = vms(["--memory", "1G", "--firmware", "uefi", "--net", "user", "--set", f"net0.tftp={installer(tmp_path)}",
              "--set", "net0.bootfile=debian-installer/amd64/bootnetx64.efi"])
    vm.child.expect("Select a language", timeout=300 * SLOW)


def xen(vms, *more, append=""):
    files = fetched("xen")
    modules = f"{files}/vmlinuz console=hvc0,{files}/initrd.img"
    return vms(["--memory", "1G", "--kernel", f"{files}/xen", "--append", f"console=com1 com1=115200 {append}",
                "--initrd", modules, *more])


def test_xen_and_its_dom0(vms):
    vm = xen(vms, "--cpus", "2")
    vm.child.expect("Brought up 2 CPUs")
    vm.child.expect("Linux version", timeout=180 * SLOW)
    vm.child.expect("no root disk: a shell", timeout=180 * SLOW)
    vm.boot()
    assert vm.sh("cat /sys/hypervisor/type") == "xen"


@pytest.mark.slow
def test_xen_uses_the_hpet(vms):
    vm = xen(vms, "--device", "hpet", append="clocksource=hpet")
    vm.child.expect("Platform timer is 100.000MHz HPET")
    vm.child.expect("Linux version", timeout=180 * SLOW)


@pytest.mark.parametrize("engine", [pytest.param("interp", marks=pytest.mark.slow), "jit"])
def test_a_32_bit_kernel(vms, tmp_path, engine):
    files = fetched("i686")
    disk = tmp_path / "disk.img"
    subprocess.run(["cp", "--sparse=always", f"{files}/disk.img", disk], check=True)
    vm = vms(["--kernel", f"{files}/vmlinuz", "--initrd", f"{files}/initrd.img", "--append",
              "console=ttyS0 quiet root=/dev/vda", "--disk", str(disk), "--net", "user", "--cpus", "2", "--engine", engine])
    vm.child.expect(vm.prompt, timeout=180 * SLOW)
    assert vm.sh("uname -m; nproc; awk '$2 == \"/\" { print $1 }' /proc/mounts | tail -1").split() == ["i686", "2", "/dev/vda"]
    vm.child.sendline("poweroff")
    assert vm.wait() == 0
