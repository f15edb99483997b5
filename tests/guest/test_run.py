"""`vireo run`: what its options and configuration files make, what it tells, and how it ends, with guests of a few bytes."""
import os
import re
import subprocess
import time

import pytest

import tiny
from conftest import SLOW, VIREO, Qmp, run_cli, run_file


def run_bytes(*args):
    """The guest's output, as bytes."""
    r = subprocess.run([VIREO, "run", "--memory", "16", *args], stdin=subprocess.DEVNULL, capture_output=True,
                       timeout=60 * SLOW)
    assert r.returncode == 0, r.stderr
    return r.stdout


@pytest.fixture
def start():
    """Start machines that are ended with the test."""
    made = []

    def begin(*args):
        name = f"run{os.getpid()}-{len(made)}"
        p = subprocess.Popen([VIREO, "run", "--name", name, *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True)
        made.append(p)
        for _ in range(int(200 * SLOW)):
            if run_file(name, "qmp.sock").exists() or p.poll() is not None:
                break
            time.sleep(0.05)
        return p, Qmp(name)

    yield begin
    for p in made:
        p.kill()
        p.wait()


# --- engines ---

def chosen_engine():
    return re.search(r"^--engine auto, the default, takes (\w+)\.$", run_cli("engines").stdout, re.M).group(1)


def test_engines_says_what_there_is_and_why():
    r = run_cli("engines")
    assert r.returncode == 0 and not r.stderr
    lines = r.stdout.splitlines()
    assert lines[0].split() == ["ENGINE", "ISA", "AVAILABLE", "WHY"]
    rows = {line.split()[0]: line.split(None, 3)[1:] for line in lines[1:] if line and line[0] != "-"}
    assert rows["interp"][:2] == ["x86_64", "yes"] and len(rows["interp"][2]) > 10
    chosen = chosen_engine()
    assert rows[chosen][1] == "yes"
    # The first of them that is fast: a real KVM, else the translator where the host's processor has what it needs.
    slow_kvm = rows["kvm"][1] == "no" or "emulated" in rows["kvm"][2] if "kvm" in rows else True
    assert chosen == ("kvm" if not slow_kvm else "jit" if rows.get("jit", "--")[1] == "yes" else "interp")


# --- options ---

def test_options_make_the_machine(tmp_path, start):
    (tmp_path / "disk.img").write_bytes(b"\0" * 65536)
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    p, q = start("--kernel", tiny.kernel(tmp_path, tiny.HALT), "--memory", "24M", "--cpus", "3", "--engine", "interp",
                 "--disk", f"{tmp_path}/disk.img,format=raw", "--net", "user", "--serial", f"file:{tmp_path}/one",
                 "--serial", f"file:{tmp_path}/two", "--console", "socket", "--uuid", uuid, "-v")
    assert len(q.execute("query-cpus-fast")) == 3
    assert q.execute("query-uuid") == {"UUID": uuid}
    assert q.execute("query-name")["name"].startswith("run")
    q.execute("quit")
    log = p.communicate(timeout=60)[1]
    assert p.returncode == 0
    assert "pc: 24 MiB, engine interp" in log and "3 CPUs" in log
    assert len(re.findall("device uart16550", log)) == 2
    for device in ("virtio-blk", "virtio-net", "virtio-console"):
        assert f"device {device}" in log
    assert (tmp_path / "one").exists() and (tmp_path / "two").exists()


def test_cpu_help():
    r = run_cli("run", "--cpu", "help")
    assert r.returncode == 0 and not r.stderr
    words = set(r.stdout.replace(",", " ").split())
    assert {"max", "Haswell-noTSX", "lahf-lm", "hv-time", "amd-ssb-no"} <= words
    assert max(map(len, r.stdout.splitlines())) <= 80


def test_cpu_models(tmp_path):
    kernel = tiny.kernel(tmp_path, tiny.CPUID)
    assert run_bytes("--kernel", kernel)[:4] == b"Auth"
    assert run_bytes("--kernel", kernel, "--cpu", "max,vendor=GenuineIntel")[:4] == b"Genu"
    assert run_bytes("--kernel", kernel, "--cpu", "qemu64") == b"Auth\xb1\x0f\x06\x00"


def test_clock_base(tmp_path):
    kernel = tiny.kernel(tmp_path, tiny.YEAR)
    assert run_bytes("--kernel", kernel, "--clock", "host,base=2031-05-06T00:00:00") == b"\x31"
    assert run_bytes("--kernel", kernel, "--clock", "icount") == b"\x26"


@pytest.mark.parametrize("size,mib", [("16", 16), ("16M", 16), ("24MiB", 24), ("16384k", 16), ("0.03125G", 32), (".5g", 512),
                                      ("33554432B", 32), ("1TB", 1 << 20)])
def test_memory_sizes(tmp_path, size, mib):
    r = run_cli("run", "-v", "--memory", size, "--kernel", tiny.kernel(tmp_path, tiny.printer(1)))
    assert r.returncode == 0, r.stderr
    assert f"pc: {mib} MiB," in r.stderr


# --- configuration files ---

def test_config_file(tmp_path):
    kernel = tiny.kernel(tmp_path, tiny.printer(10))
    conf = tmp_path / "vm.conf"
    conf.write_text(f"# a machine\nkernel = {kernel}\nmemory = 16M\n\n; its disk\n[disk0]\npath = {tmp_path}/none\n")
    r = run_cli("run", "--config", str(conf))
    assert r.returncode == 1 and f"{tmp_path}/none" in r.stderr
    (tmp_path / "none").write_bytes(b"\0" * 4096)
    # Later options win, and a series goes on after the file's.
    (tmp_path / "more").write_bytes(b"\0" * 4096)
    r = run_cli("run", "-v", "--config", str(conf), "--set", "disk0.format=raw", "--memory", "20", "--disk",
                f"{tmp_path}/more,format=raw")
    assert r.returncode == 0, r.stderr
    assert r.stdout == tiny.printed(10)
    assert "pc: 20 MiB" in r.stderr and r.stderr.count("device virtio-blk") == 2
    r = run_cli("run", "-v", "--memory", "20", "--config", str(conf), "--set", "disk0.format=raw")
    assert "pc: 16 MiB" in r.stderr


@pytest.mark.parametrize("text,says", [
    ("memroy = 16M", "4: unknown key 'memroy' (did you mean 'memory'?)"),
    ("memory = lots", "4: memory: 'lots' is not a size such as 512M or 2G"),
    ("[net0]\nbackend = pigeon", "5: net0.backend: 'pigeon' is not one of user, tap, socket, stream, dgram, passt, null, none, nor a network (see `vireo net list`)"),
    ("[net0]\nbackend = user\nmac = 1:2", "6: net0.mac: '1:2' is not a unicast MAC address (52:54:00:12:34:56)"),
    ("cpu.model = pentium9", "4: cpu.model: 'pentium9' is not one of max, host, qemu64, kvm64, Opteron_G1, x86-64-v2, x86-64-v3, Nehalem, Westmere, SandyBridge, IvyBridge, Haswell-noTSX, Haswell, Broadwell-noTSX, Broadwell, Skylake-Server, EPYC"),
    ("serial1 = wall", "4: serial1: 'wall' is not one of stdio, none, null, pty, socket, file:PATH, unix:PATH, tcp:[HOST:]PORT"),
    ("name = a/b", "4: name: 'a/b' is not 1 to 40 letters, digits, '.', '_' or '-' that begin with none of '.' and '-'"),
    ("serial1 = file:/no/such/file", "4: serial1: /no/such/file: No such file or directory"),
    ("memory", "4: expected KEY = VALUE"),
    ("[disk0", "4: a section is [name]"),
    ("Memory = 16M", "4: key 'Memory': keys are a-z, 0-9, '_' and '-', joined by dots"),
])
def test_errors_name_the_line_of_the_file(tmp_path, text, says):
    conf = tmp_path / "vm.conf"
    conf.write_text(f"kernel = {tiny.kernel(tmp_path, tiny.printer(1))}\n\n# the mistake\n{text}\n")
    r = run_cli("run", "--config", str(conf))
    assert (r.returncode, r.stdout, r.stderr) == (1, "", f"vireo: {conf}:{says}\n")


# --- what is told ---

def test_boot_log_has_times_and_steps(tmp_path):
    r = run_cli("run", "-v", "--memory", "16", "--kernel", tiny.kernel(tmp_path, tiny.printer(10)), "--net", "user")
    assert r.returncode == 0
    lines = r.stderr.splitlines()
    times = [float(re.match(r"\[ *(\d+\.\d+)\] vireo: info: ", line).group(1)) for line in lines]
    assert len(times) > 10 and times == sorted(times) and 0 < times[-1] < 10 * SLOW
    kvm = re.search(r"^kvm +x86_64 +\w+ +(.*)$", run_cli("engines").stdout, re.M)
    if kvm and chosen_engine() != "kvm":
        # The rate is measured each time.
        assert "not engine kvm: " + re.split(r"\d", kvm.group(1))[0] in r.stderr
    steps = ["made in", "engine " + chosen_engine(), "device virtio-net", "is loaded; entry at", "runs, 1 CPU ",
             "ends: guest-shutdown"]
    at = [r.stderr.index(s) for s in steps]
    assert at == sorted(at)
    assert r.stderr.index("first output") > r.stderr.index("runs, 1 CPU")


def test_without_v_nothing_is_told(tmp_path):
    assert run_cli("run", "--memory", "16", "--kernel", tiny.kernel(tmp_path, tiny.printer(10))).stderr == ""


def test_stats(tmp_path):
    r = run_cli("run", "--stats", "--memory", "16", "--kernel", tiny.kernel(tmp_path, tiny.printer(10)))
    counters = dict(re.findall(r"^(cpu0\.\w+) +(\d+) ", r.stderr, re.M))
    # Ten times: ready? out; then the power. Each turn of the loop is 10 instructions.
    assert int(counters["cpu0.port_accesses"]) == 21
    assert 100 <= int(counters["cpu0.instructions"]) < 200
    assert 1 <= int(counters["cpu0.exits"]) < 10
    assert int(counters["cpu0.halts"]) == 0


# --- how it ends ---

@pytest.mark.parametrize("code,status,says", [
    (tiny.TRIPLE_FAULT, 2, "triple fault at 0010:0x100027"),
    (tiny.NOWHERE, 2, "triple fault at 0010:0xd0000000"),
    (tiny.RESET, 0, None),
    (tiny.POWER_OFF, 0, None),
])
def test_fatal_faults_have_a_status(tmp_path, code, status, says):
    r = run_cli("run", "--memory", "16", "--kernel", tiny.kernel(tmp_path, code), "--no-reboot")
    assert r.returncode == status
    lines = r.stderr.splitlines()
    assert len(lines) == (1 if says else 0)
    if says:
        assert says in lines[0]


def test_a_guest_that_faults_for_ever_is_told_once(tmp_path, start):
    p, q = start("--memory", "16", "--kernel", tiny.kernel(tmp_path, tiny.TRIPLE_FAULT))
    for _ in range(5):
        q.event("RESET")
    p.terminate()
    assert p.wait(20) == 143
    assert len(p.stderr.read().splitlines()) == 1
