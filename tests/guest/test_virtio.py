"""The virtio devices under the Debian cloud kernel, over PCI and over MMIO.

One machine for each bus serves all tests of devices: it has one of each, and each test takes its own part of it.
"""
import hashlib
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest

import programs
from conftest import SLOW, Guest, Vm, guest_files, run_cli
from hostweb import HostWeb

MIB = 1 << 20


def sparse(path, size):
    with open(path, "wb") as f:
        f.truncate(size)
    return str(path)


def allocated(path):
    return os.stat(path).st_blocks * 512


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def until(fn, timeout=30):
    end = time.monotonic() + timeout * SLOW
    while not fn():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# --- one machine with one of each ---

ODD = 20000 * 512 + 3 * 512  # no multiple of the 4 KiB that hosts like


class Machine:
    """vda: root, on PCI; vdb: data; vdc: read-only, one queue; vdd: a size that ends in a page; vde: a file system."""

    def __init__(self, bus, tmp):
        self.bus, self.tmp = bus, tmp
        guest = Guest(guest_files("busybox"), str(tmp))
        self.data = sparse(tmp / "data.img", 96 * MIB)
        self.ro = str(tmp / "ro.img")
        with open(self.ro, "wb") as f:
            f.write(os.urandom(MIB))
        self.odd = sparse(tmp / "odd.img", ODD)
        self.fs = sparse(tmp / "fs.img", 24 * MIB)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-E", "nodiscard,lazy_itable_init=0", self.fs], check=True)
        self.out = tmp / "console.out"
        (tmp / "web").mkdir()
        self.web = HostWeb(tmp / "web")
        self.port = free_port()
        self.vm = Vm([*guest.args(), "--cpus", "2", "--memory", "512M",
                      "--disk", f"{guest.image},readonly=on", "--serial", "stdio",
                      "--disk", f"{self.data},serial=SERIAL-0001,bus={bus}",
                      "--disk", f"{self.ro},readonly=on,queues=1,bus={bus}",
                      "--disk", f"{self.odd},bus={bus}", "--disk", f"{self.fs},bus={bus}",
                      "--net", f"user,mac=52:54:00:ab:cd:ef,hostfwd=tcp::{self.port}-:80,bus={bus}",
                      "--console", f"file:{self.out}", "--set", f"console0.bus={bus}", "--set", "agent=socket",
                      "--set", f"rng.bus={bus}", "--set", "balloon=on", "--set", f"balloon.bus={bus}"]).boot()

    def close(self):
        self.vm.kill()
        self.web.close()

    def put(self, name, data):
        """A file for the guest: its address."""
        (self.tmp / "web" / name).write_bytes(data)
        return f"{self.web.url}/{name}"

    def rss(self):
        with open(f"/proc/{self.vm.child.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+) kB", f.read())[1]) * 1024

    def features(self, kind):
        """The bits that the guest's driver and the device agreed on; `kind` is the virtio id."""
        text = self.vm.sh(f"(cd /sys/bus/virtio/devices; for d in *; do [ $(cat $d/device) = 0x{kind:04x} ] && "
                          "echo f=$(cat $d/features); done)")
        return {n for n, c in enumerate(re.search(r"f=([01]+)", text)[1]) if c == "1"}


@pytest.fixture(scope="module", params=["pci", "mmio"])
def machine(request, tmp_path_factory):
    made = Machine(request.param, tmp_path_factory.mktemp(request.param))
    yield made
    made.close()


F_EVENT_IDX, F_VERSION_1, F_PACKED = 29, 32, 34


