"""The translator runs what the interpreter runs: kernels, programs, states that come from the other."""
import gzip
import os
import re
import struct
import subprocess

import pytest

import programs
import tiny
from conftest import SLOW, VIREO, Vm, run_cli, warnings
from test_boot import report
from test_clock import cpio_entry
from test_save import restored, save_and_end

JIT = ["--engine", "jit"]


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_report_from_disk(busybox, cpus):
    got, _ = report(busybox, *JIT, "--cpus", str(cpus), "--disk", f"{busybox.image},readonly=on", "--net", "user")
    assert got["cpus"].startswith(f"{cpus} ")
    assert got["disk"] == "vda 64 MiB, root ext4"
    assert got["network"] == "eth0 10.0.2.15/24"


def counters(text):
    return {name: int(n) for name, n in re.findall(r"^(\w+\.\w+) +(\d+) ", text, re.M)}


@pytest.mark.parametrize("cpus", [1, 2])
def test_most_of_a_boot_is_translated(busybox, cpus):
    _, r = report(busybox, *JIT, "--cpus", str(cpus), "--disk", f"{busybox.image},readonly=on", "--stats")
    c = counters(r.stderr)
    assert c["jit.translations"] > 10_000 and c["jit.pages_changed"] > 10 and c["jit.given_up"] > c["jit.pages_changed"]
    total = sum(c[f"cpu{n}.instructions"] for n in range(cpus))
    assert total > 100_000_000
    tiers = [c[f"jit.{name}"] for name in ("translated", "handled", "alone", "cold")]
    assert sum(tiers) == total and min(tiers) > 0
    assert c["jit.interpreted_ppm"] == sum(tiers[1:]) * 1_000_000 // total < 50_000
    assert c["jit.tlb_hits"] > 10 * c["jit.tlb_misses"] > 0
    exits = [c[f"jit.exit_{name}"] for name in ("lookup", "link", "news", "changed", "instruction", "access")]
    assert min(exits) > 0 and max(exits) < total // 50


LEGACY_INIT = b"""#!/bin/busybox sh
/legacy
echo "status=$?"
/bin/busybox poweroff -f
"""


@pytest.fixture
def legacy(busybox, tmp_path):
    """Options of a machine that runs a 32-bit program and ends."""
    path = str(tmp_path / "legacy")
    try:
        programs.build_legacy(path)
    except subprocess.CalledProcessError:
        pytest.skip("skipped: no compiler for 32-bit programs")
    more = cpio_entry("init", LEGACY_INIT, 0o100755) + cpio_entry("legacy", open(path, "rb").read(), 0o100755)
    initrd = tmp_path / "initrd"
    initrd.write_bytes(open(busybox.initrd, "rb").read() + gzip.compress(more + cpio_entry("TRAILER!!!", b"", 0)))
    return ["--kernel", busybox.kernel, "--initrd", str(initrd), "--append", "console=ttyS0 quiet"]


def test_a_32_bit_program_under_a_64_bit_kernel(legacy):
    r = run_cli("run", *legacy, *JIT, "--stats", timeout=120)
    got = dict(re.findall(r"^(\w+)=(\w+)\r?$", r.stdout, re.M))
    table, h = [0] * 4096, 2166136261
    for n in range(2_000_000):
        h = (h ^ table[n & 4095]) * 16777619 & 0xffffffff
        table[n & 4095] = table[n & 4095] + (h >> 7) & 0xffffffff
    assert got == {"hash": f"{h:08x}", "tls": "12345679", "fault": f"{177:08x}", "code": f"{199 * 100:08x}",
                   "float": f"{130:08x}", "wide": "44332211", "child": "00007600", "status": "0"}
    # 25 million instructions of the hash alone, beside those of the boot.
    assert counters(r.stderr)["jit.cold"] < 10_000_000


def test_counting_costs_only_who_asks(busybox):
    """What QMP shows of a machine without --stats has no row for what is not counted then."""
    vm = Vm([*busybox.args(), *JIT])
    try:
        c = vm.boot().qmp().execute("x-vireo-stats")
    finally:
        vm.kill()
    assert c["jit.translations"] > 10_000 and "jit.translated" not in c and "jit.tlb_hits" not in c


