"""The guests that `vireo guest` builds: how the builder behaves, and what Debian does in its guest."""
import http.server
import os
import re
import signal
import subprocess
import threading
import time

import pexpect
import pytest

from conftest import SLOW, TOP, VIREO, Guest, guest_files, run_cli

# Where a build would leave traces if it used the host's package manager or the host's temporary files.
ELSEWHERE = ["/etc", "/usr", "/boot", "/var/lib/apt", "/var/lib/dpkg", "/var/cache/apt", "/var/log/apt"]


def environment(cache):
    return {**os.environ, "XDG_CACHE_HOME": str(cache)}


def where_it_is(guest):
    """The environment in which this guest is the one of its name: it may be the tests' own."""
    return environment(os.path.dirname(os.path.dirname(os.path.dirname(guest.dir))))


def states(cache):
    r = subprocess.run([VIREO, "guest"], capture_output=True, text=True, env=environment(cache), timeout=20)
    assert r.returncode == 0 and r.stderr == ""
    return {line.split()[0]: line.split()[1] for line in r.stdout.splitlines()}


def test_guests_are_listed(tmp_path):
    assert states(tmp_path) == {"busybox": "absent", "generic": "absent", "debian": "absent"}
    assert os.listdir(tmp_path) == []


def test_a_ready_guest_is_not_built_again(busybox):
    before = {f: os.stat(os.path.join(busybox.dir, f)).st_mtime_ns for f in ("vmlinuz", "initrd.img", "disk.img")}
    start = time.monotonic()
    r = run_cli("guest", "busybox", env=where_it_is(busybox))
    assert (r.returncode, r.stdout, r.stderr) == (0, busybox.dir + "\n", "")
    assert time.monotonic() - start < 5 * SLOW
    assert before == {f: os.stat(os.path.join(busybox.dir, f)).st_mtime_ns for f in before}