def test_every_device_is_on_the_bus_that_was_asked_for(machine):
    paths = machine.vm.sh("(cd /sys/bus/virtio/devices; for d in *; do readlink -f $d; done)").split()
    # Four disks, network, console, rng, balloon; the root disk is always on PCI.
    assert len(paths) == 9
    where = "/platform/LNRO0005:" if machine.bus == "mmio" else "/pci0000:00/"
    assert sum(where in p for p in paths) == (8 if machine.bus == "mmio" else 9), paths
    # What the DSDT says of them is what there is, and no more.
    devices = machine.vm.sh("cat /sys/bus/acpi/devices/*/hid").split()
    assert devices.count("LNRO0005") == (8 if machine.bus == "mmio" else 0)
    drivers = machine.vm.sh("ls -d /sys/bus/virtio/drivers/*/virtio* | wc -l")
    assert drivers == "9"
    assert machine.vm.sh("dmesg -r | grep '^<[0-4]>' | grep -i virtio") == ""
    if machine.bus == "mmio":
        assert "virtio" in machine.vm.sh("grep IO-APIC.*virtio /proc/interrupts")
    else:
        assert int(machine.vm.sh("grep -c PCI-MSI.*virtio /proc/interrupts")) >= 20
    for kind in (1, 2, 3, 4, 5):
        assert {F_VERSION_1, F_EVENT_IDX, F_PACKED} <= machine.features(kind)


# --- disks ---


def test_what_the_guest_writes_is_in_the_file(machine):
    data = os.urandom(6 * MIB)
    url = machine.put("pattern", data)
    vm = machine.vm
    assert vm.sh(f"wget -qO /tmp/pattern {url}; dd if=/tmp/pattern of=/dev/vdb bs=64k seek=16 conv=fsync 2>/dev/null") == ""
    with open(machine.data, "rb") as f:
        f.seek(MIB)
        assert sha256(f.read(len(data))) == sha256(data)
    # And back from the file, not from the guest's cache.
    vm.sh("rm /tmp/pattern; echo 3 > /proc/sys/vm/drop_caches")
    assert sha256(data) in vm.sh("dd if=/dev/vdb bs=1M skip=1 count=6 2>/dev/null | sha256sum")
    # In pieces that are no multiple of a page, from both CPUs at once.
    with open(machine.data, "r+b") as f:
        f.seek(32 * MIB)
        f.write(data)
    vm.sh("for c in 1 2; do taskset $c sh -c 'dd if=/dev/vdb bs=512 skip=65537 count=5001 2>/dev/null | sha256sum' > /tmp/s$c & "
          "done; wait")
    assert vm.sh("cat /tmp/s1 /tmp/s2").count(sha256(data[512:5002 * 512])) == 2


def test_disk_properties(machine):
    vm = machine.vm
    assert vm.sh("cat /sys/block/vdb/serial") == "SERIAL-0001"
    assert vm.sh("ls /sys/block/vdb/mq").split() == ["0", "1"]
    assert vm.sh("ls /sys/block/vdc/mq").split() == ["0"]
    assert vm.sh("cat /sys/block/vdb/queue/write_cache") == "write back"
    assert int(vm.sh("cat /sys/block/vdb/size")) == 96 * MIB // 512
    flush, discard, zeroes, mq, ro = 9, 13, 14, 12, 5
    bits = vm.sh("cat /sys/block/vdb/device/features")
    assert [bits[n] for n in (flush, discard, zeroes, mq, ro)] == ["1", "1", "1", "1", "0"]
    bits = vm.sh("cat /sys/block/vdc/device/features")
    assert [bits[n] for n in (discard, zeroes, mq, ro)] == ["0", "0", "0", "1"]


def test_flush(machine):
    def flushes():
        return int(machine.vm.sh("cat /sys/block/vdb/stat").split()[15])

    before = flushes()
    assert machine.vm.sh("dd if=/dev/zero of=/dev/vdb bs=4k count=1 conv=fsync 2>/dev/null; echo $?") == "0"
    assert flushes() > before


def test_both_queues_carry_requests(machine):
    if machine.bus == "mmio":
        pytest.skip("a device on MMIO has one interrupt: what a queue carries does not show")
    vm = machine.vm
    vm.sh("echo 3 > /proc/sys/vm/drop_caches; "
          "for c in 1 2; do taskset $c dd if=/dev/vdb of=/dev/null bs=64k count=64 skip=$((c * 100)) 2>/dev/null; done")
    name = vm.sh("basename $(readlink /sys/block/vdb/device)")
    rows = vm.sh(f"grep {name}-req /proc/interrupts").splitlines()
    assert len(rows) == 2
    assert all(sum(int(n) for n in row.split()[1:3]) >= 16 for row in rows), rows


