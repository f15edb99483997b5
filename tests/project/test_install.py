"""`make install`: what arrives, and that it works there."""
import glob
import os
import re
import subprocess

import pexpect
import pytest

from conftest import TOP, VIREO

BUILD = os.path.dirname(VIREO)


def install(destdir, prefix):
    subprocess.run(["make", "install", f"BUILD={BUILD}", f"PREFIX={prefix}", f"DESTDIR={destdir}"], cwd=TOP, check=True,
                   stdout=subprocess.DEVNULL, timeout=300)
    return {os.path.relpath(os.path.join(d, f), destdir) for d, _, files in os.walk(destdir) for f in files}


def files_of(prefix):
    return {f"{prefix}/{f}" for f in ("bin/vireo", "share/man/man1/vireo.1", "share/man/man1/vireo-qemu.1",
                                      "libexec/vireo/qemu-system-x86_64", "share/bash-completion/completions/vireo",
                                      "share/vireo/guest/build", "lib/systemd/system/vireo-networks.service")}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("root"))
    assert files_of("usr/local") <= install(root, "/usr/local")
    return f"{root}/usr/local"


def test_networks_are_started_at_a_boot(installed):
    unit = f"{installed}/lib/systemd/system/vireo-networks.service"
    with open(unit) as f:
        text = f.read()
    # Also when somebody's packet filters, and so ours, have been loaded anew.
    assert all(f"\n{word}=/usr/local/bin/vireo net start --all\n" in text for word in ("ExecStart", "ExecReload"))
    assert all(f"\n{word}=nftables.service firewalld.service\n" in text for word in ("PartOf", "ReloadPropagatedFrom"))


def test_prefix(tmp_path):
    try:
        assert files_of("opt/vireo") <= install(str(tmp_path), "/opt/vireo")
    finally:
        install(str(tmp_path / "back"), "/usr/local")


@pytest.mark.parametrize("args", [[], ["--version"], ["help"], ["help", "run"], ["engines"], ["guest", "--print", "busybox"],
                                  ["guest", "minix"], ["run"], ["run", "--kernel", "/no/such/file"]])
def test_the_same_as_before_it_was_installed(vireo, installed, args):
    here, there = vireo(*args), vireo(*args, program=f"{installed}/bin/vireo")
    for r in (here, there):
        r.stdout = re.sub(r"at \S+ million", "at N million", r.stdout)  # as measured
    assert (here.returncode, here.stdout, here.stderr) == (there.returncode, there.stdout, there.stderr)


def test_the_guest_builder_is_found(vireo, installed, tmp_path):
    """In a world without tools it is the builder that complains, so it was found."""
    for program in (VIREO, f"{installed}/bin/vireo"):
        r = vireo("guest", "busybox", program=program, env={"PATH": "/nowhere", "XDG_CACHE_HOME": str(tmp_path)})
        assert r.returncode and "guest builder is missing" not in r.stderr
    os.rename(f"{installed}/share/vireo", f"{installed}/share/elsewhere")
    try:
        r = vireo("guest", "busybox", program=f"{installed}/bin/vireo", env={"XDG_CACHE_HOME": str(tmp_path)})
        assert r.returncode == 1 and "guest builder is missing" in r.stderr
    finally:
        os.rename(f"{installed}/share/elsewhere", f"{installed}/share/vireo")


@pytest.mark.skipif(b"vireo-vnc" not in open(VIREO, "rb").read(), reason="vireo was built without neatvnc")
def test_modules_are_found(vireo, installed, tmp_path):
    """The server of VNC is one: what it complains of shows that it was found."""
    (tmp_path / "file").touch()
    screen = ["run", "--memory", "16M", "--firmware", "bios", "--vnc", f"unix:{tmp_path}/file"]
    for program in (VIREO, f"{installed}/bin/vireo"):
        assert "is there, and not a socket" in vireo(*screen, program=program).stderr
    lib, = glob.glob(f"{installed}/lib/**/vireo-vnc.so", recursive=True)
    os.rename(lib, f"{lib}.away")
    try:
        r = vireo(*screen, program=f"{installed}/bin/vireo")
        assert r.returncode == 1 and "vireo-vnc.so is neither in" in r.stderr and r.stderr.count("\n") == 1
    finally:
        os.rename(f"{lib}.away", lib)


# --- the man page ---


def test_man_page_has_no_flaw(installed):
    page = f"{installed}/share/man/man1/vireo.1"
    for tool in (["groff", "-ww", "-man", "-Tutf8", "-z"], ["mandoc", "-T", "lint", "-W", "warning"]):
        r = subprocess.run([*tool, page], capture_output=True, text=True, timeout=60)
        assert (r.returncode, r.stdout + r.stderr) == (0, ""), tool


