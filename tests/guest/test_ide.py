"""The IDE function under Debian's kernels: ata_piix with a root disk, sd_mod and sr_mod."""
import hashlib
import os
import subprocess

import pexpect
import pytest

from conftest import SLOW, Guest, guest_files, run_cli
from test_firmware import boot_disk, seabios
from test_virtio import small_fs, sparse  # noqa: F401 (a fixture)

MIB = 1 << 20
GRUB = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso"


def image(path, size, files):
    """A file system with the given files, made without mounting it."""
    tree = f"{path}.d"
    os.makedirs(tree)
    for name, data in files.items():
        with open(os.path.join(tree, name), "wb") as f:
            f.write(data)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", tree, str(path), str(size // 1024)], check=True)
    return str(path)


@pytest.mark.parametrize("kernel", ["busybox", "generic"])
def test_root_on_ide(kernel, tmp_path, vms):
    guest = Guest(guest_files(kernel), str(tmp_path))
    data = os.urandom(3 * MIB)
    cd = image(tmp_path / "cd.iso", 16 * MIB, {"data": data})
    disk = guest.disk()
    vm = vms([*guest.args("quiet root=/dev/sda"), "--cpus", "2", "--disk", f"{disk},bus=ide,serial=SN-0042",
              "--cdrom", cd]).boot()
    assert vm.sh("awk '$2 == \"/\" { print $1 }' /proc/mounts").endswith("/dev/sda")
    assert "SN-0042" in vm.sh("dd if=/sys/block/sda/device/vpd_pg80 bs=1 skip=4 2>/dev/null")
    # The data of the CD by DMA, and a copy on the disk that is read back from there.
    vm.sh("mount -t ext4 -o ro /dev/sr0 /mnt && cp /mnt/data /data && sync && echo 3 >/proc/sys/vm/drop_caches")
    assert hashlib.sha256(data).hexdigest() in vm.sh("sha256sum /data")
    assert vm.sh("cat /sys/class/ata_device/dev[12].0/dma_mode").split() == ["XFER_MW_DMA_2", "XFER_MW_DMA_2"]
    # Nothing that a driver complains about: timeouts, resets, refused commands.
    assert vm.sh("dmesg | grep -E 'ata[0-9.]+: .*(exception|failed|reset|error|lost)|I/O error|irq .*nobody'") == ""
    # The driver opens the tray when the last user goes, and closes it for the next one if it may.
    look = "dd if=/dev/sr0 of=/dev/null count=1"
    vm.sh(f"umount /mnt; cd /proc/sys/dev/cdrom; echo 0 >autoclose; echo 1 >autoeject; cd; {look}")
    assert vm.status == 0
    vm.sh(look)
    assert vm.status != 0
    vm.sh(f"cd /proc/sys/dev/cdrom; echo 1 >autoclose; echo 0 >autoeject; cd; {look}")
    assert vm.status == 0
    vm.child.sendline("poweroff")
    assert vm.wait() == 0
    # What was written has arrived.
    got = subprocess.run(["debugfs", "-R", "cat /data", disk], capture_output=True).stdout
    assert got == data


def test_saved_while_it_writes(tmp_path, vms):
    guest = Guest(guest_files("busybox"), str(tmp_path))
    disk, state = guest.disk(), str(tmp_path / "state")
    vm = vms([*guest.args("quiet root=/dev/sda"), "--disk", f"{disk},bus=ide", "--cdrom", "none"]).boot()
    vm.sh("(n=0; while [ $n -lt 60 ]; do dd if=/dev/urandom of=/f$n bs=64k count=8 conv=fsync 2>/dev/null; "
          "sha256sum /f$n >>/sums; n=$((n + 1)); done; echo over >/over) & true")
    r = run_cli("save", vm.name, state)
    assert r.returncode == 0, r.stderr
    vm.wait()
    vm = vms([state], command="restore")
    vm.child.sendline("")
    vm.boot()
    vm.sh("while [ ! -e /over ]; do sleep 1; done; sync; echo 3 >/proc/sys/vm/drop_caches")
    assert vm.sh("sha256sum -c /sums | grep -c OK") == "60"
    assert vm.sh("dmesg | grep -E 'ata[0-9.]+: .*(exception|failed|reset|lost)|I/O error'") == ""
    vm.child.sendline("poweroff")
    assert vm.wait() == 0


