"""Machines started by QEMU's command line, by the command and by a link of its name."""
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pexpect
import pytest

import tiny
from conftest import SLOW, VIREO, run_cli, run_file
from hostweb import HostWeb
from test_firmware import assemble, boot_disk, seabios
from test_save import free_port, restored, save_and_end

KERNEL_ARGS = "console=ttyS0 quiet"


@pytest.fixture
def qemu(tmp_path):
    """This program by QEMU's name."""
    link = tmp_path / "bin" / "qemu-system-x86_64"
    link.parent.mkdir()
    link.symlink_to(VIREO)
    return str(link)


def run(qemu, *args, timeout=60, **kw):
    return subprocess.run([qemu, *args], capture_output=True, text=True, timeout=timeout * SLOW,
                          stdin=subprocess.DEVNULL, **kw)


def boot_args(guest, append=KERNEL_ARGS):
    return ["-kernel", guest.kernel, "-initrd", guest.initrd, "-append", append]


def until(what, seconds=60):
    end = time.monotonic() + seconds * SLOW
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_command_and_the_link_are_the_same(qemu, tmp_path):
    for args in (["-version"], ["-help"], ["--help"], ["-device", "help"], ["-device", "?"], ["-machine", "help"],
                 ["-cpu", "help"], ["-accel", "help"], ["-netdev", "help"], ["-chardev", "help"], ["-object", "help"],
                 ["-device", "virtio-blk-pci,help"], ["-M", "pc,?"], ["-d", "help"], ["-display", "help"]):
        a, b = run(qemu, *args), run_cli("qemu-system-x86_64", *args)
        assert a.returncode == 0 and a.stdout and not a.stderr, args
        assert (a.returncode, a.stdout) == (b.returncode, b.stdout)
    kvm = tmp_path / "qemu-kvm"
    kvm.symlink_to(VIREO)
    assert run(str(kvm), "-version").stdout == run(qemu, "-version").stdout


def test_what_scripts_look_for(qemu):
    # kvm-unit-tests takes the fourth word apart at its dots; it and others look for names of devices.
    assert run(qemu, "-version").stdout.startswith("QEMU emulator version 7.2.0 (")
    assert run(qemu, "-h").stdout.splitlines()[0] == run(qemu, "-version").stdout.splitlines()[0]
    # The manual is made of the same table.
    manual = run_cli("--print-qemu-man-page").stdout.replace("\\", "")
    options = [line.split()[0] for line in run(qemu, "-help").stdout.splitlines() if line.startswith("-")]
    assert len(options) > 60 and [o for o in options if f".B {o}" not in manual] == []
    # And so is what is taken: each option is in the list.
    table = (Path(__file__).parents[2] / "src/cli/qemu_options.c").read_text()
    taken = re.findall(r'^\t\{ "([\w-]+)", (?!\.kind = Q_HEADING)', table, re.M)
    assert len(taken) > 80 and [o for o in taken if f"-{o}" not in options] == []
    # A machine that is listed can be asked for.
    for name in [line.split()[0] for line in run(qemu, "-machine", "help").stdout.splitlines()[1:] if line.startswith("pc")]:
        assert run(qemu, "-machine", f"{name},help").returncode == 0
        assert "unsupported machine" not in run(qemu, "-machine", name, "-smp", "0").stderr
    devices = run(qemu, "-device", "help").stdout
    for name in ("virtio-blk-pci", "pc-testdev", "pci-testdev", "isa-debug-exit", "ide-hd"):
        assert f'name "{name}", bus ' in devices
    assert "  iobase=<uint32>" in run(qemu, "-device", "isa-debug-exit,help").stdout


@pytest.mark.parametrize("args,says", [
    (["-foo"], "-foo: invalid option"),
    (["-device", "foo"], "-device foo: 'foo' is not a valid device model name"),
    (["-device", "foo,help"], "-device foo,help: 'foo' is not a valid device model name"),
    (["-kernel", "/no/such"], "could not load kernel '/no/such': kernel: /no/such: No such file or directory"),
    (["-pidfile", "/no/such/pid"], "-pidfile /no/such/pid: pidfile: cannot create PID file: /no/such/pid: "
                                   "No such file or directory"),
    (["-D", "/no/such/log"], "-D /no/such/log: log: /no/such/log: No such file or directory"),
    (["-uuid", "x"], "-uuid x: uuid: 'x' is not of the form 01234567-89ab-cdef-0123-456789abcdef"),
    (["-daemonize", "-serial", "stdio"], "daemonize: serial0 is stdio, which a process in the background does not have"),
])
def test_what_is_wrong_is_one_line_and_status_1(qemu, args, says):
    r = run(qemu, "-display", "none", *args)
    assert (r.returncode, r.stdout) == (1, "")
    assert r.stderr.strip().removeprefix("qemu-system-x86_64: ").removeprefix("-daemonize: ") == says


