"""Images that lie: one clear error, and little memory and time."""
import os
import resource
import struct
import subprocess
import time

import pytest

from conftest import VIREO

MEMORY = 600 << 20


def tool(*args, cwd, seconds=10, program="img"):
    """Run it with little memory; (status, what it said), and it took no longer than that."""
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    start = time.monotonic()
    r = subprocess.run([VIREO, program, *args], cwd=cwd, capture_output=True, text=True, timeout=60, preexec_fn=limit)
    slow = time.monotonic() - start > seconds * float(os.environ.get("VIREO_SLOW", "1"))
    assert r.returncode >= 0 and not slow, (args, r)
    return r.returncode, r.stdout + r.stderr


def one_error(args, cwd, says=""):
    status, said = tool(*args, cwd=cwd)
    assert status and said.startswith("qemu-img: ") and said.count("\n") == 1 and len(said) < 300 and says in said, (args, status, said)


def make(where, name, *options, size="1M"):
    assert tool("create", "-q", "-f", "qcow2", *options, name, size, cwd=where)[0] == 0


def poke(path, at, value, n=8):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(value.to_bytes(n, "big"))


def field(path, at, n=8):
    with open(path, "rb") as f:
        f.seek(at)
        return int.from_bytes(f.read(n), "big")


def test_backing_files_in_a_circle(tmp_path):
    make(tmp_path, "a.q")
    for i, name in enumerate("bcd"):
        make(tmp_path, f"{name}.q", "-b", f"{'abc'[i]}.q", "-F", "qcow2")
    assert tool("rebase", "-u", "-b", "d.q", "-F", "qcow2", "a.q", cwd=tmp_path)[0] == 0
    for command in ["info", "--backing-chain"], ["map"], ["check"], ["convert", "-O", "raw"], ["compare", "a.q"]:
        one_error([*command, "d.q", *["out"] * (command[0] == "convert")], tmp_path)


def test_a_chain_that_is_too_long(tmp_path):
    make(tmp_path, "0.q", "-o", "cluster_size=512", size="64k")
    base = (tmp_path / "0.q").read_bytes()
    make(tmp_path, "1.q", "-o", "cluster_size=512", "-b", "000.q", "-F", "qcow2", "-u", size="64k")
    with_backing = (tmp_path / "1.q").read_bytes()
    (tmp_path / "000.q").write_bytes(base)
    for i in range(1, 300):
        (tmp_path / f"{i:03}.q").write_bytes(with_backing.replace(b"000.q", f"{i - 1:03}.q".encode()))
    assert tool("map", "200.q", cwd=tmp_path)[0] == 0
    one_error(["map", "299.q"], tmp_path)


@pytest.mark.parametrize("at,n", [(24, 8), (36, 4), (48, 8), *[pytest.param(*x, marks=pytest.mark.slow) for x in (
    (40, 8), (56, 4), (60, 4), (64, 8), (20, 4), (8, 8), (16, 4), (96, 4), (100, 4))]])
def test_sizes_and_places_that_cannot_be(tmp_path, at, n):
    make(tmp_path, "good.q")
    good = (tmp_path / "good.q").read_bytes()
    for value in 2 ** (8 * n) - 1, 2 ** (8 * n - 1), 2 ** (8 * n - 1) - 1, 2 ** (8 * n) - 512, 1 << 20, 0x10000:
        (tmp_path / "bad.q").write_bytes(good)
        poke(tmp_path / "bad.q", at, value, n)
        for command in ["info"], ["check", "-r", "all"], ["convert", "-O", "raw", "-S", "64k"], ["resize", "--shrink"]:
            if command[0] in ("convert", "resize") and value not in (2 ** (8 * n) - 1, 1 << 20):
                continue
            if command[0] == "convert" and at == 24 and value < 2 ** 62:
                continue  # a large disk of nothing is fine
            status, said = tool(*command, "bad.q", *{"convert": ["out"], "resize": ["64k"]}.get(command[0], []), cwd=tmp_path)
            assert status <= 3 and len(said) < 100000, (at, value, command, status)
            if status == 1 and command[0] == "info":
                assert said.count("\n") == 1, said


