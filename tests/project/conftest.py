"""What the tests of the project share: the program under test."""
import os
import subprocess

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VIREO = os.environ.get("VIREO", os.path.join(TOP, "build", "vireo"))


@pytest.fixture(scope="session")
def vireo():
    """Run the program that the build made: `vireo("help", "run")`."""
    def run(*args, program=VIREO, **kw):
        return subprocess.run([program, *args], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, **kw)
    return run