@pytest.mark.parametrize("card", ["virtio-net-pci", "e1000"])
def test_qemus_own_defaults_are_taken(vms, card):
    """What QEMU has a property of a card at by itself can be said; those that begin with x- are its own affair."""
    judge = shutil.which("qemu-system-x86_64")
    if not judge or "Vireo" in subprocess.run([judge, "-version"], capture_output=True, text=True).stdout:
        pytest.skip("no QEMU is installed")
    listed = subprocess.run([judge, "-device", f"{card},help"], capture_output=True, text=True).stdout
    defaults = re.findall(r'^  ([\w-]+)=<\w+> .*\(default: "?([^)"]+)"?\)$', listed, re.M)
    said = ",".join(f"{name}={value}" for name, value in defaults if not name.startswith("x-"))
    assert len(said) > 100
    vm = vms(["-nodefaults", "-display", "none", "-S", "-netdev", "user,id=n", "-device", f"{card},netdev=n,{said}"],
             command="qemu-system-x86_64")
    until(lambda: run_file(vm.name, "qmp.sock").exists() or not vm.child.isalive())
    assert vm.child.isalive(), vm.child.read()


def test_a_guest_sees_what_properties_say(busybox, vms):
    said = "speed=10000,duplex=full,packed=off,rx_queue_size=1024,host_mtu=1400"
    vm = vms([*boot_args(busybox), "-nographic", "-nodefaults", "-serial", "mon:stdio", "-netdev", "user,id=n", "-device",
              f"virtio-net-pci,netdev=n,mac=52:54:00:0:0:1,{said}", "-netdev", "user,id=m", "-device",
              "virtio-net-pci,netdev=m,mac=52:54:00:0:0:2,speed=-1,event_idx=off,indirect_desc=off", "-device",
              "virtio-rng-pci,event_idx=off"], command="qemu-system-x86_64").boot()
    cards = {vm.sh(f"cat /sys/class/net/eth{n}/address"): n for n in (0, 1)}
    first, second = cards["52:54:00:00:00:01"], cards["52:54:00:00:00:02"]
    vm.sh("for n in 0 1; do ip link set eth$n up; done")
    assert vm.sh(f"(cd /sys/class/net/eth{first}; cat speed duplex mtu)").split("\n") == ["10000", "full", "1400"]
    assert vm.sh(f"(cd /sys/class/net/eth{second}; cat speed duplex mtu)").split("\n") == ["-1", "unknown", "1500"]

    def features(device):
        return {n for n, bit in enumerate(vm.sh(f"cat {device}/features")) if bit == "1"}

    of_first, of_second = (features(f"/sys/class/net/eth{n}/device") for n in (first, second))
    assert {63, 28, 29} <= of_first and 34 not in of_first
    assert 34 in of_second and not {63, 28, 29} & of_second
    rng = vm.sh("grep -l 0x0004 /sys/bus/virtio/devices/*/device").rsplit("/", 1)[0]
    assert 29 not in features(rng) and 28 in features(rng)


