"""Boots of Debian's kernels: every way in, every way out."""
import gzip
import lzma
import os
import re
import shutil
import subprocess

import pytest

import kernels
from conftest import Guest, guest_files, run_cli, warnings


def report(guest, *options, timeout=120):
    r = run_cli("run", *guest.args("quiet vireo.report readonly"), *options, timeout=timeout)
    assert r.returncode == 0, r.stdout[-2000:] + r.stderr
    return dict(re.findall(r"^(\w+): +(.*?)\r?$", r.stdout, re.M)), r


@pytest.fixture
def generic(tmp_path):
    return Guest(guest_files("generic"), str(tmp_path))


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_report_from_disk(busybox, cpus):
    got, _ = report(busybox, "--cpus", str(cpus), "--disk", f"{busybox.image},readonly=on", "--net", "user")
    assert got["kernel"].startswith("Linux 6.")
    assert got["cpus"].startswith(f"{cpus} ")
    assert got["disk"] == "vda 64 MiB, root ext4"
    assert got["network"] == "eth0 10.0.2.15/24"


@pytest.mark.slow
def test_generic_kernel_from_disk(generic):
    got, _ = report(generic, "--cpus", "2", "--disk", f"{generic.image},readonly=on", "--net", "user", timeout=240)
    assert re.match(r"Linux 6\.[0-9.]+-[0-9]+-amd64$", got["kernel"])
    assert got["cpus"].startswith("2 ")
    assert got["disk"] == "vda 64 MiB, root ext4"
    assert got["network"] == "eth0 10.0.2.15/24"


def test_memory_above_the_pci_hole(busybox):
    got, _ = report(busybox, "--memory", "4G", "--disk", f"{busybox.image},readonly=on")
    assert int(got["memory"].split()[0]) > 3800


def test_virtio_mmio(busybox):
    got, _ = report(busybox, "--disk", f"{busybox.image},readonly=on,bus=mmio", "--net", "user,bus=mmio")
    assert got["disk"] == "vda 64 MiB, root ext4"
    assert got["network"] == "eth0 10.0.2.15/24"


def test_threads_instead_of_io_uring(busybox):
    got, _ = report(busybox, "--disk", f"{busybox.image},readonly=on,aio=threads")
    assert got["disk"] == "vda 64 MiB, root ext4"


def test_stats_count_instructions(busybox):
    _, r = report(busybox, "--disk", f"{busybox.image},readonly=on", "--stats")
    assert int(re.search(r"cpu0\.instructions +(\d+)", r.stderr).group(1)) > 100_000_000


# --- the forms of a kernel ---


@pytest.mark.parametrize("form", ["pvh", "elf64", "bzimage32"])
def test_other_forms_of_the_kernel(busybox, tmp_path, form):
    make = {
        "pvh": lambda: kernels.vmlinux(busybox.kernel),
        "elf64": lambda: kernels.without_pvh(kernels.vmlinux(busybox.kernel)),
        "bzimage32": lambda: kernels.without_64_bit_entry(busybox.kernel),
    }[form]
    path = tmp_path / form
    path.write_bytes(make())
    busybox.kernel = str(path)
    got, _ = report(busybox, "--disk", f"{busybox.image},readonly=on")
    assert got["kernel"].startswith("Linux 6.")
    assert got["disk"] == "vda 64 MiB, root ext4"


def test_compressed_vmlinux_is_named_for_what_it_is(busybox, tmp_path):
    path = tmp_path / "vmlinux.gz"
    path.write_bytes(gzip.compress(kernels.vmlinux(busybox.kernel)[:1_000_000], 1))
    r = run_cli("run", "--kernel", str(path))
    assert r.returncode == 1 and "gzip -dc" in r.stderr


# --- what the guest sees of the machine ---

COMPLAINTS = r"ACPI.*(Error|Warning|BIOS)|[Ff]irmware [Bb]ug|WARNING:|BUG:|Call Trace|[Uu]nable to|conflict|can't claim"


def test_the_kernel_has_nothing_to_complain_about(busybox, vms):
    vm = vms([*busybox.args(), "--cpus", "2", "--disk", f"{busybox.image},readonly=on,bus=mmio", "--net", "user",
              "--set", "serial1=null", "--uuid", "00112233-4455-6677-8899-aabbccddeeff"]).boot()
    assert warnings(vm) == ""
    log = vm.sh("dmesg")
    assert "ACPI: Interpreter enabled" in log
    assert not [line for line in log.splitlines() if re.search(COMPLAINTS, line)]
    # The DSDT: processors, serial ports, virtio-mmio, the windows of the PCI bus.
    devices = vm.sh("cat /sys/bus/acpi/devices/*/hid").split()
    assert devices.count("ACPI0007") == 2
    assert devices.count("PNP0501") == 2
    assert devices.count("LNRO0005") >= 1
    memory = vm.sh("cat /proc/iomem")
    assert re.search(r"c0000000-feafffff : PCI Bus 0000:00", memory)
    assert re.search(r"^[1-9a-f][0-9a-f]{9,}-[0-9a-f]+ : PCI Bus 0000:00", memory, re.M)
    assert re.search(r"\b9: .*acpi", vm.sh("cat /proc/interrupts"))
    # SMBIOS.
    assert vm.sh("cat /sys/class/dmi/id/product_uuid") == "00112233-4455-6677-8899-aabbccddeeff"
    assert vm.sh("cat /sys/class/dmi/id/sys_vendor") == "Vireo"


@pytest.mark.slow
def test_the_generic_kernel_has_nothing_to_complain_about(generic, vms):
    vm = vms([*generic.args(), "--cpus", "2", "--disk", f"{generic.image},readonly=on", "--net", "user"])
    vm.child.expect(vm.prompt, timeout=400)
    assert warnings(vm) == ""


