"""The documents say what is there: links lead somewhere, rooms are described, commands and options exist."""
import glob
import os
import re
import shlex

import pytest

from conftest import TOP

PAGES = ["README.md", *sorted(os.path.relpath(p, TOP) for p in glob.glob(f"{TOP}/docs/*.md"))]


def text(page):
    with open(os.path.join(TOP, page)) as f:
        return f.read()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text(page)):
        if "://" not in link:
            assert os.path.exists(os.path.join(TOP, os.path.dirname(page), link)), link


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    for path in re.findall(r"`((?:src|tests|docs|scripts|bench)/[\w./-]+)`", text(page)):
        if "NAME" not in path and "ROOM" not in path:
            assert os.path.exists(os.path.join(TOP, path)) or glob.glob(os.path.join(TOP, path)), path


def test_every_page_is_in_the_index():
    index = text("docs/README.md")
    for page in PAGES[1:]:
        assert page == "docs/README.md" or f"({os.path.basename(page)})" in index, page


def test_every_room_is_described():
    rooms = {d for d in os.listdir(f"{TOP}/src") if os.path.isdir(f"{TOP}/src/{d}")}
    assert rooms == set(re.findall(r"^\| `src/(\w+)` \|", text("docs/ARCHITECTURE.md"), re.M))


def test_commands_of_the_readme_exist(vireo):
    code = re.sub(r"\\\n\s*", "", "\n".join(re.findall(r"^    (.*)", text("README.md"), re.M)) + "\n" +
                  "\n".join(re.findall(r"`([^`\n]+)`", text("README.md"))))
    code = re.sub(r"\s# .*", "", code)
    commands = re.findall(r"\bvireo ([\w-]+)(.*)", code)
    assert len(commands) > 8
    for command, rest in commands:
        help_text = vireo("help", command)
        assert help_text.returncode == 0, command
        for word in shlex.split(rest.rstrip(")")):
            if word.startswith("--"):
                assert f"{word} " in help_text.stdout, f"{command} {word}"
    for target in re.findall(r"\bmake ([\w-]+)", code):
        assert re.search(rf"^{target}:", text("Makefile"), re.M), target


# --- STATUS.md: every test that it names is there ---


def known_tests():
    """Names by kind: cmocka programs and their functions, pytest files and cases, harnesses, stages."""
    names = set()
    for build in glob.glob(f"{TOP}/tests/*/meson.build"):
        with open(build) as f:
            described = f.read()
        names |= set(re.findall(r"'(\w+)': ", described))
    translated = re.search(r"translated_tests = \[(.*?)\]", text("tests/meson.build"), re.S).group(1)
    names |= {f"{name}_jit" for name in re.findall(r"'(\w+)'", translated)}
    small = re.search(r"small_cache_tests = \[(.*?)\]", text("tests/meson.build"), re.S).group(1)
    names |= {f"{name}_jit_small" for name in re.findall(r"'(\w+)'", small)}
    for path in glob.glob(f"{TOP}/tests/*/test_*.c"):
        names.add(os.path.basename(path))
        with open(path) as f:
            names |= set(re.findall(r"\b(?:cmocka_unit_test\w*|TEST)\((\w+)", f.read()))
    for path in glob.glob(f"{TOP}/tests/*/test_*.py"):
        file = os.path.relpath(path, f"{TOP}/tests")
        names.add(file)
        with open(path) as f:
            cases = re.findall(r"^def (test_\w+)", f.read(), re.M)
        names |= {f"{file}::{case}" for case in cases} | set(cases)
    names |= {os.path.basename(p)[:-2] for p in glob.glob(f"{TOP}/tests/fuzz/fuzz_*.c")}
    names |= {f"stage {s}" for s in re.findall(r'(?:Build|Pytest|Comparison|Endurance)\("([\w-]+)"|name = "(\w+)"', text("scripts/check")) for s in s}
    return names


def exists(name, names):
    """`program`, `test_file.c`, `file: function`, `guest/test_x.py::test_y[1]`, `stage NAME`, `scripts/x`."""
    if name.startswith("scripts/"):
        return os.path.exists(f"{TOP}/{name}")
    if name.startswith(("bench", "make ")) or name in names:
        return True
    parts = re.sub(r"\[.*?\]", "", name.removeprefix("tests/")).replace("::", ":").split(":")
    return all(p.strip() in names or p.strip().removeprefix("test_") in names for p in parts)


def test_the_tests_of_the_status_exist():
    names, missing, rows = known_tests(), [], 0
    for item, test in re.findall(r"^\| (.*) \| (.*) \|$", text("docs/STATUS.md"), re.M):
        rows += 1
        for name in re.findall(r"`([^`]+)`", test):
            if not exists(name, names):
                missing.append(f"{item}: {name}")
    assert rows > 80
    assert not missing, "\n".join(missing)


def test_the_license_is_there():
    assert "Apache License" in text("LICENSE") and "Version 2.0" in text("LICENSE")
