"""What the image tools' help, the man page and the completion say is what their parsers take, and no more."""
import functools
import os
import re
import shutil
import string
import subprocess

import pytest

from conftest import TOP, VIREO

THEIRS = shutil.which("qemu-img")


def run(*args):
    return subprocess.run([VIREO, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


def said(*args):
    r = run(*args)
    assert r.returncode == 0 and not r.stderr, args
    return r.stdout


@functools.cache
def syntax():
    """The line of each command in `vireo img --help`."""
    block = said("img", "--help").split("Command syntax:\n")[1].split("\n\n")[0]
    return {line.split()[0]: line for line in block.splitlines()}


@functools.cache
def options(*command):
    """-x and --xx that a help describes: each a line, whose value and help are there."""
    found = set()
    block = said("help", *command).split("\nOptions:\n")[1].split("\n\n")[0]
    for line in re.sub(r"\n {32}(?=\S)", "  ", block).splitlines():
        m = re.fullmatch(r"  (-\w)?(?:, |    )?(--[\w-]+)?( \S+)? +\S.*", line)
        assert m and (m[1] or m[2]), line
        found |= {name for name in m.group(1, 2) if name}
    return found


def commands():
    return ["amend", "bench", "bitmap", "check", "commit", "compare", "convert", "create", "dd", "info", "map", "measure",
            "rebase", "resize", "snapshot"]


def test_the_keys_of_networks_are_named():
    """What the readers of `netN.` ask for is in the help of --net, and so in the manual."""
    src = f"{TOP}/src"
    keys = set(re.findall(r'"%s\.([\w-]+?)(?:%u)?"', open(f"{src}/vm/nets.c").read()))
    keys |= set(re.findall(r'\{ "([\w-]+-size)", &v->', open(f"{src}/vm/nets.c").read()))
    for name in ("user", "socket", "passt", "tap_open"):
        text = open(f"{src}/net/{name}.c").read()
        for words in re.findall(r'"%s\.([\w-]+?)(?:%u)?"|key_of\(&?k, "([\w-]+)"\)|\{ "([\w-]+)", &k->', text):
            keys |= {word for word in words if word}
    keys -= {"backend"}
    assert len(keys) > 35, keys
    block = re.sub(r"\s+", " ", said("help", "run").split("  --net ")[1].split("  --vnc ")[0])
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\d*\b", block)] == []


def test_the_tool_says_what_there_is(tmp_path):
    text = said("img", "--help")
    (tmp_path / "qemu-img").symlink_to(os.path.abspath(VIREO))
    for same in ["--help"], ["-h"]:
        r = subprocess.run([tmp_path / "qemu-img", *same], capture_output=True, text=True)
        assert (r.returncode, r.stdout, r.stderr) == (0, text, "")
    assert said("img", "-h") == said("help", "img") == text
    assert list(syntax()) == commands()
    assert re.search(r"^Supported formats: .*\bqcow2 raw\b", text, re.M)
    assert text.startswith(said("img", "-V"))
    for command in commands():
        assert said("img", command, "--help") == said("img", command, "-h") == said("help", "img", command)
        assert syntax()[command].strip() in said("help", "img", command)
    assert said("img", "create", "-f", "qcow2", "--help") == said("help", "img", "create")
    assert said("net", "help") == said("net", "--help") and said("net", "help", "create") == said("net", "create", "--help")
    r = run("help", "img", "creat")
    assert (r.returncode, r.stdout, r.stderr) == (1, "", "vireo: img: no command 'creat' (did you mean 'create'?)\n")


@pytest.mark.skipif(not THEIRS, reason="QEMU's tools are not installed")
def test_scripts_find_the_options_that_they_look_for():
    """Every option of theirs, in the line of its command."""
    text = subprocess.run([THEIRS, "--help"], check=True, capture_output=True, text=True).stdout
    for line in text.split("Command syntax:\n")[1].split("\n\n")[0].splitlines():
        command = line.split()[0]
        words = set(re.findall(r"(?<=[ \[(])--?[\w-]+", line))
        mine = options("img", command)
        assert words and words <= mine, (command, words - mine)
        shown = set(re.findall(r"(?<=[ \[(])--?[\w-]+", syntax()[command]))
        # Where an option has a letter the line has that.
        assert {w for w in words if len(w) == 2} <= shown and {w for w in mine if len(w) == 2} <= shown, command


@pytest.mark.parametrize("command", [c if c in ("convert", "resize") else pytest.param(c, marks=pytest.mark.slow) for c in commands()])
def test_what_is_taken_is_described(command):
    """No letter is taken but those of the help, and those are."""
    mine = options("img", command)
    for name in (f"-{c}" for c in string.ascii_letters if c != "h"):
        # No image is named; what resize has last is a size.
        r = run("img", command, name, *["1"] * (2 * (command == "resize")))
        assert ("unrecognized option" not in r.stderr) == (name in mine), name


def test_what_io_takes_is_described():
    mine = options("io")
    for name in sorted(mine | {f"-{c}" for c in string.ascii_letters if c != "h"}):
        taken = not re.search("invalid option|unrecognized option", run("io", name).stderr)
        assert taken == (name in mine), name
    assert said("io", "--help") == said("io", "-h") == said("help", "io")
    listed = re.findall(r"^(\w+|\?) ?.* -- ", said("io", "-c", "help"), re.M)
    assert len(listed) > 25
    assert listed == re.findall(r"^  (\w+)", said("help", "io").split("The commands")[1], re.M)


@functools.cache
def manual():
    """The sections of the man page: what is bold or a paragraph's head, without its macros."""
    page = re.sub(r"\\f.|\\&", "", said("--print-man-page")).replace("\\-", "-")
    return {m[1]: m[2] for m in re.finditer(r'^\.SS "vireo (.*?)(?: \[OPTION\][^\n]*)?"\n(.*?)(?=^\.S)', page, re.M | re.S)}


@pytest.mark.parametrize("command", [*(("img", c) for c in commands()), ("io",), ("net", "create"), ("run",)])
def test_the_man_page_has_it_too(command):
    heads = re.findall(r"^\.TP\n\.B (.*)", manual()[" ".join(command)], re.M)
    there = {word.rstrip(",") for head in heads for word in head.split() if word.startswith("-")}
    assert options(*command) <= there
    if command == ("io",):
        for name in re.findall(r"^(\w+|\?) ?.* -- ", said("io", "-c", "help"), re.M):
            assert any(re.match(rf"{re.escape(name)}\b", head) for head in heads), name


def completed(*words):
    """What bash would offer for the last word."""
    script = ('source <("$0" --print-bash-completion); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vireo; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    r = subprocess.run(["bash", "-c", script, VIREO, "vireo", *words], check=True, capture_output=True, text=True)
    return set(r.stdout.split())


def test_completion_knows_the_commands_of_commands():
    assert completed("img", "") == {*commands(), "--help"}
    assert completed("img", "co") == {"commit", "compare", "convert"}
    assert completed("help", "img", "re") == {"rebase", "resize"}
    assert completed("net", "st") == {"start", "stop", "stats"}
    assert completed("help", "net", "st") == {"start", "stop", "stats"}


@pytest.mark.parametrize("command", [*(("img", c) for c in commands()), ("io",), ("net", "create")])
def test_completion_knows_their_options(command):
    offered = completed(*command, "-")
    mine = options(*command)
    long = {name for name in mine if name.startswith("--")}
    assert long <= offered <= mine | {"--help"}
    for line in said("help", *command).splitlines():
        m = re.match(r"  (-\w)(?: \S+)?  ", line)  # no other name
        assert not m or m[1] in offered, line


def test_completion_knows_their_values(tmp_path):
    assert completed("img", "create", "-f", "") == {"luks", "qcow2", "raw"}
    assert completed("img", "convert", "-f", "raw", "-O", "qc") == {"qcow2"}
    assert completed("img", "info", "--output", "=", "j") == {"json"}
    assert completed("img", "check", "-r", "") == {"leaks", "all"}
    assert completed("img", "rebase", "-t", "write") == {"writeback", "writethrough"}
    assert completed("io", "-i", "th") == {"threads"}
    (tmp_path / "disk.q").touch()
    assert completed("img", "info", f"{tmp_path}/di") == {f"{tmp_path}/disk.q"}
    assert completed("img", "create", "-b", f"{tmp_path}/di") == {f"{tmp_path}/disk.q"}