def test_discard_gives_space_back(machine):
    vm = machine.vm
    assert vm.sh("dd if=/dev/urandom of=/dev/vdb bs=1M seek=64 count=8 conv=fsync 2>/dev/null; echo $?") == "0"
    full = allocated(machine.data)
    assert vm.sh(f"blkdiscard -o {64 * MIB} -l {8 * MIB} /dev/vdb; echo $?") == "0"
    assert full - allocated(machine.data) >= 8 * MIB
    with open(machine.data, "rb") as f:
        f.seek(64 * MIB)
        assert f.read(8 * MIB) == bytes(8 * MIB)
    assert os.path.getsize(machine.data) == 96 * MIB


def test_fstrim_gives_space_back(machine):
    vm = machine.vm
    vm.sh("mkdir -p /tmp/fs; mount -t ext4 /dev/vde /tmp/fs; dd if=/dev/urandom of=/tmp/fs/big bs=1M count=12 2>/dev/null; sync")
    full = allocated(machine.fs)
    assert full >= 12 * MIB
    assert vm.sh("rm /tmp/fs/big; sync; fstrim /tmp/fs; echo $?; umount /tmp/fs").splitlines()[-1] == "0"
    assert full - allocated(machine.fs) >= 11 * MIB
    assert subprocess.run(["e2fsck", "-fn", machine.fs], capture_output=True).returncode == 0


def test_write_zeroes(machine):
    vm = machine.vm
    programs.build(programs.ZEROOUT, machine.tmp / "web" / "zeroout", "-static")
    vm.sh(f"wget -qO /tmp/zeroout {machine.web.url}/zeroout; chmod +x /tmp/zeroout")
    for how, freed in (("", 0), ("unmap", 2 * MIB)):
        with open(machine.data, "r+b") as f:
            f.seek(48 * MIB)
            f.write(b"\xa5" * 4 * MIB)
        before = allocated(machine.data)
        assert vm.sh(f"/tmp/zeroout /dev/vdb {48 * MIB + 512} {3 * MIB} {how}; echo $?") == "0"
        with open(machine.data, "rb") as f:
            f.seek(48 * MIB)
            assert f.read(4 * MIB) == b"\xa5" * 512 + bytes(3 * MIB) + b"\xa5" * (MIB - 512)
        assert allocated(machine.data) <= before - freed
    assert int(vm.sh("cat /sys/block/vdb/queue/write_zeroes_max_bytes")) >= MIB


def test_a_read_only_disk_refuses_writes(machine):
    with open(machine.ro, "rb") as f:
        before = f.read()
    vm = machine.vm
    assert vm.sh("cat /sys/block/vdc/ro") == "1"
    assert sha256(before) in vm.sh("sha256sum /dev/vdc")
    assert vm.sh("dd if=/dev/zero of=/dev/vdc bs=4k count=1 conv=fsync 2>/dev/null; echo $?") == "1"
    # The guest takes its own lock away: the device is still one.
    vm.sh("blockdev --setrw /dev/vdc; dd if=/dev/zero of=/dev/vdc bs=4k count=1 conv=fsync 2>/dev/null; blkdiscard /dev/vdc 2>/dev/null")
    with open(machine.ro, "rb") as f:
        assert f.read() == before