def test_a_linux_with_disks_and_a_network(busybox, vms):
    data, port = os.path.join(busybox.tmp, "a,b"), free_port()
    with open(data, "wb") as f:
        f.write(b"from the host\n" + bytes(1 << 20))
        f.truncate(2 << 20)
    vm = vms([*boot_args(busybox, f"{KERNEL_ARGS} root=/dev/vda"), "-nodefaults", "-serial", "mon:stdio", "-m", "256",
              "-smp", "cpus=2,sockets=1,cores=2", "-accel", "tcg", "-cpu", "max,-avx2", "-machine", "pc,pit=off",
              "-drive", f"file={busybox.disk()},if=virtio,format=raw",
              "-drive", f"if=none,id=d,file={data.replace(',', ',,')},format=raw,readonly=on,cache=none",
              "-device", "virtio-blk-pci,drive=d,serial=SN-7,addr=0x9",
              "-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:80",
              "-device", "virtio-net-pci,netdev=n,mac=52:54:00:aa:bb:cc",
              "-device", "virtio-rng-pci", "-name", "ignored", "-smbios", "type=1,product=A Product,serial=ds=nocloud",
              "-uuid", "01234567-89ab-cdef-0123-456789abcdef"], command="qemu-system-x86_64").boot()
    assert vm.sh("nproc") == "2"
    assert 240 << 10 > int(vm.sh("awk '/MemTotal/ { print $2 }' /proc/meminfo")) > 200 << 10
    assert vm.sh("grep -c avx2 /proc/cpuinfo") == "0"
    assert vm.sh("head -c 14 /dev/vdb; cat /sys/block/vdb/serial") == "from the host\nSN-7"
    assert vm.sh("basename $(readlink -f /sys/block/vdb/device/..)") == "0000:00:09.0"
    assert vm.sh("cat /sys/class/net/eth0/address") == "52:54:00:aa:bb:cc"
    assert vm.sh("cat /sys/class/dmi/id/product_name /sys/class/dmi/id/product_serial /sys/class/dmi/id/product_uuid").split("\n") == [
        "A Product", "ds=nocloud", "01234567-89ab-cdef-0123-456789abcdef"]
    vm.sh("mkdir /tmp/w; echo hello >/tmp/w/f; httpd -p 80 -h /tmp/w")
    assert urllib.request.urlopen(f"http://127.0.0.1:{port}/f", timeout=30 * SLOW).read() == b"hello\n"
    vm.child.sendline("poweroff")
    assert vm.wait() == 0


@pytest.mark.parametrize("how", ["virtio", "ide"])
def test_what_is_written_with_snapshot_is_forgotten(busybox, vms, tmp_path, how):
    disk = tmp_path / "d"
    disk.write_bytes(b"as before\n" + bytes((3 << 20) - 10))
    before = disk.read_bytes()
    disk.chmod(0o400)
    state = tmp_path / "state"
    args = [*boot_args(busybox, f"{KERNEL_ARGS} root=none"), "-nographic", "-nodefaults", "-serial", "mon:stdio", "-snapshot",
            "-drive", f"file={disk},if={how}"]
    vm = vms(args, command="qemu-system-x86_64").boot()
    name = "/dev/vda" if how == "virtio" else "/dev/sda"
    assert vm.sh(f"head -c 9 {name}") == "as before"
    vm.sh(f"printf 'QFI\\373other' | dd of={name} conv=notrunc; dd if=/dev/urandom of={name} bs=64k seek=3 count=20; sync")
    vm.sh("echo 3 >/proc/sys/vm/drop_caches")
    assert vm.sh(f"head -c 9 {name} | tail -c 5; head -c 2097152 {name} | tail -c 1000000 | grep -c .").startswith("other")
    # It is in a file without a name; a state would be of a disk that nobody has any more.
    assert not [f for f in os.listdir("/var/tmp") if f.startswith("vireo-")]
    r = run_cli("save", vm.name, str(state))
    assert r.returncode == 1 and "disk0.snapshot" in r.stderr and not state.exists()
    vm.child.sendline("poweroff -f")
    assert vm.wait() == 0
    assert disk.read_bytes() == before


def test_what_qemu_has_without_being_asked(busybox, vms):
    vm = vms([*boot_args(busybox), "-nographic"], command="qemu-system-x86_64").boot()
    # Host bridge, PIIX3 with IDE and power management, VGA and the network card, where QEMU has them.
    ids = vm.sh("for d in /sys/bus/pci/devices/*; do echo ${d##*/} $(cat $d/vendor $d/device); done")
    assert ids.split("\n") == ["0000:00:00.0 0x8086 0x1237", "0000:00:01.0 0x8086 0x7000", "0000:00:01.1 0x8086 0x7010",
                               "0000:00:01.3 0x8086 0x7113", "0000:00:02.0 0x1234 0x1111", "0000:00:03.0 0x8086 0x100e"]
    assert 130 << 10 > int(vm.sh("awk '/MemTotal/ { print $2 }' /proc/meminfo")) > 80 << 10
    assert "AuthenticAMD" in vm.sh("grep -m1 vendor /proc/cpuinfo")


