"""What the guest tests share: the binary, the guests, and a VM driven over its console."""
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import uuid

import pexpect
import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VIREO = os.environ.get("VIREO", os.path.join(TOP, "build", "vireo"))
# How much slower than a plain build the one under test is (sanitizers).
SLOW = float(os.environ.get("VIREO_SLOW", "1"))
PROMPT = r"[~/] # "


# What a shell starts in the background ignores these, and so would every machine that is started here.
for _sig in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_sig) == signal.SIG_IGN:
        signal.signal(_sig, signal.SIG_DFL)


def run_cli(*args, timeout=60, **kw):
    return subprocess.run([VIREO, *args], capture_output=True, text=True, timeout=timeout * SLOW,
                          stdin=subprocess.DEVNULL, **kw)


def need_kvm():
    if not re.search(r"^kvm +\S+ +yes", run_cli("engines").stdout, re.M):
        pytest.skip("no KVM here")


def need_fast_kvm():
    if "takes kvm" not in run_cli("engines").stdout:
        pytest.skip("no KVM here, or one that emulates")


@functools.cache
def guest_files(name, *options):
    """The directory of a guest as this version builds it. The user's own is let be: it may have been used for long."""
    own = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vireo", "check")
    for cache, force in (None, []), (own, []), (own, ["--force"]):
        r = subprocess.run([VIREO, "guest", *force, name, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, env=os.environ | ({"XDG_CACHE_HOME": cache} if cache else {}))
        if r.returncode or "by another version" not in r.stderr:
            break
    if r.returncode:
        pytest.fail(f"guest {name} cannot be built here: {r.stderr.strip().splitlines()[-1:]}", pytrace=False)
    return r.stdout.strip()


class Guest:
    def __init__(self, directory, tmp):
        self.dir = directory
        self.kernel = os.path.join(directory, "vmlinuz")
        self.initrd = os.path.join(directory, "initrd.img")
        self.image = os.path.join(directory, "disk.img")
        self.tmp = tmp

    def disk(self, name="disk.img"):
        """A private copy of the root disk."""
        path = os.path.join(self.tmp, name)
        subprocess.run(["cp", "--sparse=always", self.image, path], check=True)
        return path

    def args(self, append="quiet"):
        return ["--kernel", self.kernel, "--initrd", self.initrd, "--append", f"console=ttyS0 {append}"]


@pytest.fixture
def busybox(tmp_path):
    return Guest(guest_files("busybox"), str(tmp_path))


class Vm:
    """A VM in a pseudo-terminal."""

    def __init__(self, args, command="run", prompt=PROMPT, program=None):
        """Of another program it has the name only if that knows it."""
        self.name = "t" + uuid.uuid4().hex[:8]
        args = [command, *args, "--name", self.name] if not program else args
        self.child = pexpect.spawn(program or VIREO, args, timeout=90 * SLOW,
                                   encoding="utf-8", codec_errors="replace", dimensions=(40, 120))
        self.prompt = prompt

    def boot(self):
        self.child.expect(self.prompt)
        return self

    def sh(self, command, timeout=60):
        """Run a command in the guest's shell; its output."""
        mark = uuid.uuid4().hex[:6]
        # The quotes tell output from the echo of a long line, which the shell may break anywhere.
        self.child.sendline(f"echo B''EGIN-{mark}; {command}; echo E''ND-{mark}-$?")
        self.child.expect(rf"BEGIN-{mark}\r*\n(.*?)END-{mark}-(\d+)", timeout=timeout * SLOW)
        text, self.status = self.child.match.group(1), int(self.child.match.group(2))
        self.child.expect(self.prompt)
        return text.replace("\r", "").strip()

    def wait(self, timeout=60):
        """The exit status, once it has ended."""
        self.child.expect(pexpect.EOF, timeout=timeout * SLOW)
        self.child.close()
        return self.child.exitstatus

    def kill(self):
        if self.child.isalive():
            self.child.close(force=True)

    def qmp(self):
        return Qmp(self.name)


def warnings(vm):
    """What its kernel complained of. `dmesg -r` has the level: 4 is a warning, 3 an error. That it was late is the host's affair."""
    return vm.sh("dmesg -r | grep '^<[0-4]>' | grep -v 'hrtimer: interrupt took'")


def run_file(machine, name):
    """A file of a machine's run directory."""
    return pathlib.Path(os.environ["XDG_RUNTIME_DIR"], "vireo", machine, name)


class Qmp:
    def __init__(self, name):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60 * SLOW)
        self.sock.connect(str(run_file(name, "qmp.sock")))
        self.file = self.sock.makefile("rw")
        self.events = []
        assert "QMP" in self.next()
        self.execute("qmp_capabilities")

    def next(self):
        return json.loads(self.file.readline())

    def ask(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            o = self.next()
            if "event" not in o:
                return o
            self.events.append(o)

    def event(self, name):
        """The next event of this name."""
        while True:
            o = self.events.pop(0) if self.events else self.next()
            if o.get("event") == name:
                return o

    def execute(self, command, **arguments):
        o = self.ask(command, **arguments)
        assert "return" in o, o
        return o["return"]


@pytest.fixture
def vms():
    """Make VMs that are killed at the end of the test."""
    made = []

    def make(*args, **kw):
        vm = Vm(*args, **kw)
        made.append(vm)
        return vm

    yield make
    for vm in made:
        vm.kill()


@pytest.fixture(scope="session", autouse=True)
def private_run_directory(tmp_path_factory):
    os.environ["XDG_RUNTIME_DIR"] = d = f"/tmp/vireo-test-{os.getpid()}"
    os.makedirs(d, mode=0o700, exist_ok=True)
    yield
    shutil.rmtree(d, ignore_errors=True)