def test_writes_wait_for_space_on_the_host(busybox, vms, small_fs):  # noqa: F811
    disk = sparse(f"{small_fs}/disk.img", 32 * MIB)
    vm = vms([*busybox.args("quiet"), "--disk", f"{disk},format=raw,bus=ide"]).boot()
    q = vm.qmp()
    write = "dd if=/dev/urandom of=/dev/sda bs=1M count=12 conv=fsync 2>/dev/null && echo WRIT''TEN"
    vm.child.sendline(write)
    q.event("STOP")
    assert q.execute("query-status")["status"] == "io-error"
    subprocess.run(["mount", "-o", "remount,size=64m", small_fs], check=True)
    q.event("RESUME")
    vm.child.expect("WRITTEN")
    vm.child.expect(vm.prompt)
    assert vm.sh("dmesg | grep -E 'ata1.*(exception|reset|failed)|I/O error'") == ""
    # A reset drops the writes that wait.
    os.truncate(disk, 0)
    os.truncate(disk, 32 * MIB)
    subprocess.run(["mount", "-o", "remount,size=8m", small_fs], check=True)
    vm.child.sendline(write)
    q.event("STOP")
    q.execute("system_reset")
    vm.boot()
    assert q.execute("query-status")["status"] == "running"


def test_errors(tmp_path):
    short = tmp_path / "short.iso"
    short.write_bytes(b"x" * 1000)
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"x" * 1024)
    kernel = ["--kernel", "/nonexistent"]
    for args, text in (
        (["--cdrom", str(short)], "is shorter than a sector of a CD-ROM (2048 bytes)"),
        (["--cdrom", str(tmp_path / "none.iso")], "none.iso: no such file\n"),
        (["--cdrom", f"{short},addr=4"], "cdrom0.addr"),
        (["--disk", f"{disk},bus=ide,serial=012345678901234567890"], "is longer than 20 characters"),
        (["--disk", f"{disk},bus=scsi"], "is not one of pci, mmio, ide"),
        (["--cdrom", "none"] * 5, "the four IDE drives are taken"),
        (["--cdrom", "none,addr=1", "--cdrom", "none,addr=1"], "another IDE drive's place"),
    ):
        r = run_cli("run", *args, *kernel)
        assert r.returncode == 1 and text in r.stderr and r.stderr.count("\n") == 1, (args, r.stderr)


@seabios
def test_seabios_starts_an_ide_disk(tmp_path):
    r = run_cli("run", "--firmware", "bios", "--disk", f"{boot_disk(tmp_path)},format=raw,bus=ide", "--device",
                "isa-debug-exit")
    assert "boot sector 80" in r.stdout and r.returncode == 1, r.stdout + r.stderr


@seabios
@pytest.mark.skipif(not os.path.exists(GRUB), reason="the package grub-rescue-pc is not installed")
def test_grub_from_a_cdrom(tmp_path, vms):
    """SeaBIOS reads the CD, and GRUB through SeaBIOS the CD and a disk."""
    disk = image(tmp_path / "disk.img", 8 * MIB, {"word": b"readable"})
    vm = vms(["--firmware", "bios", "--cdrom", GRUB, "--disk", f"{disk},format=raw,bus=ide"], prompt="grub> ")
    # Long lines of the screen come in pieces with positions between them.
    vm.child.expect("GNU GRUB")
    # On a busy host the menu may have begun to boot before it sees the key, and comes back.
    for _ in range(12):
        vm.child.send("c")
        if vm.child.expect(["grub> ", pexpect.TIMEOUT], timeout=5 * SLOW) == 0:
            break
    for command, answer in (("ls", r"\(cd\)"), ("cat (hd0)/word", "readable"), ("ls (cd)/boot/grub", "i386-pc")):
        for key in "\x15" + command:  # the firmware polls a FIFO of 16 bytes: none before the one before is shown
            vm.child.send(key)
            if key != "\x15":
                vm.child.expect_exact(key)
        vm.child.send("\r")
        vm.child.expect(answer)
        vm.child.expect("grub> ")