@seabios
def test_a_disk_and_a_cd_by_firmware(qemu, tmp_path):
    disk = boot_disk(tmp_path)
    exit_device = ["-device", "isa-debug-exit", "-display", "none", "-serial", "stdio"]
    for args in ([disk], ["-hda", disk], ["-drive", f"file={disk},if=virtio,format=raw", "-boot", "c"]):
        r = run(qemu, *args, *exit_device)
        assert "boot sector 80" in r.stdout, (args, r.stdout, r.stderr)
        assert r.returncode == 1
    log = tmp_path / "log"
    r = run(qemu, "-drive", f"file={disk},if=virtio", "-nodefaults", "-device", "isa-debug-exit", "-chardev",
            f"file,id=l,path={log}", "-device", "isa-debugcon,iobase=0x402,chardev=l")
    assert "using modern (1.0) virtio mode" in log.read_text()


@seabios
def test_a_kernel_by_firmware(qemu, busybox):
    child = pexpect.spawn(qemu, [*boot_args(busybox), "-bios", "bios-256k.bin", "-nographic"], timeout=60 * SLOW,
                          encoding="utf-8", codec_errors="replace")
    child.expect("Booting from ROM")
    child.expect("/ # ")
    child.close(force=True)


@seabios
def test_files_of_fw_cfg(qemu, tmp_path):
    disk = assemble("fwcfg", tmp_path)
    os.truncate(disk, 1 << 20)
    (tmp_path / "f").write_text("from a file")
    args = ["-nodefaults", "-hda", disk, "-device", "isa-debug-exit", "-display", "none", "-serial", "stdio"]
    r = subprocess.run([qemu, *args, "-fw_cfg", "opt/a,string=from,, a text", "-fw_cfg", f"name=opt/b,file={tmp_path}/f"],
                       capture_output=True, timeout=60 * SLOW, stdin=subprocess.DEVNULL)
    assert r.returncode == 1 and b"from, a text\0" in r.stdout and b"from a file\0" in r.stdout, r.stdout
    for what, says in ((f"opt/a,file={tmp_path}/g", "No such file or directory"), ("opt/a,file=/dev/zero", "is larger than 16 MiB"),
                       (f"{'n' * 56},string=x", "a name of 1 to 55 characters"),
                       ("etc/e820,string=x", "duplicate file name: etc/e820")):
        r = run(qemu, *args, "-fw_cfg", what)
        assert r.returncode == 1 and says in r.stderr and r.stderr.count("\n") == 1, r.stderr


def daemon(qemu, guest, tmp_path, *args):
    pidfile, name = tmp_path / "pid", f"d{os.getpid()}"
    r = run(qemu, *boot_args(guest), "-daemonize", "-pidfile", str(pidfile), "-name", name, "-display", "none", *args)
    assert (r.returncode, r.stdout) == (0, ""), r.stderr
    return int(pidfile.read_text()), pidfile, name


def test_a_daemon_with_a_pid_file(qemu, busybox, tmp_path):
    pid, pidfile, name = daemon(qemu, busybox, tmp_path)
    try:
        # It has no terminal and belongs to nobody that waits; its machine runs.
        assert os.getsid(pid) != os.getsid(0)
        assert all(os.readlink(f"/proc/{pid}/fd/{n}") == "/dev/null" for n in range(3))
        until(lambda: "/ # " in run_file(name, "console.log").read_text())
        assert name in run_cli("ps").stdout
        # The file is one machine's at a time.
        r = run(qemu, "-display", "none", "-pidfile", str(pidfile))
        assert r.returncode == 1 and "is another machine's, which lives" in r.stderr
        assert int(pidfile.read_text()) == pid
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not pidfile.exists())


def test_a_pid_file_that_is_a_link_stays_one(qemu, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "pid")
    child = subprocess.Popen([qemu, "-display", "none", "-nodefaults", "-S", "-pidfile", str(link)])
    until(lambda: link.exists() and link.read_text())
    # It is there early, as QEMU's, so that its end can be asked for before there is a machine that could end.
    blocked = lambda: int(re.search(r"SigBlk:\s*(\w+)", open(f"/proc/{child.pid}/status").read()).group(1), 16)
    until(lambda: blocked() >> signal.SIGTERM - 1 & 1)
    child.terminate()
    assert child.wait(30) == 0 and link.is_symlink()