def test_man_page_describes_every_option(vireo, installed):
    r = subprocess.run(["man", "-l", f"{installed}/share/man/man1/vireo.1"], capture_output=True, text=True, timeout=60,
                       env={**os.environ, "MANWIDTH": "200", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"})
    assert r.returncode == 0 and not r.stderr
    for command in ("run", "stop", "guest", "save", "restore"):
        assert f"vireo {command} [OPTION]..." in r.stdout
        for line in vireo("help", command).stdout.splitlines():
            words = line.split()
            for word in words[:2]:
                if line.startswith("  ") and word.startswith("--"):
                    assert word in r.stdout


# --- completion, in a real bash ---


@pytest.fixture(scope="module")
def bash(installed, tmp_path_factory):
    """`bash("vireo sa")` is what bash makes of it and the Tab key: the line, and the list it shows."""
    where = tmp_path_factory.mktemp("bash")
    (where / "images").mkdir()
    (where / "images" / "a disk.img").write_text("")
    (where / "vmlinuz").write_text("")
    env = {**os.environ, "TERM": "dumb", "PS1": "$ ", "XDG_DATA_DIRS": f"{installed}/share:/usr/share",
           "PATH": f"{installed}/bin:{os.environ['PATH']}", "XDG_RUNTIME_DIR": str(where)}
    child = pexpect.spawn("bash", ["--norc", "--noprofile", "-i"], env=env, cwd=str(where), encoding="utf-8", timeout=30,
                          dimensions=(50, 200))
    for line in ("bind 'set enable-bracketed-paste off'", "bind 'set show-all-if-ambiguous on'", "bind 'set bell-style none'",
                 "source /usr/share/bash-completion/bash_completion",
                 "vireo() { printf 'NAME PID\\nweb1 17\\n'; }  # ps, with a machine", "echo RE''ADY"):
        child.sendline(line)
    child.expect("READY")

    def complete(line):
        child.send(f"{line}\t|\x01#\recho E''ND\r")  # Ctrl-A and #: nothing of it is executed
        child.expect(r"(?s)(.*)END\r")
        return child.match.group(1).replace("\r", "")

    yield complete
    child.close(force=True)


@pytest.mark.parametrize("line,becomes", [
    ("vireo cons", "vireo console "),
    ("vireo help eng", "vireo help engines "),
    ("vireo run --no-r", "vireo run --no-reboot "),
    ("vireo run --engine int", "vireo run --engine interp "),
    ("vireo run --engine=int", "vireo run --engine=interp "),
    ("vireo run --cpu Ne", "vireo run --cpu Nehalem "),
    ("vireo run --cpu max,+sss", "vireo run --cpu max,+ssse3 "),
    ("vireo trace --cpu=max,-avx2,-invt", "vireo trace --cpu=max,-avx2,-invtsc "),
    ("vireo run --kernel vml", "vireo run --kernel vmlinuz "),
    ("vireo run -k vml", "vireo run -k vmlinuz "),
    ("vireo run --disk ima", "vireo run --disk images/"),
    ("vireo run --disk images/a", "vireo run --disk images/a\\ disk.img "),
    ("vireo restore --serial null vml", "vireo restore --serial null vmlinuz "),
    ("vireo guest --force bus", "vireo guest --force busybox "),
    ("vireo save name vml", "vireo save name vmlinuz "),
    ("vireo stop we", "vireo stop web1 "),
    ("vireo stop --timeout 5 we", "vireo stop --timeout 5 web1 "),
    ("vireo stop --timeout=5 we", "vireo stop --timeout=5 web1 "),
    ("vireo stop web1 we", "vireo stop web1 we"),
    ("vireo net show we", "vireo net show web1 "),
    ("vireo net delete --force web1 we", "vireo net delete --force web1 web1 "),
    ("vireo net edit lab --bridged l", "vireo net edit lab --bridged lo "),
    ("vireo run --net we", "vireo run --net web1 "),
    ("vireo stop --timeout we", "vireo stop --timeout we"),
])
def test_completion(bash, line, becomes):
    assert f"{becomes}|" in bash(line)


def test_completion_lists_what_there_is(bash):
    shown = bash("vireo s").split()
    assert "save" in shown and "stop" in shown and "run" not in shown
    shown = bash("vireo run --").split()
    assert {"--kernel", "--disk", "--stats", "--help"} <= set(shown) and "--force" not in shown
    shown = bash("vireo run --net ").split()
    assert {"user", "none"} <= set(shown)
