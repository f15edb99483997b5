"""scripts/check tells the truth: how it counts, and what it makes of programs that end badly."""
import importlib.machinery
import importlib.util
import os
import shutil
import signal
import subprocess
import time

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def load():
    path = os.path.join(TOP, "scripts", "check")
    loader = importlib.machinery.SourceFileLoader("check", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("check", loader))
    loader.exec_module(module)
    return module


check = load()

GOOD = "[==========] Running 2 test(s).\n[ RUN      ] a\n[       OK ] a\n[ RUN      ] b\nnoise[       OK ] b\n"


def entry(stdout="", stderr="", result="OK", returncode=0):
    return {"name": "prog", "stdout": stdout, "stderr": stderr, "result": result, "returncode": returncode}


def outcomes(test):
    return [outcome for _, outcome, _ in check.program_cases(test)]


def test_scripts_of_iotests():
    text = "iotests raw 001: pass\niotests qcow2 058: fail (known: no NBD)\niotests qcow2 002: fail\niotests raw 003: not run\niotests raw: 1 passed\n"
    assert check.iotests_cases(text) == [("raw 001", "passed", ""), ("qcow2 058", "skipped", "known: no NBD"), ("qcow2 002", "failed", ""),
                                         ("raw 003", "skipped", "it does not run here")]


def test_machines_and_tests_on_the_nested_host_count():
    text = "noise\ncheck-kvm: a_test: passed\ncheck-kvm: --cpus 1 --set a=b: failed\ncheck-kvm: other: skipped\n[ 1.0] check-kvm: x\n"
    assert check.kvm_cases(text) == [("a_test", "passed"), ("--cpus 1 --set a=b", "failed"), ("other", "skipped")]


def test_each_function_counts():
    assert check.program_cases(entry(GOOD)) == [("prog: a", "passed", ""), ("prog: b", "passed", "")]


def test_a_failed_function_is_one_failure():
    out = GOOD.replace("noise[       OK ] b", "")
    assert outcomes(entry(out, "[  FAILED  ] b\n", "FAIL", 1)) == ["passed", "failed"]


def test_a_crash_fails_the_test_that_was_running():
    out = GOOD.replace("noise[       OK ] b", "")
    assert check.program_cases(entry(out, "", "FAIL", -11))[1] == ("prog: b", "failed", "ended by SIGSEGV")


def test_a_crash_before_the_first_test():
    assert check.program_cases(entry("", "", "FAIL", -6)) == [("prog", "failed", "ended by SIGABRT")]


def test_a_hang():
    out = "[==========] Running 1 test(s).\n[ RUN      ] a\n"
    assert check.program_cases(entry(out, "", "TIMEOUT", -15)) == [("prog: a", "failed", "timed out")]


def test_no_test_at_all():
    assert check.program_cases(entry("hello\n")) == [("prog", "failed", "it ran no test")]
    assert outcomes(entry("[==========] Running 0 test(s).\n")) == ["failed"]


def test_an_early_end_with_a_good_status():
    out = "[==========] Running 3 test(s).\n[ RUN      ] a\n[       OK ] a\n"
    assert outcomes(entry(out)) == ["passed", "failed"]


def test_good_functions_and_a_bad_status():
    assert check.program_cases(entry(GOOD, "", "FAIL", 23))[2] == ("prog", "failed", "exit status 23")


def test_skipped_functions_are_counted_once_with_their_reason():
    out = ("[==========] Running 2 test(s).\n[ RUN      ] a\nskipped: no disk\n[  SKIPPED ] a\n[ RUN      ] b\n[       OK ] b\n"
           "[==========] 2 test(s) run.\n[  PASSED  ] 1 test(s).\n[  SKIPPED ] 1 test(s), listed below:\n[  SKIPPED ] a\n")
    assert check.program_cases(entry(out)) == [("prog: a", "skipped", "no disk"), ("prog: b", "passed", "")]


def test_the_reason_may_be_shouted():
    out = "[ RUN      ] a\nSKIPPED: no dmidecode\n[  SKIPPED ] a\n"
    assert check.program_cases(entry(out)) == [("prog: a", "skipped", "no dmidecode")]


def test_a_summary_of_skipped_functions_excuses_no_later_one():
    out = ("[ RUN      ] a\n[  SKIPPED ] a\n[  SKIPPED ] 1 test(s), listed below:\n[  SKIPPED ] a\n"
           "[ RUN      ] a\n")
    assert outcomes(entry(out, "", "FAIL", -11)) == ["skipped", "failed"]


def test_two_groups_in_one_program():
    assert outcomes(entry(GOOD + GOOD)) == ["passed"] * 4


def test_reports_of_pytest(tmp_path):
    report = tmp_path / "r.xml"
    report.write_text('<testsuites><testsuite><testcase classname="m" name="a"/><testcase classname="m" name="b"><failure/>'
                      '</testcase><testcase classname="m" name="c"><skipped message="not here"/></testcase>'
                      '<testcase classname="m" name="d"/><testcase classname="m" name="d"><error/></testcase>'
                      '</testsuite></testsuites>')
    assert [c[1:] for c in check.junit_cases(str(report))] == [("passed", ""), ("failed", ""), ("skipped", "not here"),
                                                               ("failed", "")]


