"""scripts/endure: short forms of its long runs, and that it sees what goes wrong."""
import os
import re
import subprocess

import pytest

from conftest import SLOW, TOP, VIREO

ENDURE = os.path.join(TOP, "scripts", "endure")
SOAK = os.path.join(TOP, "tests", "guest", "soak.c")
INTERRUPTS = ("timer-interrupts", "ipis", "shootdowns")


def endure(what, *args, vireo=VIREO):
    return subprocess.run([ENDURE, what, vireo, *args], capture_output=True, text=True, timeout=600 * SLOW,
                          stdin=subprocess.DEVNULL)


def test_boots_with_one_two_and_four_cpus(busybox):
    r = endure("boots", "--count", "1", "--patience", str(int(120 * SLOW)))
    assert r.returncode == 0, r.stdout + r.stderr
    *each, all_ = r.stdout.splitlines()
    assert each == [f"{cpus} CPUs: 1 good, 0 bad" for cpus in (1, 2, 4)]
    assert re.fullmatch(r"3 boots good, 0 bad, \d+ s", all_)


@pytest.mark.parametrize("engine", ["jit", "interp"])
def test_timers_ipis_page_tables_and_modules(busybox, engine):
    r = endure("soak", "--seconds", "5", "--engine", engine, "--patience", str(int(120 * SLOW)))
    assert r.returncode == 0, r.stdout + r.stderr
    counts = dict((name, int(n)) for n, name in re.findall(r"(\d+) ([a-z-]+)(?=[,\n])", r.stdout))
    with open(SOAK) as f:
        jobs = set(re.findall(r'\badd\("(\w+)"', f.read()))
    assert jobs and all(counts[name] > 0 for name in (*jobs, *INTERRUPTS)), r.stdout


@pytest.fixture
def fake(tmp_path, busybox):
    """Something that is called as vireo is, and says as a guest what it is given."""
    def make(text, status=0):
        path = tmp_path / "vireo"
        path.write_text(f'#!/bin/sh\nif [ "$1" = guest ]; then exec "{VIREO}" "$@"; fi\ncat <<END\n{text}\nEND\nexit {status}\n')
        path.chmod(0o755)
        return str(path)
    return make


GOOD = "endure: 1 CPUs\nendure: status 0"


@pytest.mark.parametrize("text,status,why", [
    (GOOD, 0, None),
    (GOOD, 1, "exit status 1"),
    ("[    1.5] BUG: unable to handle page fault\n" + GOOD, 0, "BUG: unable to handle page fault"),
    ("[    9.5] rcu: INFO: rcu_preempt detected stalls\n" + GOOD, 0, "rcu: INFO: rcu_preempt detected stalls"),
    ("endure: 2 CPUs\nendure: status 0", 0, "it did not say 'endure: 1 CPUs'"),
    ("endure: 1 CPUs\nendure: status 1", 0, "it did not say 'endure: status 0'"),
])
def test_a_bad_boot_is_counted_and_kept(fake, text, status, why):
    r = endure("boots", "--count", "2", "--cpus", "1", vireo=fake(text, status))
    assert r.returncode == (1 if why else 0), r.stdout + r.stderr
    lines = r.stdout.splitlines()
    assert lines[-2] == ("1 CPUs: 0 good, 2 bad" if why else "1 CPUs: 2 good, 0 bad")
    for n, line in enumerate(lines[:-2]):
        said = re.fullmatch(rf"boot {n + 1} with 1 CPUs: {re.escape(why)}; (\S+)", line)[1]
        with open(said) as f:
            assert f.read().strip() == text
        os.unlink(said)


def test_a_guest_that_hangs_is_counted(fake):
    r = endure("boots", "--count", "1", "--cpus", "1", "--patience", "1", vireo=fake(f"{GOOD}\n$(sleep 5)"))
    assert r.returncode == 1 and "not done after 1 s" in r.stdout


def test_what_a_soaked_guest_sees_wrong_fails(fake):
    r = endure("soak", "--seconds", "1", "--cpus", "1", vireo=fake("soak: WRONG: a timer came early: 1, not 2 (errno 0)\n" + GOOD))
    assert r.returncode == 1 and "soak: WRONG: a timer came early" in r.stdout


@pytest.mark.parametrize("args,word", [(["--cpus", "0"], "--cpus"), (["--count", "0"], "at least 1"), (["--seconds", "-1"], "at least 1")])
def test_what_makes_no_sense_is_refused(args, word):
    r = endure("boots", *args)
    assert r.returncode == 2 and word in r.stderr
