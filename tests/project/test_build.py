"""What the builds promise: warnings are errors, sanitizers are on, arm64 is arm64, the program is hardened."""
import glob
import json
import os
import shlex
import subprocess

import pytest

from conftest import TOP, VIREO


def build(name):
    path = os.path.join(TOP, name)
    if not os.path.exists(os.path.join(path, "vireo")):
        pytest.skip(f"{name} has not been built")
    return path


def compile_like(directory, code, tmp_path):
    """Compile code with the command that the build uses for src/base/err.c."""
    with open(os.path.join(directory, "compile_commands.json")) as f:
        command = next(c["command"] for c in json.load(f) if c["file"].endswith("/src/base/err.c"))
    source = tmp_path / "code.c"
    source.write_text(code)
    words = [w for w in shlex.split(command) if not w.startswith(("-M", "-o")) and not w.endswith((".d", ".o", "err.c"))]
    return subprocess.run([*words, "-o", str(tmp_path / "code.o"), str(source)], cwd=directory, capture_output=True, text=True,
                          timeout=60)


@pytest.mark.parametrize("name", ["build", "build-clang"])
@pytest.mark.parametrize("slip,warning", [
    ("int f(int a);\nint f(int a) { { int a = 1; return a; } }\n", "shadow"),
    ("int f(void) { return 1; }\n", "missing-prototypes"),
    ("#include <stdio.h>\nvoid f(char *s);\nvoid f(char *s) { printf(s); }\n", "format"),
    ("int f(int n);\nint f(int n) { char a[n]; return sizeof(a); }\n", "vla"),
    ("int f(unsigned a, int b);\nint f(unsigned a, int b) { return a < b; }\n", "sign-compare"),
])
def test_a_warning_is_an_error(name, slip, warning, tmp_path):
    if name == "build-clang" and warning == "format":
        name = "build-fuzz"  # clang sees format strings only where the C library's checks are off
    directory = build(name)
    fine = compile_like(directory, "int f(void);\nint f(void) { return 0; }\n", tmp_path)
    assert fine.returncode == 0, fine.stderr
    r = compile_like(directory, slip, tmp_path)
    assert r.returncode and "error:" in r.stderr and warning in r.stderr


def symbols(path):
    return subprocess.run(["nm", path], capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_sanitizers_are_in_their_build():
    names = symbols(f"{build('build-asan')}/vireo")
    assert "__asan_report_load8" in names and "__ubsan_handle_" in names
    assert "__asan_" not in symbols(f"{build('build')}/vireo")


def dynamic(path, undefined):
    """The names of the symbols that a file has for others, or must find in others (weak ones need not be there)."""
    words = subprocess.run(["nm", "-D", "--undefined-only" if undefined else "--defined-only", path], capture_output=True, text=True, check=True, timeout=60)
    rows = [line.split()[-2:] for line in words.stdout.splitlines()]
    return {name.split("@")[0] for kind, name in rows if not undefined or kind == "U"}


def libraries(path):
    words = subprocess.run(["ldd", path], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    return {w for w in words if w.startswith("/")}


@pytest.mark.parametrize("name", ["build", "build-clang", "build-asan"])
def test_modules_find_what_they_use(name):
    program = f"{build(name)}/vireo"
    modules = glob.glob(f"{build(name)}/*.so")
    if not modules:
        pytest.skip(f"{name} has no modules (base/module.h): the libraries that they are for are not there")
    for module in modules:
        there = set().union(*(dynamic(p, False) for p in {program, *libraries(program), *libraries(module)}))
        missing = dynamic(module, True) - there
        assert not missing, f"{module}: to be exported by the program (meson.build): {sorted(missing)}"


def test_arm64_is_arm64():
    with open(f"{build('build-aarch64')}/vireo", "rb") as f:
        assert int.from_bytes(f.read(20)[18:20], "little") == 183  # EM_AARCH64


def test_the_cross_build_makes_the_same_documents():
    for name in ("vireo.1", "vireo"):
        with open(f"{build('build-aarch64')}/docs/{name}") as a, open(f"{build('build')}/docs/{name}") as b:
            assert a.read() == b.read()


def test_the_program_is_hardened():
    if not VIREO.startswith(build("build")):
        pytest.skip("a build with sanitizers has other means")
    dynamic = subprocess.run(["readelf", "-Wdlh", VIREO], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "Position-Independent Executable" in dynamic
    assert "GNU_RELRO" in dynamic and "BIND_NOW" in dynamic
    assert "GNU_STACK" in dynamic and "RWE" not in dynamic
    names = symbols(VIREO)
    assert "__stack_chk_fail" in names and "__snprintf_chk" in names
