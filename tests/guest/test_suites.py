"""Public CPU test suites that the user has: KVM_UNIT_TESTS and TEST386 name their directories."""
import os
import subprocess

import pytest

from conftest import SLOW, TOP

# Entries that take a second or two and touch a part each.
QUICK = ["ioapic", "smptest3", "smap", "emulator", "eventinj", "hypercall", "idt_test", "memory", "msr", "setjmp",
         "realmode", "debug", "syscall", "tsc_adjust", "xsave", "taskswitch2", "pcid-enabled", "pcid-disabled", "umip",
         "pku", "hyperv_clock"]


def suite(variable):
    if not os.environ.get(variable):
        pytest.skip(f"{variable} does not name a directory")
    return os.environ[variable]


def run(script, *args, timeout):
    r = subprocess.run([os.path.join(TOP, "scripts", script), *args], capture_output=True, text=True, timeout=timeout,
                       stdin=subprocess.DEVNULL)
    assert r.returncode == 0, r.stdout[-4000:] + r.stderr[-2000:]
    return r.stdout


def test_kvm_unit_tests_quick():
    suite("KVM_UNIT_TESTS")
    out = run("kvm-unit-tests", "--timeout", str(120 * SLOW), *QUICK, timeout=600 * SLOW)
    assert f"{len(QUICK)} passed, 0 failed, 0 skipped" in out, out


@pytest.mark.slow
def test_kvm_unit_tests_all():
    suite("KVM_UNIT_TESTS")
    out = run("kvm-unit-tests", "--timeout", "900", timeout=7200)
    assert ", 0 failed, " in out, out


def test_test386():
    suite("TEST386")
    assert "test386: PASS: POST FF" in run("test386", "--timeout", str(60 * SLOW), timeout=200 * SLOW)
