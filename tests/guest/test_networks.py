"""Two real machines in a network of `vireo net`, in name spaces of their own: addresses, names, and coming back."""
import os
import subprocess
import sys

import pytest

from conftest import TOP, guest_files

PROJECT = os.path.join(TOP, "tests", "project")
sys.path.insert(0, PROJECT)


@pytest.mark.slow
def test_two_machines_find_each_other():
    import test_lan as project
    if project.WHY:
        pytest.skip(project.WHY)
    s = project.Scenes()
    r = s.result("machines", guest_files("busybox"))
    assert r["two by name"] and r["outside"] and r["mtu"] == "1400", r
    assert r["addresses"] == r["again"]
    assert r["killed"] == [] and r["left"] == project.NOTHING
