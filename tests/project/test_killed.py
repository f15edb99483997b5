"""A tool that is killed at any point leaves its source as it was, and whoever opens its target hears what to do with it.

VIREO_KILLS: how often each command is killed (default 2)."""
import os
import random
import shutil
import subprocess
import time

import pytest

from conftest import VIREO

KILLS = int(os.environ.get("VIREO_KILLS", "2"))
RNG = random.Random(int(os.environ.get("VIREO_KILL_SEED", "5")))
INCOMPLETE = "It is incomplete: '{}' ended before all of it was made. Make it anew"


def img(*args, cwd, okay=(0,)):
    for _ in range(200):
        r = subprocess.run([VIREO, "img", *args], cwd=cwd, capture_output=True, text=True, timeout=60)
        if "by another" not in r.stderr:
            break
        time.sleep(0.05)  # the kernel lets go of the files of a killed process's io_uring a little later
    assert r.returncode in okay, (args, r)
    return r


def has_attributes(path):
    try:
        os.setxattr(path, "user.vireo.test", b"x")
    except OSError:
        return False
    return True


def contents(where, name):
    img("convert", "-O", "raw", name, "all.raw", cwd=where)
    return (where / "all.raw").read_bytes()


def killed(where, args, duration):
    """Start it and kill it somewhere within its time; False when it was done before."""
    child = subprocess.Popen([VIREO, "img", *args], cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(RNG.random() * duration)
    child.kill()
    return child.wait() < 0


@pytest.fixture(scope="module")
def disks(tmp_path_factory):
    """A disk with a snapshot and a bitmap, an overlay of it, and what else the commands take."""
    d = tmp_path_factory.mktemp("disks")
    data = b"".join(RNG.randbytes(40000) + bytes([i % 256]) * 60000 for i in range(50))
    data += bytes(-len(data) % 65536)
    (d / "source.raw").write_bytes(data)
    img("convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", "source.raw", "disk.q", cwd=d)
    img("snapshot", "-c", "one", "disk.q", cwd=d)
    img("bitmap", "--add", "disk.q", "b", cwd=d)
    img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-b", "disk.q", "-F", "qcow2", "over.q", cwd=d)
    subprocess.run([VIREO, "io", *[x for i in range(25) for x in ("-c", f"write -P {i + 1} {i * 190000} 90000")], "over.q"], cwd=d, check=True,
                   stdout=subprocess.DEVNULL)
    img("convert", "-f", "raw", "-O", "qcow2", "source.raw", "other.q", cwd=d)
    img("create", "-q", "-f", "qcow2", "-o", "preallocation=metadata,cluster_size=4k", "room.q", "8M", cwd=d)
    return d


def slow(*args):
    return pytest.param(*args, marks=pytest.mark.slow)


# The command, what it reads, what it makes anew (or None), what it changes in place (or None).
COMMANDS = [
    ("create -q -f qcow2 -o preallocation=full,cluster_size=4k new.q 8M", [], "new.q", None),
    ("convert -O qcow2 -o cluster_size=4k over.q new.q", ["disk.q", "over.q"], "new.q", None),
    slow("convert -c -O qcow2 over.q new.q", ["disk.q", "over.q"], "new.q", None),
    ("convert -O raw over.q new.raw", ["disk.q", "over.q"], "new.raw", None),
    slow("convert -n -O qcow2 over.q room.q", ["disk.q", "over.q"], "room.q", None),
    slow("dd -O qcow2 bs=64k if=over.q of=new.q", ["disk.q", "over.q"], "new.q", None),
    ("commit -q over.q", [], None, "over.q"),
    ("rebase -b other.q -F qcow2 over.q", ["disk.q", "other.q"], None, "over.q"),
    ("resize -q --preallocation=full disk.q 16M", [], None, "disk.q"),
    slow("resize -q --shrink disk.q 1M", [], None, "disk.q"),
    ("snapshot -c two disk.q", [], None, "disk.q"),
    slow("snapshot -a one disk.q", [], None, "disk.q"),
    ("snapshot -d one disk.q", [], None, "disk.q"),
    slow("amend -o refcount_bits=64 disk.q", [], None, "disk.q"),
    slow("amend -o compat=0.10 room.q", [], None, "room.q"),
    ("bitmap --add disk.q second", [], None, "disk.q"),
    slow("bitmap --clear disk.q b", [], None, "disk.q"),
    ("check -q -r all damaged.q", [], None, "damaged.q"),
]


def damage(path):
    """Let all counts of the first block be wrong."""
    with open(path, "r+b") as f:
        head = f.read(64)
        f.seek(int.from_bytes(head[48:56], "big"))
        block = int.from_bytes(f.read(8), "big")
        f.seek(block + 64)
        f.write(bytes(512))


@pytest.mark.parametrize("command,reads,makes,changes", COMMANDS, ids=lambda x: x.replace(" ", "_") if isinstance(x, str) else "")
def test_killed(disks, tmp_path, command, reads, makes, changes):
    args = command.split()

    def fresh():
        for f in disks.iterdir():
            shutil.copyfile(f, tmp_path / f.name)
        if "damaged.q" in command:
            shutil.copyfile(tmp_path / "disk.q", tmp_path / "damaged.q")
            damage(tmp_path / "damaged.q")
        if "snapshot -a" in command:  # which an image with bitmaps refuses
            img("bitmap", "--remove", "disk.q", "b", cwd=tmp_path)
        (tmp_path / "new.q").unlink(missing_ok=True)
        (tmp_path / "new.raw").unlink(missing_ok=True)

    fresh()
    before = contents(tmp_path, changes if changes != "damaged.q" else "disk.q") if changes else b""
    start = time.monotonic()
    img(*args, cwd=tmp_path)
    duration = time.monotonic() - start
    after = contents(tmp_path, changes) if changes else b""
    was_killed = said = 0
    for _ in range(KILLS):
        fresh()
        sources = {name: (tmp_path / name).read_bytes() for name in reads}
        if not killed(tmp_path, args, duration):
            continue
        was_killed += 1
        for name, data in sources.items():
            assert (tmp_path / name).read_bytes() == data, name
        if makes and (tmp_path / makes).exists():
            r = img("info", makes, cwd=tmp_path, okay=(0, 1))
            if r.returncode:
                # Killed before it could say that it is incomplete: nothing is in it that could be taken for a disk.
                said += INCOMPLETE.format(args[0]) in r.stderr
                assert INCOMPLETE.format(args[0]) in r.stderr or not (tmp_path / makes).stat().st_size, r
            elif has_attributes(tmp_path) and makes.startswith("new"):
                assert (tmp_path / makes).stat().st_size == 0 or contents(tmp_path, makes) == contents(tmp_path, "over.q"), r
        if changes:
            # It says what is wrong with it, if anything is, and what that wants; that is enough.
            r = img("check", changes, cwd=tmp_path, okay=(0, 2, 3))
            if r.returncode == 2:
                assert changes == "damaged.q" or "ERROR" in r.stdout + r.stderr, r
            img("check", "-q", "-r", "all", changes, cwd=tmp_path, okay=(0,))
            have = contents(tmp_path, changes)
            if command.startswith("snapshot -a") or not args[0] in ("resize", "commit"):
                assert have in (before, after), command
            else:
                assert have[:min(len(before), len(after))] == before[:min(len(before), len(after))], command
        if "one" not in command or "-d" not in command:
            r = img(*args, cwd=tmp_path, okay=(0, 1))
            if "is inconsistent" in r.stderr:  # it says that it must be removed
                img("bitmap", "--remove", changes, "b", cwd=tmp_path)
                r = img(*args, cwd=tmp_path, okay=(0, 1))
            assert not r.returncode or args[0] in ("snapshot", "bitmap") or "only be used for growing" in r.stderr, r
        if changes:
            img("check", "-q", changes, cwd=tmp_path)
        elif command.startswith("convert"):
            img("compare", "-q", makes, "over.q", cwd=tmp_path)
    assert was_killed or KILLS < 10
    if makes and KILLS >= 10 and has_attributes(tmp_path):
        assert said


def test_what_was_left_is_not_taken_for_the_whole(disks, tmp_path):
    """The same without chance: a target as it is while it is made."""
    for f in "disk.q", "over.q":
        shutil.copyfile(disks / f, tmp_path / f)
    if not has_attributes(tmp_path):
        pytest.skip("the file system has no user attributes")
    os.setxattr(tmp_path / "over.q", "user.vireo.incomplete", b"convert")
    for command in ["info"], ["check"], ["convert", "-O", "raw", "-U"], ["snapshot", "-c", "x"]:
        r = img(*command, "over.q", *["out"] * (command[0] == "convert"), cwd=tmp_path, okay=(1,))
        assert INCOMPLETE.format("convert") in r.stderr and r.stderr.count("\n") == 1, r
    r = subprocess.run([VIREO, "run", "over.q"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert r.returncode and INCOMPLETE.format("convert") in r.stderr, r
    # What is made anew is complete again, also when the command failed and said so.
    img("convert", "-O", "qcow2", "disk.q", "over.q", cwd=tmp_path)
    assert "user.vireo.incomplete" not in os.listxattr(tmp_path / "over.q")
    img("compare", "disk.q", "over.q", cwd=tmp_path)
    img("create", "-q", "-f", "qcow2", "-o", "cluster_size=3", "over.q", "1M", cwd=tmp_path, okay=(1,))
    assert "user.vireo.incomplete" not in os.listxattr(tmp_path / "over.q")