def test_nothing_run_is_not_success():
    tally = check.Tally()
    assert tally.exit_status() == 1
    tally.add("s", "t", "passed")
    assert tally.exit_status() == 0
    tally.add("s", "t", "skipped", "why")
    assert tally.exit_status() == 0
    tally.add("s", "t", "failed")
    assert (tally.closing_line(), tally.exit_status()) == ("1 passed, 1 failed, 1 skipped", 1)


# --- the script itself, in a small project of its own ---

MESON = """project('toy', 'c')
cmocka = dependency('cmocka', required: get_option('tests'))
executable('vireo', files('main.c'))
test('toy', executable('test_toy', 'toy.c', dependencies: cmocka), timeout: 3)
"""
TOY = """#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <unistd.h>
static void fine(void **state) { (void)state; }
static void other(void **state) { (void)state; %s; }
int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(fine), cmocka_unit_test(other) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
"""


@pytest.fixture
def toy(tmp_path):
    """Make the project with this body of its second test; `toy(body, stage...)` is the finished run."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "tests" / "guest").mkdir(parents=True)
    shutil.copy(os.path.join(TOP, "scripts", "check"), tmp_path / "scripts")
    (tmp_path / "meson.build").write_text(MESON)
    (tmp_path / "meson_options.txt").write_text("option('tests', type: 'feature')\n")
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")

    def start(body, *stages):
        (tmp_path / "toy.c").write_text(TOY % body)
        return subprocess.Popen([tmp_path / "scripts" / "check", *stages], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True,
                                # Whoever started all this in the background had it ignored.
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def run(body, *stages):
        child = start(body, *stages)
        out = child.communicate(timeout=120)[0]
        return child.returncode, out.splitlines()[-1], out

    run.start = start
    run.path = tmp_path
    return run


@pytest.mark.parametrize("body,status,closing", [
    ("", 0, "2 passed, 0 failed, 0 skipped"),
    ("skip()", 0, "1 passed, 0 failed, 1 skipped"),
    ("fail()", 1, "1 passed, 1 failed, 0 skipped"),
    ("kill(getpid(), SIGKILL)", 1, "1 passed, 1 failed, 0 skipped"),
    ("pause()", 1, "1 passed, 1 failed, 0 skipped"),
    ("_exit(0)", 1, "1 passed, 1 failed, 0 skipped"),
    ("no such code", 1, "0 passed, 1 failed, 0 skipped"),
])
def test_a_run(toy, body, status, closing):
    assert toy(body, "gcc")[:2] == (status, closing)


def test_an_old_result_does_not_count(toy, monkeypatch):
    assert toy("", "gcc")[0] == 0
    assert toy("no such code", "gcc")[:2] == (1, "0 passed, 1 failed, 0 skipped")
    shim = toy.path / "bin" / "meson"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\n[ "$1" = test ] && exit 1\nexec {shutil.which("meson")} "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    assert toy("", "gcc")[:2] == (1, "0 passed, 1 failed, 0 skipped")


def test_stages_over_a_build(toy):
    case = toy.path / "tests" / "guest" / "test_it.py"
    case.write_text("import os\ndef test_a(): assert os.path.exists(os.environ['VIREO'])\ndef test_b(): assert 0\n")
    assert toy("", "guests")[:2] == (1, "1 passed, 1 failed, 0 skipped")
    case.write_text("nonsense(\n")
    assert toy("", "guests")[:2] == (1, "0 passed, 1 failed, 0 skipped")
    case.write_text("")
    assert toy("", "guests")[:2] == (1, "0 passed, 1 failed, 0 skipped")


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run(toy, sig):
    (toy.path / "meson.build").write_text(MESON.replace("timeout: 3", "timeout: 60"))
    child = toy.start("pause()", "gcc", "guests")
    deadline = time.monotonic() + 60
    while not (toy.path / "build" / "test_toy").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    child.send_signal(sig)
    out = child.communicate(timeout=30)[0].splitlines()
    assert child.returncode == 1
    assert out[-1] == "0 passed, 1 failed, 0 skipped"
    assert "== guests" not in out


def test_unknown_stages_are_refused(toy):
    status, line, _ = toy("", "gcg")
    assert status == 2 and "gcg" in line and "gcc" in line


def test_ci_runs_make_check(tmp_path):
    (tmp_path / "bin").mkdir()
    make = tmp_path / "bin" / "make"
    make.write_text('#!/bin/sh\necho "in $PWD: make $*"\nexit 7\n')
    make.chmod(0o755)
    r = subprocess.run(["bash", os.path.join(TOP, ".ci", "run")], capture_output=True, text=True, cwd="/", timeout=30,
                       env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"})
    assert (r.returncode, r.stdout) == (7, f"in {TOP}: make check\n")


@pytest.mark.parametrize("target,command", [
    ("check", "scripts/check"), ("check-all", "scripts/check --all"), ("fuzz", "scripts/fuzz 60"), ("bench", "scripts/bench"),
    ("run", "scripts/run"), ("install", "meson install"),
])
def test_make_has_the_targets(target, command):
    r = subprocess.run(["make", "-n", target], cwd=TOP, capture_output=True, text=True, timeout=30)
    assert r.returncode == 0 and command in r.stdout
    if command.startswith("scripts/"):
        assert os.access(os.path.join(TOP, command.split()[0]), os.X_OK)