def test_instructions_are_counted_exactly():
    """Random programs with all their faults retire as many instructions on the translator as on the interpreter."""
    program = os.path.join(os.path.dirname(VIREO), "tests", "test_cpu_diff")
    if not os.path.exists(program):
        pytest.skip("skipped: the unit tests are not built")
    said = []
    for engine in "interp", "jit":
        env = {**os.environ, "VIREO_TEST_ENGINE": engine, "VIREO_TEST_JIT_COUNT": "sums", "VIREO_DIFF_COUNT": "20000",
               "VIREO_DIFF_SWEEP": "5"}
        r = subprocess.run([program], env=env, capture_output=True, text=True, timeout=120 * SLOW)
        assert r.returncode == 0, r.stdout + r.stderr
        said.append(re.search(r"(\d+) instructions, 0 mismatches", r.stdout + r.stderr).group(1))
    assert said[0] == said[1] and int(said[0]) > 20_000


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_cache_of_1_mib(busybox, cpus):
    """Everything is forgotten thousands of times in a boot."""
    got, _ = report(busybox, *JIT, "--jit-cache", "1M", "--cpus", str(cpus), "--disk", f"{busybox.image},readonly=on",
                    "--net", "user", timeout=240)
    assert got["cpus"].startswith(f"{cpus} ")
    assert got["network"] == "eth0 10.0.2.15/24"


@pytest.mark.parametrize("size,says", [
    ("1023K", "jit.cache: '1023K' is not between 1M and 1G"),
    ("1025M", "jit.cache: '1025M' is not between 1M and 1G"),
    ("much", "jit.cache: 'much' is not a size such as 512M or 2G"),
])
def test_sizes_of_the_cache(tmp_path, size, says):
    args = ["run", "--memory", "16", "--kernel", tiny.kernel(tmp_path, tiny.POWER_OFF), "--jit-cache", size]
    r = run_cli(*args, *JIT)
    assert (r.returncode, r.stderr) == (1, f"vireo: {says}\n")
    # Nor can another engine be given it.
    r = run_cli(*args, "--engine", "interp")
    assert (r.returncode, r.stderr) == (1, f"vireo: {says}\n")


@pytest.mark.parametrize("option,value,says", [
    ("--jit-perf", "flame", "jit.perf: 'flame' is not one of off, map, dump"),
    ("--set", "jit.count=sheep", "jit.count: 'sheep' is not one of off, sums, blocks"),
])
def test_slips(tmp_path, option, value, says):
    r = run_cli("run", "--memory", "16", "--kernel", tiny.kernel(tmp_path, tiny.POWER_OFF), *JIT, option, value)
    assert (r.returncode, r.stderr) == (1, f"vireo: {says}\n")


def test_perf_finds_the_blocks_of_a_guest(busybox):
    """A dump has each block of a boot, and comes to its end with it."""
    r = run_cli("run", *busybox.args("quiet vireo.report readonly"), "--disk", f"{busybox.image},readonly=on", *JIT,
                "--jit-perf", "dump", "--stats", cwd=busybox.tmp)
    assert r.returncode == 0, r.stderr
    path, = [p for p in os.listdir(busybox.tmp) if re.fullmatch(r"jit-\d+\.dump", p)]
    with open(os.path.join(busybox.tmp, path), "rb") as f:
        data = f.read()
    at, loads, last = 40, 0, None
    while at < len(data):
        last, size = struct.unpack_from("<II", data, at)
        loads += last == 0
        at += size
    # One more than blocks: what all of them share.
    assert at == len(data) and last == 3 and loads == counters(r.stderr)["jit.translations"] + 1


@pytest.mark.parametrize("first,then", [("jit", "interp"), ("interp", "jit")])
def test_a_state_goes_from_one_to_the_other(busybox, vms, tmp_path, first, then):
    vm = vms([*busybox.args(), "--engine", first, "--cpus", "2", "--disk", busybox.disk()]).boot()
    vm.sh("seq 1 2000 | awk '{ s += $1 * 0.5 } END { print s }' > /tmp/before")
    save_and_end(vm, tmp_path / "state")
    vm = restored(vms, tmp_path / "state", "--engine", then)
    vm.child.sendline("")
    vm.boot()
    assert vm.sh("seq 1 2000 | awk '{ s += $1 * 0.5 } END { print s }' | cmp - /tmp/before; echo $?") == "0"
    assert warnings(vm) == ""