# --- the ways out ---


def test_initramfs_only(busybox, vms):
    vm = vms(busybox.args()).boot()
    assert "Linux" in vm.sh("uname -a")
    vm.child.sendline("poweroff -f")
    assert vm.wait() == 0


@pytest.mark.slow
@pytest.mark.parametrize("root", ["initramfs", "disk"])
@pytest.mark.parametrize("cpus", [1, 2, 4])
@pytest.mark.parametrize("kernel", ["busybox", "generic"])
def test_boot_reboot_and_power_off(kernel, cpus, root, tmp_path, vms):
    guest = Guest(guest_files(kernel), str(tmp_path))
    disk = ["--disk", guest.disk()] if root == "disk" else []
    force = "" if root == "disk" else " -f"
    vm = vms([*guest.args(), "--cpus", str(cpus), *disk])
    for end in ("reboot", "poweroff"):
        vm.child.expect("Welcome to" if root == "disk" else "no root disk", timeout=400)
        vm.boot()
        assert vm.sh("nproc") == str(cpus)
        assert vm.sh("awk '$2 == \"/\" { print $3 }' /proc/mounts") == ("ext4" if root == "disk" else "rootfs")
        vm.child.sendline(end + force)
    assert vm.wait(120) == 0


def test_kernel_panic_with_reset_ends_with_no_reboot(busybox):
    r = run_cli("run", "--kernel", busybox.kernel, "--append", "console=ttyS0 panic=-1", "--no-reboot", timeout=120)
    assert r.returncode == 0
    assert "Kernel panic" in r.stdout


def test_an_init_that_dies_is_a_panic_and_a_reset(busybox, vms):
    vm = vms(["--kernel", busybox.kernel, "--initrd", busybox.initrd, "--append",
              "console=ttyS0 quiet panic=-1 rdinit=/bin/busybox -- false"])
    for _ in range(2):
        vm.child.expect("Kernel panic - not syncing: Attempted to kill init!")
    vm.child.send("\x01x")
    assert vm.wait() == 0


# --- initrds that are not whole ---


def truncated(busybox, form, tmp_path):
    with open(busybox.initrd, "rb") as f:
        data = f.read()
    packed = {
        "cpio": lambda: data,
        "gzip": lambda: gzip.compress(data, 1),
        "xz": lambda: lzma.compress(data, check=lzma.CHECK_CRC32, preset=0),
        "zstd": lambda: subprocess.run(["zstd", "-1c"], input=data, capture_output=True, check=True).stdout,
    }[form]()
    path = tmp_path / f"initrd.{form}"
    path.write_bytes(packed[:len(packed) * 2 // 3])
    return str(path)


@pytest.mark.parametrize("form", ["cpio", "gzip", "xz", "zstd"])
def test_truncated_initrd(busybox, tmp_path, form):
    path = truncated(busybox, form, tmp_path)
    disk = tmp_path / "disk.img"
    shutil.copy(busybox.image, disk)
    before = disk.read_bytes()
    r = run_cli("run", "--kernel", busybox.kernel, "--initrd", path, "--append", "console=ttyS0", "--disk", str(disk))
    assert r.returncode == 1
    lines = r.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("vireo: ") and lines[0].endswith(f"{path} is truncated"), r.stderr
    assert disk.read_bytes() == before


@pytest.mark.parametrize("what", ["directory", "fifo", "device", "empty"])
@pytest.mark.parametrize("role", ["kernel", "initrd"])
def test_odd_files(busybox, tmp_path, what, role):
    path = tmp_path / what
    {"directory": path.mkdir, "fifo": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/zero"),
     "empty": path.touch}[what]()
    files = {"kernel": busybox.kernel, "initrd": busybox.initrd, role: str(path)}
    r = run_cli("run", "--kernel", files["kernel"], "--initrd", files["initrd"], timeout=20)
    assert r.returncode == 1
    lines = r.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"vireo: {role}: {path} is "), r.stderr


@pytest.mark.parametrize("memory", ["8M", "40M", "56M"])
def test_too_little_memory(busybox, memory):
    r = run_cli("run", "--kernel", busybox.kernel, "--initrd", busybox.initrd, "--memory", memory)
    assert r.returncode == 1
    lines = r.stderr.strip().splitlines()
    assert len(lines) == 1 and "give the guest more with --memory" in lines[0], r.stderr


# --- multiboot ---


def test_multiboot_finds_what_firmware_leaves(tmp_path):
    kernel = tmp_path / "kernel.bin"
    subprocess.run(["nasm", "-f", "bin", "-o", kernel, os.path.join(os.path.dirname(__file__), "multiboot.asm")], check=True)
    (tmp_path / "one").write_bytes(b"first\0")
    (tmp_path / "two").write_bytes(b"second\0")
    r = run_cli("run", "--kernel", str(kernel), "--append", "a=1 b", "--initrd", f"{tmp_path}/one x,,y,{tmp_path}/two",
                "--net", "user", "--device", "isa-debug-exit")
    lines = r.stdout.replace("\r", "").splitlines()
    assert lines[-1:] == ["end"], r.stdout + r.stderr
    assert lines[0] == f"cmdline {kernel} a=1 b"
    assert lines[1:3] == [f"module {tmp_path}/one x,y is first", f"module {tmp_path}/two is second"]
    assert "rsdp ok" in lines
    bars = [int(line.split()[2], 16) & ~15 for line in lines if line.startswith("bar ")]
    assert len(bars) >= 2 and len(set(bars)) == len(bars)
    assert all(0xc0000000 <= b < 0xfeb00000 for b in bars)