def test_a_size_that_ends_within_a_page(machine):
    vm = machine.vm
    assert vm.sh("cat /sys/block/vdd/size") == str(ODD // 512)
    last = ODD // 512 - 1
    assert vm.sh(f"echo the very last sector | dd of=/dev/vdd bs=512 seek={last} conv=sync,fsync 2>/dev/null; echo $?") == "0"
    with open(machine.odd, "rb") as f:
        f.seek(last * 512)
        assert f.read().startswith(b"the very last sector\n")
    assert os.path.getsize(machine.odd) == ODD
    # None behind it.
    assert vm.sh(f"echo x | dd of=/dev/vdd bs=512 seek={last + 1} 2>/dev/null; echo $?") == "1"
    assert vm.sh("echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/vdd bs=4k 2>/dev/null | wc -c") == str(ODD)
    assert os.path.getsize(machine.odd) == ODD


# --- network ---


def test_dhcp_and_address(machine):
    vm = machine.vm
    assert vm.sh("cat /sys/class/net/eth0/address") == "52:54:00:ab:cd:ef"
    assert "inet 10.0.2.15/24" in vm.sh("ip addr show eth0")
    assert "default via 10.0.2.2" in vm.sh("ip route")
    assert vm.sh("cat /sys/class/net/eth0/carrier") == "1"


def test_download_and_upload(machine):
    vm = machine.vm
    data = os.urandom(5 * MIB)
    url = machine.put("blob", data)
    assert sha256(data) in vm.sh(f"wget -qO /tmp/blob {url}; sha256sum /tmp/blob")
    assert "200 OK" in vm.sh(
        f"{{ printf 'POST /up HTTP/1.0\\r\\nContent-Length: {len(data)}\\r\\n\\r\\n'; cat /tmp/blob; }} | "
        f"nc 10.0.2.2 {machine.web.port} | head -n 1; rm /tmp/blob")
    assert machine.web.got["/up"] == sha256(data)


def test_forwarded_port_and_offloads(machine):
    csum, guest_csum, mac, tso4, tso6, mergeable, status = 0, 1, 5, 11, 12, 15, 16
    assert {csum, guest_csum, mac, tso4, tso6, mergeable, status} <= machine.features(1)
    vm = machine.vm
    vm.sh("mkdir -p /tmp/srv; dd if=/dev/urandom of=/tmp/srv/f bs=1M count=4 2>/dev/null; httpd -p 80 -h /tmp/srv")
    want = vm.sh("sha256sum /tmp/srv/f").split()[0]

    def sent():
        return [int(n) for n in vm.sh("(cd /sys/class/net/eth0/statistics; cat tx_packets tx_bytes)").split()]

    before = sent()
    with urllib.request.urlopen(f"http://127.0.0.1:{machine.port}/f", timeout=60 * SLOW) as r:
        assert sha256(r.read()) == want
    packets, octets = (now - then for now, then in zip(sent(), before))
    vm.sh("killall httpd; rm -r /tmp/srv")
    # Segments far above the MTU left the guest, which has no need to cut them.
    assert octets > 4 * MIB and octets / packets > 3000, (packets, octets)


# --- console ports ---


def test_console(machine):
    machine.vm.sh("(stty raw; seq 1 20000) < /dev/hvc0 > /dev/hvc0")
    want = b"".join(b"%d\n" % n for n in range(1, 20001))
    until(lambda: machine.out.read_bytes().endswith(want[-100:]))
    assert machine.out.read_bytes().endswith(want)


def test_agent_port(machine):
    vm = machine.vm
    port = vm.sh("grep -l org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name | cut -d/ -f5")
    assert re.fullmatch(r"vport\dp1", port)
    data = os.urandom(300_000)
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60 * SLOW)
        s.connect(os.path.join(os.environ["XDG_RUNTIME_DIR"], "vireo", vm.name, "agent.sock"))
        vm.sh(f"setsid sh -c 'exec 3<>/dev/{port}; head -c {len(data)} <&3 | cat >&3' </dev/null >/dev/null 2>&1 & true")
        got = b""
        at = 0
        s.setblocking(False)
        end = time.monotonic() + 60 * SLOW
        while len(got) < len(data):
            assert time.monotonic() < end, f"{len(got)} of {len(data)} bytes came back"
            try:
                at += s.send(data[at:at + 65536])
            except BlockingIOError:
                pass
            try:
                got += s.recv(1 << 16)
            except BlockingIOError:
                time.sleep(0.005)
    assert got == data


# --- entropy and memory ---


def test_hwrng(machine):
    vm = machine.vm
    assert vm.sh("cat /sys/class/misc/hw_random/rng_current") == "virtio_rng.0"
    # What does not come from a good source repeats itself or has long runs.
    read = "dd if=/dev/hwrng bs=4096 count=8 iflag=fullblock 2>/dev/null"
    assert vm.sh(f"{read} | wc -c") == "32768"
    assert vm.sh(f"{read} | sha256sum") != vm.sh(f"{read} | sha256sum")
    assert int(vm.sh(f"{read} | gzip | wc -c")) > 32768


def test_free_pages_are_reported(machine):
    vm = machine.vm
    reporting = 5
    assert reporting in machine.features(5)
    before = machine.rss()
    vm.sh("dd if=/dev/zero of=/tmp/big bs=1M count=160 2>/dev/null")
    full = machine.rss()
    assert full - before > 100 * MIB
    vm.sh("rm /tmp/big")
    # The guest waits two seconds before it tells.
    until(lambda: full - machine.rss() > 120 * MIB)


