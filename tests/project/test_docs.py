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
    commands = re.findall(r"\bvireo (\w+)(.*)", code)
    assert len(commands) > 8
    for command, rest in commands:
        help_text = vireo("help", command)
        assert help_text.returncode == 0, command
        for word in shlex.split(rest.rstrip(")")):
            if word.startswith("--"):
                assert f"{word} " in help_text.stdout, f"{command} {word}"
    for target in re.findall(r"\bmake ([\w-]+)", code):
        assert re.search(rf"^{target}:", text("Makefile"), re.M), target