def build(cache, name="busybox"):
    return subprocess.Popen([VIREO, "guest", name], env=environment(cache), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def processes_of(path):
    """The processes whose command line or working directory names the path."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as f:
                text = f.read() + os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if str(path) in text and int(pid) != os.getpid():
            found.append(text)
    return found


STEPS = ["fetching packages", "unpacking", "packing the initramfs", "making the disk"]


@pytest.fixture(scope="module")
def killed_builds(tmp_path_factory):
    """A cache in which builds were killed in every step, and what they and the last, which ran to its end, said."""
    cache = tmp_path_factory.mktemp("cache")
    directory = cache / "vireo" / "guests" / "busybox"
    mark = cache / "mark"
    mark.touch()
    time.sleep(0.1)
    said = []
    for step, sig in zip(STEPS, (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT)):
        child = build(cache)
        lines = []
        for line in child.stderr:
            lines.append(line.strip().removeprefix("vireo: guest busybox: "))
            if lines[-1] == step:
                break
        child.send_signal(sig)
        child.wait(timeout=30)
        said.append(lines)
        assert states(cache)["busybox"] == "partial"
        # What has its name is whole: it was moved there.
        if (directory / "initrd.img").exists():
            assert b"TRAILER!!!" in (directory / "initrd.img").read_bytes()[-1000:]
        if (directory / "disk.img").exists():
            assert (directory / "disk.img").stat().st_size == 64 << 20
    deadline = time.monotonic() + 20
    while processes_of(directory) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(directory) == []
    last = build(cache)
    out, err = last.communicate(timeout=600)
    assert last.returncode == 0, err
    said.append([line.removeprefix("vireo: guest busybox: ") for line in err.splitlines()])
    return cache, directory, mark, out, said


@pytest.mark.slow
def test_a_killed_build_goes_on(killed_builds):
    cache, directory, _, out, said = killed_builds
    assert out == f"{directory}\n"
    # Each build went on with the step in which the one before was killed.
    assert said == [STEPS[:1], STEPS[:2], STEPS[1:3], STEPS[2:4], [STEPS[3], f"ready in {directory}"]]
    assert states(cache)["busybox"] == "ready"
    assert sorted(f.name for f in directory.iterdir()) == ["disk.img", "initrd.img", "lock", "ready", "vmlinuz"]
    r = run_cli("run", "--kernel", str(directory / "vmlinuz"), "--initrd", str(directory / "initrd.img"), "--append",
                "console=ttyS0 quiet vireo.report readonly", "--disk", f"{directory}/disk.img,readonly=on", timeout=120)
    assert "root ext4" in r.stdout


def changed_elsewhere(mark):
    return subprocess.run(["find", *ELSEWHERE, "-xdev", "-newer", str(mark), "-not", "-type", "d"], capture_output=True,
                          text=True).stdout


def test_a_build_touches_only_the_cache(killed_builds):
    _, _, mark, _, _ = killed_builds
    assert changed_elsewhere(mark) == ""


@pytest.mark.slow
def test_debian_is_built_in_the_cache_only(tmp_path):
    mark = tmp_path / "mark"
    mark.touch()
    time.sleep(0.1)
    child = build(tmp_path, "debian")
    out, err = child.communicate(timeout=1500)
    directory = tmp_path / "vireo" / "guests" / "debian"
    assert (child.returncode, out) == (0, f"{directory}\n"), err
    assert states(tmp_path)["debian"] == "ready"
    assert sorted(f.name for f in directory.iterdir()) == ["disk.img", "initrd.img", "lock", "ready", "vmlinuz"]
    assert changed_elsewhere(mark) == ""
    assert processes_of(directory) == []
    # What was mounted or unpacked meanwhile is gone, too.
    with open("/proc/self/mounts") as f:
        assert str(tmp_path) not in f.read()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["mark", "vireo"]


@pytest.mark.slow
def test_builds_at_the_same_time_wait_for_each_other(tmp_path):
    first = build(tmp_path)
    time.sleep(1)
    second = build(tmp_path)
    assert [first.wait(timeout=600), second.wait(timeout=600)] == [0, 0]
    assert "waiting for another build" in second.stderr.read()
    assert states(tmp_path)["busybox"] == "ready"


@pytest.mark.slow
def test_a_terminal_shows_progress(tmp_path):
    child = pexpect.spawn(VIREO, ["guest", "busybox"], env=environment(tmp_path), timeout=600, encoding="utf-8",
                          dimensions=(24, 120))
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    shown = [int(n) for n in re.findall(r"\[#* *\] +(\d+)%", child.before)]
    assert shown == sorted(shown) and shown[0] == 0 and shown[-1] == 100
    # Not only the ends of the steps.
    assert len(set(shown)) > 8
    assert child.before.rstrip().splitlines()[-1].endswith(f"ready in {tmp_path}/vireo/guests/busybox")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody with less rights")
def test_without_root_and_name_spaces_debian_says_what_is_missing(tmp_path):
    tmp_path.chmod(0o777)
    r = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", VIREO, "guest", "debian"],
                       env={**environment("/dev/shm"), "XDG_CACHE_HOME": "/dev/shm/vireo-test-nobody"},
                       capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
    subprocess.run(["rm", "-rf", "/dev/shm/vireo-test-nobody"], check=True)
    assert r.returncode == 1
    lines = r.stderr.strip().splitlines()
    assert len(lines) == 1 and "root is needed, or a user name space" in lines[0], r.stderr


def test_the_installed_program_builds_the_same_guest(busybox, tmp_path):
    subprocess.run(["meson", "install", "-C", os.path.dirname(VIREO), "--no-rebuild", "--quiet", "--destdir", str(tmp_path)],
                   check=True, capture_output=True, timeout=120)
    program = next(p for p in tmp_path.rglob("bin/vireo"))
    r = subprocess.run([program, "guest", "busybox"], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
                       env=where_it_is(busybox))
    # A word about another version would mean that the recipe is not all there.
    assert (r.returncode, r.stdout, r.stderr) == (0, busybox.dir + "\n", "")


# --- Debian ---


@pytest.fixture
def web(tmp_path):
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *a):
            super().__init__(*a, directory=str(tmp_path))

        def log_message(self, *a):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, tmp_path / "file"
    server.shutdown()


def log_in(vm):
    vm.child.expect("vireo login: ", timeout=400 * SLOW)
    vm.child.sendline("root")
    vm.child.expect(vm.prompt)
    return vm


@pytest.mark.slow
def test_debian_boots_to_a_login_and_fetches_from_the_host(vms, tmp_path, web):
    guest = Guest(guest_files("debian"), str(tmp_path))
    port, file = web
    want = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True).stdout.split()[0]
    vm = vms([*guest.args(), "--cpus", "2", "--memory", "1G", "--disk", guest.disk(), "--net", "user"], prompt=r"# ")
    log_in(vm)
    vm.sh("bind 'set enable-bracketed-paste off' 2>/dev/null; stty cols 200")
    # DHCP goes on beside the login.
    assert "10.0.2.15" in vm.sh("for i in $(seq 60); do ip -4 -o addr show scope global | grep . && break; sleep 1; done")
    assert "nameserver 10.0.2.3" in vm.sh("cat /etc/resolv.conf")
    assert want in vm.sh(f"curl -s http://10.0.2.2:{port}/file | sha256sum", timeout=120)
    assert vm.sh("systemctl is-system-running --wait") == "running"
    assert vm.sh("systemctl --failed --no-legend --plain | cat") == ""
    assert vm.sh("findmnt -no FSTYPE,SOURCE /") .split() == ["ext4", "/dev/vda"]
    assert "VERSION_CODENAME=bookworm" in vm.sh("cat /etc/os-release")
    assert re.fullmatch(r"[0-9a-f]{32}", vm.sh("cat /etc/machine-id"))
    vm.sh("echo kept >/root/file; sync")
    vm.child.sendline("reboot")
    log_in(vm)
    assert "kept" in vm.sh("cat /root/file")
    vm.qmp().execute("system_powerdown")
    assert vm.wait(240) == 0
    assert subprocess.run(["e2fsck", "-fn", os.path.join(guest.tmp, "disk.img")], capture_output=True,
                          env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}).returncode == 0