def test_balloon(machine):
    q = machine.vm.qmp()
    size = q.execute("query-balloon")["actual"]
    assert size == 512 * MIB
    free = int(machine.vm.sh("awk '/MemFree/ { print $2 }' /proc/meminfo")) * 1024
    q.execute("balloon", value=384 * MIB)
    until(lambda: q.execute("query-balloon")["actual"] == 384 * MIB)
    assert free - int(machine.vm.sh("awk '/MemFree/ { print $2 }' /proc/meminfo")) * 1024 > 110 * MIB
    q.execute("balloon", value=512 * MIB)
    until(lambda: q.execute("query-balloon")["actual"] == 512 * MIB)


# --- the host's disk is full ---


def boot(busybox, vms, *more, cpus=1, bus="pci"):
    """From the root disk, which is also vda."""
    return vms([*busybox.args(), "--cpus", str(cpus), "--disk", f"{busybox.disk()},bus={bus}", *more]).boot()


@pytest.fixture
def small_fs(tmp_path):
    """A file system of 8 MiB."""
    at = tmp_path / "small"
    at.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", at], capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    yield at
    subprocess.run(["umount", "-l", at], check=True)


def test_guest_waits_for_space_on_the_host(busybox, vms, small_fs, tmp_path):
    disk = sparse(small_fs / "disk.img", 64 * MIB)
    ballast = small_fs / "ballast"
    ballast.write_bytes(b"x" * 5 * MIB)
    vm = boot(busybox, vms, "--disk", disk)
    q = vm.qmp()
    vm.child.sendline("dd if=/dev/vda of=/dev/vdb bs=64k count=96 conv=fsync; echo STATUS-$?")
    until(lambda: q.execute("query-status")["status"] == "io-error")
    assert "no space" in q.ask("cont")["error"]["desc"]
    r = run_cli("save", vm.name, str(tmp_path / "state"))
    assert r.returncode == 1 and "no space" in r.stderr
    assert q.execute("query-status")["status"] == "io-error"
    q.execute("stop")
    assert q.execute("query-status")["status"] == "paused"
    ballast.unlink()
    time.sleep(1)
    assert q.execute("query-status")["status"] == "paused"  # who stopped it lets it go on
    q.ask("cont")
    until(lambda: q.execute("query-status")["status"] == "running")
    vm.child.expect("STATUS-0")
    vm.child.sendline("poweroff")
    assert vm.wait() == 0
    with open(disk, "rb") as f, open(busybox.image, "rb") as g:
        # The root file system was in use: compare what lies beyond its first blocks.
        f.seek(4 * MIB)
        g.seek(4 * MIB)
        assert hashlib.md5(f.read(2 * MIB)).digest() == hashlib.md5(g.read(2 * MIB)).digest()


# --- a disk that is elsewhere ---


@pytest.mark.skipif(not shutil.which("qemu-nbd"), reason="qemu-nbd is not installed")
def test_a_disk_of_an_nbd_server(busybox, vms, tmp_path):
    image, sock = tmp_path / "export.img", tmp_path / "nbd.sock"
    image.write_bytes(os.urandom(4 * MIB))
    was = image.read_bytes()
    server = subprocess.Popen(["qemu-nbd", "-f", "raw", "-k", sock, image])
    until(sock.exists)
    try:
        vm = boot(busybox, vms, "--disk", f"nbd+unix:///?socket={sock}")
        vm.child.sendline("sha256sum < /dev/vdb; dd if=/dev/zero of=/dev/vdb bs=64k seek=16 count=16 conv=fsync,notrunc; echo STATUS-$?")
        vm.child.expect("([0-9a-f]{64}) ")
        assert vm.child.match[1] == sha256(was)
        vm.child.expect("STATUS-0")
        vm.child.sendline("poweroff")
        assert vm.wait() == 0
        server.wait(10)  # it ends with its only client
        assert image.read_bytes() == was[:MIB] + bytes(MIB) + was[2 * MIB:]
    finally:
        server.kill()