def test_tables_over_each_other(tmp_path):
    """L1, refcount table and block, and an L2 table where another is: nothing is written into metadata."""
    make(tmp_path, "good.q")
    assert tool("-c", "write -P 1 0 64k", "good.q", cwd=tmp_path, program="io")[0] == 0
    good = (tmp_path / "good.q").read_bytes()
    l1, table = field(tmp_path / "good.q", 40), field(tmp_path / "good.q", 48)
    block, l2 = field(tmp_path / "good.q", table), field(tmp_path / "good.q", l1) & (1 << 56) - 512
    places = {"header": 0, "l1": l1, "table": table, "block": block, "l2": l2}
    for name, at, flags in ("l1 entry", l1, 1 << 63), ("l2 entry", l2 + 8, 1 << 63), ("block", table, 0), ("header's l1", 40, 0), ("header's table", 48, 0):
        for over, where in places.items():
            (tmp_path / "bad.q").write_bytes(good)
            poke(tmp_path / "bad.q", at, where | flags)
            before = (tmp_path / "bad.q").read_bytes()
            status, said = tool("-c", "write -P 2 64k 64k", "-c", "write -P 3 512k 64k", "bad.q", cwd=tmp_path, program="io")
            after = (tmp_path / "bad.q").read_bytes()
            if (name, where) in (("l2 entry", 0), ("block", block), ("header's l1", l1), ("header's table", table), ("l1 entry", l2)):
                continue  # this is how it was
            # Guest data must not be where any of them is, except those that the image has none of now.
            gone = {"l1 entry": ["l2"], "block": ["block"], "header's l1": ["l1", "l2"], "header's table": ["table", "block"]}.get(name, [])
            for place, there in places.items():
                assert place in gone or after[there:there + 4096] not in (b"\2" * 4096, b"\3" * 4096), (name, over, said)
            if before != good:
                assert tool("check", "bad.q", cwd=tmp_path)[0] in (1, 2, 3), (name, over)
            status, said = tool("check", "-r", "all", "bad.q", cwd=tmp_path)
            assert status <= 3, (name, over, said)


def test_counts_that_lie(tmp_path):
    make(tmp_path, "a.q", "-o", "cluster_size=4k")
    assert tool("-c", "write -P 1 0 256k", "a.q", cwd=tmp_path, program="io")[0] == 0
    block = field(tmp_path / "a.q", field(tmp_path / "a.q", 48))
    for value in 0, 0xffff:
        with open(tmp_path / "a.q", "r+b") as f:
            f.seek(block + 8)
            f.write(value.to_bytes(2, "big") * 80)
        # Nothing in use is given to somebody else.
        tool("-c", "write -P 2 512k 64k", "a.q", cwd=tmp_path, program="io")
        assert tool("check", "-q", "-r", "all", "a.q", cwd=tmp_path)[0] == 0
        status, said = tool("-c", "read -P 1 0 256k", "a.q", cwd=tmp_path, program="io")
        assert status == 0 and "failed" not in said, (value, said)


@pytest.mark.parametrize("frame,says", [
    # A window of 2 TiB; one of which the content is a lie; not a frame at all; nothing.
    (bytes.fromhex("28b52ffd00ff") + bytes(500), "failed"),
    (bytes.fromhex("28b52ffde0ffffffffffffff7f") + bytes(500), "failed"),
    (b"\xff" * 500, "failed"),
    (bytes(500), "failed")])
def test_compressed_bombs(tmp_path, frame, says):
    make(tmp_path, "a.q", "-o", "compression_type=zstd,cluster_size=2M", size="64M")
    assert tool("-c", "write -c -P 5 0 2M", "a.q", cwd=tmp_path, program="io")[0] == 0
    l2 = field(tmp_path / "a.q", field(tmp_path / "a.q", 40)) & (1 << 56) - 512
    entry = field(tmp_path / "a.q", l2)
    with open(tmp_path / "a.q", "r+b") as f:
        f.seek(entry & (1 << 49) - 1)
        f.write(frame)
        f.seek(l2)
        f.write(struct.pack(">Q", entry | 0x1fff << 49) * 32)  # each says that 4 MiB of the file are its
    status, said = tool("-c", "read 0 2M", "a.q", cwd=tmp_path, program="io")
    assert says in said, said
    assert tool("convert", "-O", "raw", "a.q", "out", cwd=tmp_path)[0] == 1
    assert tool("check", "a.q", cwd=tmp_path)[0] in (2, 3)


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret", "link", "/dev/null", "json:{\"driver\":\"file\",\"filename\":\"/etc/hostname\"}",
                                  "nbd://localhost/x", "file:/etc/hostname"])
def test_run_opens_nothing_that_an_image_names(tmp_path, name):
    """A data file as a backing file: it lies beside the image and is a file, or it is refused."""
    inside = tmp_path / "dir"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(bytes(1 << 20))
    (inside / "link").symlink_to(tmp_path / "secret")
    make(inside, "a.q", "-o", "data_file=near")
    old = b"near"
    data = (inside / "a.q").read_bytes()
    at = data.index(b"DATA") + 4  # the extension with the name
    assert data[at + 4:at + 8] == old
    encoded = name.encode()
    room = (len(encoded) + 7) // 8 * 8
    header = data[:at] + struct.pack(">I", len(encoded)) + encoded.ljust(room, b"\0") + data[at + 12:at + 12 + 400]
    (inside / "b.q").write_bytes(header + data[len(header):])
    r = subprocess.run(["timeout", "-s", "KILL", "20", VIREO, "run", "--disk", "b.q,format=qcow2"], cwd=inside, capture_output=True, text=True)
    assert r.returncode == 1 and r.stderr.count("\n") <= 2 and "b.q" in r.stderr, r
    assert "another directory" in r.stderr or "not a file here" in r.stderr, r