def traced(busybox, *options):
    """What `vireo trace` lists of a short boot: the heads of the blocks, and all of the text."""
    path = os.path.join(busybox.tmp, "list")
    r = run_cli("trace", *busybox.args("quiet nokaslr vireo.report readonly"), "--disk", f"{busybox.image},readonly=on",
                "--top", "10", "--output", path, *options, timeout=240)
    assert r.returncode == 0, r.stdout[-2000:] + r.stderr
    with open(path) as f:
        text = f.read()
    heads = re.findall(r"^#\d+  ([\d.]+)%  (\d+) instructions: (\d+), (\d+) times, address ([0-9a-f]{16}), physical ([0-9a-f]+)"
                       r"(?:, (\S+))?$", text, re.M)
    return heads, text


def test_trace_lists_what_ran_most(busybox, tmp_path):
    heads, text = traced(busybox)
    assert len(heads) == 10
    total, share = re.match(r"(\d+) instructions, of these ([\d.]+)% in the 10 blocks", text).groups()
    done = [int(h[1]) for h in heads]
    assert done == sorted(done, reverse=True) and int(total) > 100_000_000
    assert all(int(h[1]) == int(h[2]) * int(h[3]) for h in heads)
    assert abs(float(share) - sum(float(h[0]) for h in heads)) < 0.2
    # Guest code and host code, each with its addresses; in words where capstone is there.
    first = text.split("\n#2 ")[0]
    guest, host = re.search(r"guest code, (\d+) bytes:\n(.*?)  host code, \d+ bytes:\n(.*)", first, re.S).groups()[1:]
    lines = re.findall(r"^    ([0-9a-f]{16})  ([0-9a-f]+)", guest, re.M)
    assert lines[0][0] == heads[0][4]
    assert sum(len(code) // 2 for _, code in lines) == int(re.search(r"guest code, (\d+)", first).group(1))
    assert len(re.findall(r"^    [0-9a-f]{16}  [0-9a-f]+", host, re.M)) > 3

    # The hottest blocks get names.
    at = int(heads[0][4], 16)
    names = tmp_path / "System.map"
    names.write_text(f"{at + 0x1000:016x} T behind\n{at - 0x10:016x} t hot_one\n{at - 0x800:016x} T before\n"
                     f"{at - 8:016x} D data\n                 U undefined\n")
    heads, _ = traced(busybox, "--symbols", str(names))
    assert {h[4]: h[6] for h in heads}[f"{at:016x}"] == "hot_one+0x10"


def test_trace_shows_blocks_that_were_given_up_as_they_were(tmp_path):
    # mov ecx, 1000000; 1: sub ecx, 1; jnz 1b; mov byte [1b + 3], 75h, which it is; power off
    code = (b"\xb9\x40\x42\x0f\x00\x83\xe9\x01\x75\xfb\xc6\x05" + struct.pack("<I", 0x100020 + 8) + b"\x75"
            + tiny.POWER_OFF)
    r = run_cli("trace", "--memory", "16", "--serial", "null", "--kernel", tiny.kernel(tmp_path, code), "--top", "1")
    assert r.returncode == 0, r.stderr
    guest, host = re.search(r"guest code, 5 bytes:\n(.*?)  host code, \d+ bytes:\n(.*)", r.stdout, re.S).groups()
    assert guest.split()[:2] == ["0000000000100025", "83e901"]
    # What does nothing, and not the jump out that is there now.
    assert re.match(r"    [0-9a-f]{16}  0f1f840000000000 ", host), host


@pytest.mark.parametrize("options,says", [
    (["--top", "0"], "trace.top: '0' is not a number from 1 to 10000"),
    (["--symbols", "/no/such/map"], "trace.symbols: /no/such/map: No such file or directory"),
    (["--symbols", "/dev/null"], "trace.symbols: /dev/null: no line is a function as `nm` prints it: ADDRESS T NAME"),
    (["--output", "/no/such/dir/x"], "trace.output: /no/such/dir/x: No such file or directory"),
    (["--engine", "interp"], "engine: 'interp' has no blocks to list; jit has"),
    (["--engine", "steam"], "engine: 'steam' is not one of those that `vireo engines` lists"),
])
def test_slips_of_trace(tmp_path, options, says):
    r = run_cli("trace", "--memory", "16", "--kernel", tiny.kernel(tmp_path, tiny.POWER_OFF), *options)
    assert (r.returncode, r.stderr) == (1, f"vireo: {says}\n")