def ids(pid):
    """The user and group ids of all threads of a process, and of the processes that it has started."""
    found = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status") as f:
            lines = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        found.add((lines["Uid"], lines["Gid"], lines["Groups"].strip(), lines["Seccomp"]))
        with open(f"/proc/{pid}/task/{task}/children") as f:
            for child in f.read().split():
                found |= ids(child)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_once_all_is_open(qemu, busybox, tmp_path):
    """What only root may read is open by then; the network's process is that user, too."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1 << 20))
    secret.chmod(0o600)
    pid, pidfile, name = daemon(qemu, busybox, tmp_path, "-runas", "12345:23456", "-drive",
                                f"file={secret},format=raw,if=virtio", "-sandbox",
                                "on,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
    try:
        until(lambda: "/ # " in run_file(name, "console.log").read_text())
        same = "\t".join(["12345"] * 4), "\t".join(["23456"] * 4), "23456", "2"
        assert ids(pid) == {same}
        with open(f"/proc/{pid}/status") as f:
            filters = [line.split()[1] for line in f if line.startswith("Seccomp_filters:")]
        # What nobody needs, from the beginning, and the rest; older kernels do not count them.
        assert filters in (["2"], [])
    finally:
        os.kill(pid, signal.SIGTERM)
    r = run(qemu, "-runas", "no-such-user", "-display", "none")
    assert r.returncode == 1 and "User \"no-such-user\" doesn't exist" in r.stderr


def test_a_daemon_that_fails_says_so(qemu, tmp_path):
    r = run(qemu, "-daemonize", "-pidfile", str(tmp_path / "pid"), "-display", "none", "-kernel", "/no/such")
    assert r.returncode == 1 and "could not load kernel '/no/such'" in r.stderr
    assert not (tmp_path / "pid").exists()


def test_a_signal_ends_it_well(qemu, busybox):
    """As QEMU tells it: scripts take the signal from this line, and the status is 0."""
    child = subprocess.Popen([qemu, *boot_args(busybox), "-nographic"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout.read(1)
    child.send_signal(signal.SIGTERM)
    err = child.communicate(timeout=60 * SLOW)[1].decode()
    assert child.returncode == 0
    assert f"qemu-system-x86_64: terminating on signal 15 from pid {os.getpid()} (" in err


def test_a_reset_that_is_not_wanted_ends_it_well(qemu, busybox):
    r = run(qemu, *boot_args(busybox, "console=ttyS0 panic=-1 reboot=triple init=/no/such rdinit=/no/such"), "-nographic",
            "-no-reboot")
    assert "Kernel panic" in r.stdout and r.returncode == 0, r.stdout[-300:] + r.stderr


def test_no_shutdown_and_no_start(busybox, vms):
    vm = vms([*boot_args(busybox), "-nographic", "-no-shutdown", "-S"], command="qemu-system-x86_64")
    until(lambda: run_file(vm.name, "qmp.sock").exists())
    qmp = vm.qmp()
    assert qmp.execute("query-status")["status"] == "prelaunch"
    qmp.execute("cont")
    vm.boot()
    vm.child.sendline("poweroff -f")
    assert qmp.event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-shutdown"}
    qmp.event("STOP")
    assert qmp.execute("query-status")["status"] == "shutdown"
    # A reset makes it another guest, which runs when somebody says so.
    qmp.execute("system_reset")
    qmp.execute("cont")
    vm.child.expect(vm.prompt)
    qmp.execute("quit")
    assert vm.wait() == 0


def test_clients_call_things_by_their_ids(vms, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(1 << 20))
    vm = vms(["-nodefaults", "-display", "none", "-S", "-drive", f"file={tmp_path}/a,format=raw,if=virtio,id=vd", "-drive",
              "if=none,id=cdd,media=cdrom", "-device", "ide-cd,drive=cdd,id=mycd", "-cdrom", str(tmp_path / "b"), "-blockdev",
              f"driver=raw,node-name=n,file.driver=file,file.filename={tmp_path}/b,read-only=on", "-device",
              "virtio-blk-pci,drive=n,id=q", "-netdev", "user,id=nn", "-device", "e1000,netdev=nn,id=card", "-chardev",
              "null,id=cc", "-serial", "chardev:cc"], command="qemu-system-x86_64")
    until(lambda: run_file(vm.name, "qmp.sock").exists())
    qmp = vm.qmp()
    # What the machine is called in the language of the options.
    assert [(m["name"], m["alias"], m["default-cpu-type"]) for m in qmp.execute("query-machines")] == [
        ("pc-i440fx-7.2", "pc", "qemu64-x86_64-cpu")]
    assert qmp.execute("query-version")["qemu"] == {"major": 7, "minor": 2, "micro": 0}
    assert [(d["device"], d["qdev"], d.get("inserted", {}).get("node-name")) for d in qmp.execute("query-block")] == [
        ("vd", "disk0", "disk0"), ("", "q", "n"), ("ide1-cd0", "cdrom0", "cdrom0"), ("cdd", "mycd", None)]
    assert [c["label"] for c in qmp.execute("query-chardev")] == ["cc"]
    qmp.execute("block_resize", device="vd", size=2 << 20)
    assert os.path.getsize(tmp_path / "a") == 2 << 20
    qmp.execute("eject", id="mycd")
    qmp.execute("eject", device="cdd")
    for name in ("nn", "card", "net0"):
        qmp.execute("set_link", name=name, up=False)
    assert run_cli("monitor", vm.name, "eject ide1-cd0").stdout == ""
    assert "not inserted" in run_cli("monitor", vm.name, "info block ide1-cd0").stdout


LEASE = "ip|subnet|mask|router|dns|hostname|domain|search|sname|tftp|boot_file|serverid|siaddr"


def test_a_guest_is_told_of_its_network_as_by_qemu(busybox, vms, qemu):
    """What udhcpc hears of another network, and who its host is by IPv6, are what stock QEMU says."""
    judge = shutil.which("qemu-system-x86_64")
    if not judge or "Vireo" in subprocess.run([judge, "-version"], capture_output=True, text=True).stdout:
        pytest.skip("no QEMU is installed")
    web = HostWeb(Path(busybox.tmp))
    (Path(busybox.tmp) / "told").write_text("by the host")
    network = ("user,id=n,net=192.168.76.0/24,host=192.168.76.1,dns=192.168.76.5,dhcpstart=192.168.76.9,hostname=box,"
               "domainname=example.org,dnssearch=lan,dnssearch=a.lan,bootfile=b,tftp-server-name=tftp,ipv6-net=fd00:76::/64,"
               "ipv6-host=fd00:76::1,restrict=n")
    heard = []
    for program in (judge, qemu):
        vm = vms([*boot_args(busybox), "-nodefaults", "-display", "none", "-serial", "stdio", "-m", "128", "-netdev", network,
                  "-device", "virtio-net-pci,netdev=n"], program=program).boot()
        vm.sh(f"mkdir -p /tmp; (echo '#!/bin/sh'; echo 'set | grep -E \"^({LEASE})=\"') > /tmp/s; chmod +x /tmp/s; ip link set eth0 up")
        lease = vm.sh("udhcpc -i eth0 -n -q -s /tmp/s -O search -O hostname -O tftp -O bootfile -O domain 2>/dev/null | sort -u")
        vm.sh("ip addr add 192.168.76.9/24 dev eth0")
        said = vm.sh(f"wget -qO - http://192.168.76.1:{web.port}/told")
        v6 = vm.sh("for n in $(seq 50); do ip -6 addr show dev eth0 | grep -o 'inet6 fd00:76:[^ ]*' && break; sleep 0.2; done; "
                   "ping -6 -c 1 -W 5 fd00:76::1 | grep -o '1 packets received'")
        heard.append((lease, said, v6))
        vm.kill()
    assert heard[0] == heard[1]
    lease, said, v6 = heard[1]
    assert "ip='192.168.76.9'" in lease and "search='lan a.lan'" in lease and "hostname='box'" in lease and "domain='example.org'" in lease
    assert said == "by the host" and "fd00:76:" in v6 and "received" in v6


def test_a_port_that_the_kernel_chooses_is_told_and_stays(vms, tmp_path):
    """Scripts take it from `info usernet`; it is the same after the network's process has ended."""
    vm = vms(["-nodefaults", "-display", "none", "-S", "-netdev", "user,id=n,hostfwd=tcp::0-:22", "-device",
              "virtio-net-pci,netdev=n", "-object", f"filter-dump,id=f,netdev=n,file={tmp_path}/dump"],
             command="qemu-system-x86_64")
    until(lambda: run_file(vm.name, "qmp.sock").exists())
    said = run_cli("monitor", vm.name, "info usernet").stdout
    assert said.startswith("Hub -1 (n):\n  Protocol[State]")
    port = int(re.search(r"TCP.HOST_FORWARD.*?(\d+)\s+10\.0\.2\.15\s+22", said)[1])

    def listens():
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    assert listens()
    children = Path(f"/proc/{vm.child.pid}/task").glob("*/children")
    os.kill(int(" ".join(c.read_text() for c in children).split()[0]), signal.SIGKILL)
    until(lambda: not listens())
    until(listens)


