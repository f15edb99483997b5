"""The bench itself: that its programs run, that what they compute is compared, that targets are. No figure is looked at."""
import importlib.util
import os
import re
import subprocess
import sys
import types

import pytest

from conftest import TOP, VIREO

BENCH = os.path.join(TOP, "scripts", "bench")


@pytest.fixture
def compare(monkeypatch):
    monkeypatch.syspath_prepend(os.path.join(TOP, "bench"))
    spec = importlib.util.spec_from_file_location("compare", os.path.join(TOP, "bench", "compare.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bench(*args, timeout=300):
    return subprocess.run([BENCH, VIREO, *args], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_program_computes_the_same_on_all_engines(busybox):
    r = bench("--guest", "busybox", "--divisor", "10", "--engines", "jit,interp,native", "--mitigations", "off", "avx2")
    assert r.returncode == 0, r.stdout + r.stderr
    guest, heading, row = r.stdout.splitlines()
    assert "guest busybox" in guest and heading.split()[:5] == ["mitigations:", "off", "jit", "interp", "native"]
    assert re.fullmatch(r"avx2( +\d+\.\d\ds){3}( +\d+\.\d\d){2} +\d+\.\d\d%", row), row


def test_a_guest_that_does_not_exist_leaves_nothing_behind(tmp_path):
    r = subprocess.run([BENCH, VIREO, "--guest", "foo", "avx2"], capture_output=True, text=True, timeout=60,
                       stdin=subprocess.DEVNULL, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)})
    assert r.returncode == 2
    assert r.stderr.splitlines()[-1].endswith("error: --guest: 'foo' is not one of bench, busybox, generic, debian")
    assert not os.listdir(tmp_path)


def made(compare, machines, **options):
    """A comparison of machines that are made up."""
    c = object.__new__(compare.Comparison)
    c.options = types.SimpleNamespace(runs=1, divisor=1, own_cpus=False, **options)
    c.engines, c.missed, c.counted, c.targets, c.small = list(machines), 0, False, compare.TARGETS["default"], ["hash", "fork"]
    return c


class Fake:
    def __init__(self, seconds, result="1", flags=()):
        self.seconds, self.result, self.flags = seconds, result, set(flags)

    def start(self):
        pass

    stop = start

    def measure(self, name, divisor):
        return self.seconds, self.result


@pytest.mark.parametrize("jit,tcg,missed,says", [
    (Fake(1), Fake(2), 0, "0.50"),
    (Fake(1), Fake(2, "2"), 1, "different results: jit 1, tcg 2"),
    (Fake(9.1), Fake(10), 1, "MISSED: at most 0.9"),
])
def test_wrong_results_and_missed_targets_fail(compare, capsys, jit, tcg, missed, says):
    machines = {"jit": jit, "tcg": tcg}
    c = made(compare, machines)
    c.line("name", *c.row("name", machines))
    assert c.missed == missed and says in capsys.readouterr().out


@pytest.mark.parametrize("share,missed", [(0.02, 0), (0.021, 1)])
def test_the_interpreted_share_is_held_against_its_target(compare, capsys, share, missed):
    c = made(compare, {"jit": None, "tcg": None})
    c.line("name", {"jit": 1, "tcg": 2}, [], share)
    assert c.missed == missed and ("MISSED: at most 2% interpreted" in capsys.readouterr().out) == bool(missed)


def test_the_share_is_of_the_program_alone(compare, tmp_path):
    counting = compare.Counting(["true"], str(tmp_path))
    counts = iter([(1000, 2000), (1001, 2100)])
    counting.counters = lambda: next(counts)
    counting.measure = lambda name, divisor, at_mark: (at_mark(), at_mark())
    assert counting.share("name", 1) == 0.01


def test_the_mean_is_held_against_its_target(compare, capsys):
    c = made(compare, {"jit": None})
    c.mean("all", [0.5, 0.9], 0.7)
    assert c.missed == 0 and "0.671" in capsys.readouterr().out
    c.mean("all", [0.7, 0.9], 0.7)
    assert c.missed == 1 and "MISSED" in capsys.readouterr().out


@pytest.mark.parametrize("name,ratio,missed", [("hash", 0.9, 0), ("fork", 0.45, 0), ("fork", 0.46, 1), ("pipe", 0.31, 1)])
def test_programs_have_targets_of_their_own(compare, name, ratio, missed):
    c = made(compare, {"jit": None, "tcg": None})
    c.line(name, {"jit": ratio, "tcg": 1}, [])
    assert c.missed == missed


@pytest.mark.parametrize("mode,ratios,missed", [
    ("default", {"hash": (0.33, 2.0)}, 0),
    ("default", {"hash": (0.3, 2.0), "fork": (0.37, 2.0)}, 1),
    ("default", {"hash": (0.33, 2.1)}, 1),
    ("default", {"hash": (0.1, 1), "gcc": (0.46, 9)}, 1),
    ("default", {"hash": (0.1, 1), "gcc": (0.45, 9)}, 0),
    ("default", {"x87": (0.16, 1)}, 1),
    ("off", {"hash": (0.7, 3), "gcc": (0.7, 9)}, 0),
    ("off", {"hash": (0.71, 3)}, 1),
])
def test_means_are_held_against_the_targets_of_their_table(compare, mode, ratios, missed):
    c = made(compare, {"jit": None})
    c.targets = compare.TARGETS[mode]
    c.means({name: {"tcg": tcg, "native": native} for name, (tcg, native) in ratios.items()})
    assert c.missed == missed


def test_memory_beyond_ram_counts_what_is_mapped_twice_once(compare):
    script = ("import mmap, os\n"
              "fd = os.memfd_create('x')\n"
              "os.ftruncate(fd, 8 << 20)\n"
              "ram = mmap.mmap(-1, 512 << 20)\n"
              "ram[0] = 1\n"
              "print(flush=True)\ninput()\n"
              "maps = [mmap.mmap(fd, 8 << 20) for _ in range(2)]\n"
              "for m in maps:\n    m[:] = bytes(8 << 20)\n"
              "print(flush=True)\ninput()\n")
    p = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        p.stdout.readline()
        before = compare.beyond_ram(p.pid)
        p.stdin.write(b"\n")
        p.stdin.flush()
        p.stdout.readline()
        assert 7.5 < compare.beyond_ram(p.pid) - before < 12
    finally:
        p.kill()
        p.wait()


def test_two_programs_on_two_cpus_compute_the_same(busybox):
    r = bench("--guest", "busybox", "--divisor", "50", "--processor-time", "two")
    figure = re.fullmatch(r"two programs on 2 CPUs +at least 1.8 of 1 CPU +(\d\.\d\d): hash .*, fork \d\.\d\d(   MISSED)?\n", r.stdout)
    assert figure, r.stdout + r.stderr
    assert r.returncode == bool(figure[2])


def test_different_processors_are_not_compared(compare, capsys):
    machines = {"jit": Fake(1, flags=["avx", "sse"]), "tcg": Fake(1, flags=["avx"])}
    c = made(compare, machines)
    c.start(machines)
    assert c.missed == 1 and "tcg lacks flags of the other processors: sse" in capsys.readouterr().out


def test_a_program_that_fails_is_said(compare):
    child = [sys.executable, "-c", "input(); print('bench:begin', flush=True); input(); print('bench:done:3:', flush=True)"]
    machine = compare.Machine(child)
    machine.child = compare.Child(child)
    with pytest.raises(compare.Failed, match="exit status 3"):
        machine.measure("name", 1)
    assert machine.child is None


def test_a_machine_that_ends_is_said(compare):
    child = [sys.executable, "-c", "input(); print('last words')"]
    machine = compare.Machine(child)
    machine.child = compare.Child(child)
    with pytest.raises(compare.Failed, match="last words"):
        machine.measure("name", 1)
    # One that is gone before it is told.
    machine.child = compare.Child(["true"])
    machine.child.process.wait()
    with pytest.raises(compare.Failed, match="Broken pipe"):
        machine.measure("name", 1)


def test_the_time_of_processors_is_that_of_all_descendants(compare):
    script = ("import subprocess, sys, time\n"
              "spin = 'import time\\nwhile time.process_time() < 0.3: pass\\nprint(flush=True)\\ninput()'\n"
              "print('bench:begin', flush=True)\n"
              "input()\n"
              "p = subprocess.Popen([sys.executable, '-c', spin], stdout=subprocess.PIPE, stdin=subprocess.PIPE)\n"
              "p.stdout.readline()\n"
              "time.sleep(0.5)\n"
              "print('bench:end\\nbench:sum:1:', flush=True)\n"
              "input()\n")
    child = compare.Child([sys.executable, "-c", script], compare.processor_time)
    try:
        seconds, _ = child.timed(lambda: None)
    finally:
        child.kill()
    assert 0.1 < seconds < 0.6


@pytest.mark.parametrize("args,word", [(["nothing"], "hash"), (["--engines", "jut"], "interp"), (["--mitigations", "on"], "off"),
                                       (["--runs", "0"], "at least 1")])
def test_what_is_not_there_is_refused(busybox, args, word):
    r = bench("--guest", "busybox", *args)
    assert r.returncode == 2 and word in r.stderr and args[-1] in r.stderr