def test_a_port_that_is_opened_later(busybox, vms, tmp_path):
    """By the monitor, and still there after a save."""
    port = free_port()
    vm = vms([*busybox.args(), "--disk", busybox.disk(), "--net", "user,net=10.9.0.0/16"]).boot()
    vm.sh("mkdir -p /tmp/www; echo from the guest > /tmp/www/f; httpd -p 80 -h /tmp/www")
    get = f"http://127.0.0.1:{port}/f"
    with pytest.raises(OSError):
        urllib.request.urlopen(get, timeout=5)
    assert run_cli("monitor", vm.name, f"hostfwd_add net0 tcp::{port}-:80").stdout == ""
    assert urllib.request.urlopen(get, timeout=30 * SLOW).read() == b"from the guest\n"
    assert "in use" in run_cli("monitor", vm.name, f"hostfwd_add tcp::{port}-:81").stdout
    save_and_end(vm, tmp_path / "state")
    vm = restored(vms, tmp_path / "state")
    until(lambda: "HOST_FORWARD" in run_cli("monitor", vm.name, "info usernet").stdout)
    assert urllib.request.urlopen(get, timeout=30 * SLOW).read() == b"from the guest\n"
    assert run_cli("monitor", vm.name, f"hostfwd_remove tcp::{port}").stdout.strip() == f"host forwarding rule for tcp::{port} removed"
    with pytest.raises(OSError):
        urllib.request.urlopen(get, timeout=5)


def test_a_fault_that_is_to_be_looked_at(vms, tmp_path):
    vm = vms(["-nodefaults", "-kernel", tiny.kernel(tmp_path, tiny.TRIPLE_FAULT), "-display", "none", "-no-reboot", "-no-shutdown"],
             command="qemu-system-x86_64")
    vm.child.expect("the machine stops")
    qmp = vm.qmp()
    until(lambda: qmp.execute("query-status")["status"] == "shutdown")
    qmp.execute("quit")
    assert vm.wait() == 0


def test_monitors_and_ports_at_sockets(busybox, vms, tmp_path):
    places = {name: str(tmp_path / name) for name in ("q", "m", "s")}
    port = free_port()
    vm = vms([*boot_args(busybox, f"{KERNEL_ARGS} console=ttyS0"), "-nographic", "-qmp", f"unix:{places['q']},server,nowait",
              "-chardev", f"socket,id=mon,path={places['m']},server=on,wait=off", "-mon", "chardev=mon",
              "-serial", "mon:stdio", "-serial", f"tcp:127.0.0.1:{port},server=on,wait=off"],
             command="qemu-system-x86_64").boot()
    s = socket.socket(socket.AF_UNIX)
    s.connect(places["q"])
    assert '"QMP"' in s.makefile().readline()
    m = socket.socket(socket.AF_UNIX)
    m.settimeout(30 * SLOW)
    m.connect(places["m"])
    m.sendall(b"info status\n")
    said = b""
    while b"VM status: running" not in said:
        said += m.recv(4096)
    # The second port: both directions; it is there again for the next client.
    for n in range(2):
        with socket.create_connection(("127.0.0.1", port)) as c:
            vm.child.sendline("read x </dev/ttyS1; echo got $x; echo back >/dev/ttyS1")
            time.sleep(1)
            c.sendall(b"there\n")
            vm.child.expect("got there")
            c.settimeout(30 * SLOW)
            said = b""
            while b"back" not in said:
                said += c.recv(100)
            vm.child.expect(vm.prompt)
    # Ctrl-A c leads to the monitor.
    vm.child.send("\x01c")
    vm.child.expect(r"\(qemu\) ")
    vm.child.send("quit\r")
    assert vm.wait() == 0
    assert not os.path.exists(places["q"]) and not os.path.exists(places["m"])


def test_a_log_file(qemu, busybox, tmp_path):
    log = tmp_path / "log"
    r = run(qemu, *boot_args(busybox, "console=ttyS0 rdinit=/no/such init=/no/such panic=-1"), "-nographic", "-no-reboot",
            "-cpu", "Haswell", "-D", str(log))
    # What is missing of a model is a line of the log.
    assert "warning: cpu: Haswell is without hle, rtm here" in log.read_text() and not r.stderr
