"""vireo img by the name qemu-img, beside QEMU's own: the same commands must say the same and make what the other reads."""
import base64
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time

import pytest

from conftest import VIREO

THEIRS, IO = shutil.which("qemu-img"), shutil.which("qemu-io")
pytestmark = pytest.mark.skipif(not THEIRS or not IO, reason="QEMU's tools are not installed")

# Each line is run by both, in a directory of its own. "io: FILE COMMAND; ..." is done by QEMU's qemu-io for both,
# "poke: FILE OFFSET BYTES" writes into both.
STORY = """
create -f qcow2 a.q 64M
info a.q
info --output=json a.q
create -f qcow2 -b a.q -F qcow2 b.q
info --backing-chain --output=json b.q
create -f qcow2 -b nope c.q
create -f qcow2 -b a.q c.q
io: a.q write -P 3 0 300k; write -z 1M 2M; write -P 5 8M 64k
io: b.q write -P 7 64k 64k; discard 8M 64k; write -P 9 63M 1M
map --output=json b.q
map b.q
map -s 64k -l 1M --output=json b.q
check a.q
check --output=json b.q
convert -O raw b.q b.raw
compare b.q b.raw
convert -c -O qcow2 b.q c.q
compare c.q b.raw
compare -s c.q b.raw
compare a.q b.raw
check c.q
convert -c -O qcow2 -o compression_type=zstd b.q z.q
compare z.q b.raw
info z.q
convert -O qcow2 -o cluster_size=4k,compat=0.10 b.raw d.q
info d.q
compare d.q b.q
convert -O qcow2 -B a.q -F qcow2 b.q e.q
map --output=json e.q
snapshot -c one a.q
snapshot -l a.q
info a.q
snapshot -c two a.q
io: a.q write -P 11 0 64k
convert -l two -O raw a.q two.raw
convert -l three -O raw a.q three.raw
resize a.q 32M
resize --shrink a.q 32M
resize a.q +64M
resize a.q -- -1M
info a.q
snapshot -a one a.q
info a.q
snapshot -d one a.q
snapshot -d two a.q
snapshot -d three a.q
snapshot -l -c x a.q
check a.q
rebase b.q
rebase -b d.q b.q
rebase -b d.q -F qcow2 b.q
compare b.q b.raw
info b.q
rebase -b nope -F qcow2 b.q
rebase -u -b nope -F qcow2 b.q
info b.q
rebase -u -b d.q -F qcow2 b.q
create -f qcow2 -b d.q -F qcow2 f.q
io: f.q write -P 11 0 10k; write -z 4M 4M
commit f.q
map f.q
compare f.q d.q
commit d.q
create -f qcow2 -o preallocation=metadata g.q 10M
map --output=json g.q
check g.q
create -f qcow2 -o preallocation=full,cluster_size=4k g.q 3M
map --output=json g.q
check g.q
create -f qcow2 -o cluster_size=512,refcount_bits=1 h.q 5M
io: h.q write -P 1 0 5M
check h.q
map h.q
create -f qcow2 -o extended_l2=on i.q 5M
io: i.q write -P 1 1k 5k; write -P 2 2M 100k
info i.q
map --output=json i.q
check i.q
measure -O qcow2 c.q
measure --size 10G -O qcow2
measure --size 10G -O qcow2 -o cluster_size=4k,refcount_bits=64
measure --output=json -O raw b.raw
measure -O qcow2 -o bogus=1 --size 1M
measure -O raw -o help --size 1M
measure -O raw -o nocow=on,size=5 --size 1M
measure -O qcow2 -o cluster_size=x --size 1M
measure -O qcow2 -o encrypt.format=luks --size 1M
measure -O luks --size 1M
measure -O luks b.raw
measure -O luks -o key-secret=s0 --size 1M
measure -O luks -o cluster_size=4k --size 1M
measure -O luks -o key-secret=s0
measure
create -f raw z 1M -o foo=1
create -f foo z 1M
create z
create -f qcow2 z 1x
create -f qcow2 z 99999999999999999999
create -f qcow2 z 1023
create -f qcow2 -o cluster_size=1000 z 1M
create -f qcow2 -o cluster_size=4M z 1M
create -f qcow2 -o refcount_bits=3 z 1M
create -f qcow2 -o refcount_bits=-1 z 1M
create -f qcow2 -o refcount_bits=8,compat=0.10 z 1M
create -f qcow2 -o compat=0.10,lazy_refcounts=on z 1M
create -f qcow2 -o size=1M z 1M
create -f qcow2 -o lazy_refcounts=maybe z 1M
create -f qcow2 z 7E
create -f qcow2 -o compat=0.42 z 1M
create -f qcow2 -o preallocation=some z 1M
create -f qcow2 -b json:{'driver':'qcow2','file.filename':'a.q'} -F qcow2 l.q
info l.q
create -f qcow2 l.q 1M
rebase -u -b l.q -F qcow2 l.q
info --backing-chain l.q
commit -b nope f.q
commit -b d.q f.q
dd if=a.q of=dd.raw bs=1M count=3 skip=1
compare dd.raw a.q
dd -f qcow2 -O qcow2 if=b.q of=dd.q bs=64k
compare dd.q b.q
check dd.q
dd if=a.q of=dd.raw skip=999999999
dd if=a.q of=dd.raw bs=0
dd if=a.q of=dd.raw bs=3G
dd if=a.q of=dd.raw count=x
dd if=a.q
dd if=a.q foo
dd if=a.q bsx=3
dd if=a.q of=x -O foo
dd if=nope of=x
dd --image-opts if=driver=qcow2,file.filename=b.q of=dd.raw bs=1M
compare b.q dd.raw
bench -c 100 -s 64k a.q
bench -c 100 -d 5 -w --pattern 7 --flush-interval 10 -f qcow2 dd.q
bench -c 100 -d 5 -w --flush-interval 10 --no-drain -f qcow2 dd.q
bench -c 100 -d 5 -w --flush-interval 2 -f qcow2 dd.q
bench --flush-interval 100 a.q
bench -c x a.q
bench -d -1 a.q
bench -s x a.q
bench --pattern 256 a.q
bench -t foo a.q
bench
map dd.q
info --image-opts driver=qcow2,file.driver=file,file.filename=a.q
info --image-opts -f qcow2 driver=qcow2,file.filename=a.q
info --image-opts driver=qcow2,file.filename=a.q,foo=bar
info json:{"driver":"qcow2","file":{"driver":"file","filename":"a.q"}}
info --object secret,id=sec0,data=abc a.q
info --object secret,id=sec0 a.q
info --object foo,id=sec0 a.q
convert -W -m 3 -O qcow2 b.q w.q
compare b.q w.q
convert -r 1G -O qcow2 b.q w.q
convert -r x -O qcow2 b.q w.q
convert -p -q -O raw b.q w.raw
convert -n -o size=1M a.q b.raw
convert -c -O raw a.q x
convert -c -C -O qcow2 a.q x
convert -S 4k -C -O qcow2 a.q x
convert -C --salvage a.q x
convert -c -o preallocation=full -O qcow2 a.q x
convert --target-is-zero a.q x
convert --target-image-opts a.q driver=raw,file.filename=x
convert -n --target-image-opts b.q driver=qcow2,file.filename=dd.q
compare b.q dd.q
convert -l one -O raw a.q b.q x
convert --salvage -O qcow2 b.q w.q
compare b.q w.q
convert b.raw a.q d.q x
compare -x a.q b.q
compare a.q b.q -f
create -f qcow2 am.q 8M
io: am.q write -P 3 0 1M; write -z 1M 1M; write -z 3M 10k; write -P 4 5M 100k
amend -o compat=0.10 am.q
info am.q
check am.q
map --output=json am.q
amend -o compat=1.1,lazy_refcounts=on,size=16M am.q
info am.q
snapshot -c s am.q
io: am.q write -P 5 64k 128k; write -z 5M 64k
amend -o lazy_refcounts=off,refcount_bits=64 am.q
check am.q
info am.q
amend -o refcount_bits=1 am.q
amend -o refcount_bits=3 am.q
amend -o compat=0.10 am.q
amend -o refcount_bits=16 am.q
amend -o compat=0.10 am.q
info am.q
amend -o refcount_bits=8 am.q
amend -o lazy_refcounts=on am.q
amend -o compat=0.42 am.q
amend -o foo=bar am.q
amend -o cluster_size=4k am.q
amend -o backing_file=x,backing_fmt=raw am.q
amend -o data_file=x am.q
amend -o data_file_raw=on am.q
amend -o size=1x am.q
amend am.q
amend -o size=1M
amend -f raw -o size=1M am.q
amend -f raw -o help
amend -f nope -o help
amend -t nope -o size=1M am.q
create -f qcow2 -b am.q -F qcow2 am2.q
io: am2.q write -P 9 0 10k; write -z 64k 3M
amend -o compat=0.10 am2.q
check am2.q
convert -O raw am2.q am2.raw
compare am2.q am2.raw
create -f qcow2 reb.q 64M
io: reb.q write -P 3 0 3M; write -P 7 40M 1M
convert -O raw reb.q reb.raw
poke: reb.q 0x10000 0000000000000000
check reb.q
check -r leaks reb.q
check -r all reb.q
check reb.q
compare reb.q reb.raw
poke: reb.q 0x20000 0000000000000000
check -r all reb.q
compare reb.q reb.raw
create -f qcow2 reb.q 64M
io: reb.q write -P 3 0 300k
poke: reb.q 0x40008 8000000000060000
check reb.q
check -r leaks reb.q
check -r all reb.q
check --output=json -r all reb.q
create -f qcow2 -o extended_l2=on ext.q 1M
io: ext.q write -P 1 0 64k
poke: ext.q 0x40000 80000000000502000000000000000000
check -r all ext.q
create -f qcow2 bm.q 10M
bitmap --add bm.q b0
bitmap --add -g 4k --disable bm.q b1
io: bm.q write -P 1 1M 100k; write -z 3M 64k; discard 5M 1M
info bm.q
info --output=json bm.q
check -q bm.q
bitmap --add bm.q b0
bitmap --remove bm.q b2
bitmap --clear bm.q b2
bitmap --merge b0 bm.q b1
bitmap --merge b7 bm.q b1
bitmap --disable bm.q b0
convert --bitmaps -O qcow2 bm.q bm3.q
bitmap --add --merge b0 -b bm3.q -F qcow2 bm.q b3
bitmap --enable --clear bm.q b0
bitmap bm.q b0
bitmap --add bm.q
bitmap --add -g 1000 bm.q x
bitmap --add -g 100 bm.q x
bitmap -g 4k --remove bm.q x
bitmap -F qcow2 --remove bm.q x
bitmap -b bm.q --remove bm.q x
measure -O qcow2 bm.q
measure -O qcow2 -o cluster_size=4k --output=json bm.q
convert --bitmaps -O qcow2 bm.q bm2.q
info bm2.q
check bm2.q
convert --bitmaps -O raw bm.q x
convert --bitmaps -O qcow2 b.raw x
convert --bitmaps -O qcow2 bm.q bm.q x
convert --skip-broken-bitmaps -O qcow2 bm.q x
resize bm.q 20M
io: bm.q write -P 1 19M 100k
check -q bm.q
info bm.q
bitmap --remove bm.q b0
bitmap --remove bm.q b1
bitmap --remove bm.q b3
info bm.q
check -q bm.q
create
create -f qcow2 -b z z 1M
info nope
info .
info --output=foo a.q
check -r foo a.q
check b.raw
convert
convert a.q
convert -O qcow2 -B a.q b.q x
convert -O foo a.q x
convert -O raw nope x
convert -S 100 a.q x
convert -m 99 a.q x
convert -n a.q nope
map
resize
resize a.q
create -f qcow2 mend.q 1M
snapshot -c a mend.q
snapshot -c b mend.q
poke: mend.q 0x70024 00010000
info mend.q
check -q mend.q
check -r leaks mend.q
check -q -r all mend.q
check -q mend.q
snapshot -l mend.q
create -f qcow2 part.q 1M
snapshot -c a part.q
poke: part.q 0x50024 00000008
check part.q
check -r all part.q
check part.q
create -f qcow2 many.q 1M
poke: many.q 0x3c 0001000500000000000b0000
info many.q
check many.q
check -r leaks many.q
create -f qcow2 pro.q 4G
io: pro.q write -z 0 64k; write -z 1G 64k
snapshot -c s pro.q
amend -p -o compat=0.10 pro.q
check pro.q
create -f qcow2 ext.q 1M
poke: ext.q 0x70 12345678ffffff00
info ext.q
poke: ext.q 8 0000000000000074
info ext.q
create -f qcow2 -o data_file=sub.raw sub/d.q 1M
check sub/d.q
io: sub/d.q write -P 5 100k 64k
compare sub/d.q sub.raw
bogus
-x
create -f qcow2 sn.q 8M
snapshot -c foo sn.q
snapshot -c 1 sn.q
snapshot -c bar sn.q
snapshot -d 3 sn.q
snapshot -d 1 sn.q
convert -l 2 -O raw sn.q x
convert -l snapshot.id=1,snapshot.name=foo -O raw sn.q x
convert -l snapshot.id=1,snapshot.name=bar -O raw sn.q x
bitmap --add sn.q b0
snapshot -a bar sn.q
create -f qcow2 self.q 10M
create -f qcow2 -b self.q -F qcow2 self2.q
create -f qcow2 -b self2.q -F qcow2 self3.q
convert -U -O raw self.q self.raw
dd -U if=self.q of=self.dd bs=1M
create -f qcow2 -o preallocation=metadata -b self.q -F qcow2 fail.q
info fail.q
convert -O qcow2 -F raw self.q fail.q
info fail.q
create -f raw /dev/full 1M
convert -O raw self.q /dev/full
convert -O raw /dev/zero zero.raw
convert -O raw /proc/cpuinfo cpuinfo.raw
convert -O qcow2 -o size=1M self.q sized.q
info sized.q
create -f qcow2 cut.q 10M
io: cut.q write -P 3 0 5M
resize -f raw --shrink cut.q 262144
check cut.q
create -f qcow2 cut.q 10M
io: cut.q write -P 3 0 5M
resize -f raw --shrink cut.q 300032
check cut.q
create -f qcow2 ov.q 1M
info --image-opts driver=qcow2,file.filename=ov.q,overlap-check=foo
info --image-opts driver=qcow2,file.filename=ov.q,overlap-check.template=constant
info --image-opts driver=qcow2,file.filename=ov.q,detect-zeroes=foo
measure -O qcow2 -o foo=1 --size 1M
measure -O qcow2 -o size=1G
measure -O qcow2 -o size=1G --size 2G
info json:[1]
map json:{'driver':'raw','offset':65536,'size':65536,'file.filename':'ov.q'}
info -f raw json:{"driver":"qcow2","file":{"driver":"file","filename":"ov.q"}}
info json:{"driver":"qcow2","bogus":{"x":[true]},"file":{"driver":"file","filename":"ov.q"}}
compare json:{"driver":"blkdebug","inject-error":[{"event":"none","iotype":"read","errno":5}],"image":{"driver":"file","filename":"ov.q"}} ov.q
info json:{"driver":"qcow2","file":"nope"}
info --image-opts ov.q
info --image-opts driver=qcow2,file=nope
info --image-opts driver=qcow2,file.filename=missing
create -f qcow2 dr.q 1M
poke: dr.q 95 02
map dr.q
info dr.q
map -s 10M --output=json self.q
map -l 0 --output=json self.q
"""


def told(program, args, cwd):
    r = subprocess.run([program, *args], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=60)
    text = re.sub(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", "DATE", r.stdout)
    text = re.sub(r'"date-n?sec": \d+', '"date": N', text)
    text = re.sub(r"completed in [0-9.]+", "completed in T", text)
    # How much of a file the host has allocated is the host's business.
    text = re.sub(r"disk size: .*", "disk size", text)
    text = re.sub(r'"actual-size": \d+', '"actual-size": N', text)
    return r.returncode, text


@pytest.fixture
def ours(tmp_path):
    link = tmp_path / "bin" / "qemu-img"
    link.parent.mkdir()
    link.symlink_to(os.path.abspath(VIREO))
    return str(link)


def test_the_same_is_said(ours, tmp_path):
    different = []
    for name in "theirs", "ours":
        (tmp_path / name / "sub").mkdir(parents=True)
    for line in STORY.split("\n"):
        if line.startswith("io: "):
            image, commands = line[4:].split(" ", 1)
            for name in "theirs", "ours":
                args = [x for c in commands.split("; ") for x in ("-c", c)]
                assert subprocess.run([IO, "-f", "qcow2", *args, image], cwd=tmp_path / name, stdout=subprocess.DEVNULL).returncode == 0, line
        elif line.startswith("poke: "):
            image, offset, data = line[6:].split()
            for name in "theirs", "ours":
                with open(tmp_path / name / image, "r+b") as f:
                    f.seek(int(offset, 0))
                    f.write(bytes.fromhex(data))
        elif line:
            want = told(THEIRS, line.split(), tmp_path / "theirs")
            got = told(ours, line.split(), tmp_path / "ours")
            if want != got:
                different.append(f"{line}\n--- theirs: {want[0]}\n{want[1]}\n--- ours: {got[0]}\n{got[1]}")
    assert not different, "\n\n".join(different)
    for name in "b.raw", "two.raw", "am2.raw", "reb.raw":
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


def test_a_rebase_takes_nothing_that_is_written(ours, tmp_path):
    """Itself, what stands on it, and what another program writes: each would be lost or read half."""
    def img(*args):
        return subprocess.run([ours, *args], cwd=tmp_path, capture_output=True, text=True)
    for args in (["base.q", "10M"], ["-b", "base.q", "-F", "qcow2", "a.q"], ["-b", "a.q", "-F", "qcow2", "b.q"], ["other.q", "10M"]):
        assert img("create", "-q", "-f", "qcow2", *args).returncode == 0
    was = (tmp_path / "a.q").read_bytes()
    for base in "a.q", "./a.q", "b.q":
        r = img("rebase", "-b", base, "-F", "qcow2", "a.q")
        assert r.returncode == 1 and "a.q is being written" in r.stderr, r.stderr
    with subprocess.Popen([IO, "other.q"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        holder.stdin.write("write -P 1 0 64k\n")
        holder.stdin.flush()
        holder.stdout.readline()
        r = img("rebase", "-b", "other.q", "-F", "qcow2", "a.q")
        assert r.returncode == 1 and "other.q is being written" in r.stderr, r.stderr
        assert (tmp_path / "a.q").read_bytes() == was
        assert img("rebase", "-U", "-b", "other.q", "-F", "qcow2", "a.q").returncode == 0
        holder.stdin.close()


def test_what_could_not_be_made_is_not_there(ours, tmp_path):
    def img(*args):
        return subprocess.run([ours, *args], cwd=tmp_path, capture_output=True, text=True, timeout=20)
    r = img("create", "-f", "qcow2", "-o", "preallocation=metadata,cluster_size=2M", "huge.q", "1E")
    assert r.returncode == 1 and "File too large" in r.stderr and not (tmp_path / "huge.q").exists()
    # A slip in an option does not cost the image that is there.
    assert img("create", "-q", "-f", "qcow2", "there.q", "1M").returncode == 0
    was = (tmp_path / "there.q").read_bytes()
    assert img("create", "-f", "qcow2", "-o", "cluster_size=3k", "there.q", "1M").returncode == 1
    assert (tmp_path / "there.q").read_bytes() == was
    os.mkfifo(tmp_path / "fifo")
    assert img("create", "-f", "raw", "fifo", "1M").returncode == 1
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    try:
        for mode in "full", "falloc":
            r = img("create", "-f", "qcow2", "-o", f"preallocation={mode}", "small/x.q", "20M")
            assert r.returncode == 1 and "No space left" in r.stderr and not (small / "x.q").exists(), r.stderr
        assert img("create", "-q", "-f", "qcow2", "small/grow.q", "10M").returncode == 0
        assert img("bitmap", "--add", "small/grow.q", "b0").returncode == 0
        assert img("snapshot", "-c", "s", "small/grow.q").returncode == 0
        r = img("resize", "--preallocation=full", "small/grow.q", "40M")
        assert r.returncode == 1 and "No space left" in r.stderr and "ost" not in r.stderr, r.stderr
        r = img("check", "small/grow.q")
        assert r.returncode == 0, r.stdout
        assert '"b0"' in img("info", "--output=json", "small/grow.q").stdout and (small / "grow.q").stat().st_size < 2 << 20
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_images_whose_data_file_is_away(ours, tmp_path):
    for tool in THEIRS, ours:
        subprocess.run([tool, "create", "-q", "-f", "qcow2", "-o", "data_file=data", "a.q", "1M"], cwd=tmp_path, check=True)
        (tmp_path / "data").unlink()
        r = subprocess.run([tool, "info", "--output=json", "a.q"], cwd=tmp_path, capture_output=True, text=True)
        assert r.returncode == 0 and json.loads(r.stdout)["format-specific"]["data"]["data-file"] == "data"
        assert subprocess.run([tool, "map", "a.q"], cwd=tmp_path, capture_output=True).returncode == 1


def test_a_table_of_snapshots_over_the_header(ours, tmp_path):
    """A repair must not take the header for what it may free."""
    image = tmp_path / "a.q"
    subprocess.run([ours, "create", "-q", "-f", "qcow2", "-o", "refcount_bits=1,cluster_size=2k", image, "4M"], check=True)
    with open(image, "r+b") as f:
        f.seek(60)
        f.write(b"\0\0\0\1")
    assert subprocess.run([ours, "check", image], capture_output=True).returncode == 1
    assert subprocess.run([ours, "check", "-r", "all", image], capture_output=True).returncode == 0
    assert subprocess.run([THEIRS, "check", image], capture_output=True).returncode == 0


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_secrets_that_come_sealed(ours, tmp_path):
    """As libvirt hands them over: by a key that is a secret itself."""
    key, iv = os.urandom(32), os.urandom(16)
    master = f"secret,id=master,data={base64.b64encode(key).decode()},format=base64"
    sealed = base64.b64encode(subprocess.run(["openssl", "enc", "-aes-256-cbc", "-K", key.hex(), "-iv", iv.hex()], input=b"correct horse",
                                             capture_output=True, check=True).stdout).decode()
    good = f"secret,id=s0,data={sealed},format=base64,keyid=master,iv={base64.b64encode(iv).decode()}"
    subprocess.run([ours, "create", "-q", *SECRETS[:2], "-f", "luks", "-o", "key-secret=s0,iter-time=10", "a.luks", "1M"], cwd=tmp_path, check=True)
    for secret in good, good.replace("keyid=master", "keyid=nobody"), good.rpartition(",iv")[0], good.replace("iv=", "iv=AAAA"), good + "AAAA", \
            good.replace("data=", "data=AAAA"), good.replace("master", "short"):
        said = [subprocess.run([tool, "map", "--output=json", "--object", master, "--object", "secret,id=short,data=abc", "--object", secret, "--image-opts",
                                "driver=luks,file.filename=a.luks,key-secret=s0"], cwd=tmp_path, capture_output=True, text=True) for tool in (THEIRS, ours)]
        assert [r.returncode for r in said] == [said[0].returncode] * 2, (secret, said)
        assert said[0].returncode == (secret is not good) and bool(said[1].stderr) == bool(said[0].stderr), (secret, said)


def test_more_sources_than_anybody_has(ours, tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 512)
    subprocess.run([ours, "convert", "-f", "raw", "-O", "raw", *["a"] * 300, "all"], cwd=tmp_path, check=True)
    assert (tmp_path / "all").read_bytes() == b"x" * 512 * 300


def test_zeroes_are_detected(ours, tmp_path):
    def extents(tool, detect):
        image = tmp_path / f"{os.path.basename(tool)}.q"
        subprocess.run([THEIRS, "create", "-q", "-f", "qcow2", image, "1M"], check=True)
        subprocess.run([*tool.split(), "-c", "write -P 0 0 256k", "-c", "write -P 1 256k 128k", "-c", "write -P 0 256k 64k",
                        f'json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{image}"}},"detect-zeroes":"{detect}",'
                        f'"discard":"unmap"}}'], check=True, stdout=subprocess.DEVNULL)
        return subprocess.run([THEIRS, "map", "--output=json", image], check=True, capture_output=True, text=True).stdout
    for detect in "off", "on", "unmap":
        assert extents(f"{VIREO} io", detect) == extents(IO, detect), detect


def test_nobody_is_told_where_encrypted_data_lies(ours, tmp_path):
    image = tmp_path / "a.q"
    subprocess.run([ours, "create", "-q", *SECRETS, "-f", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10",
                    image, "1M"], check=True)
    subprocess.run([VIREO, "io", *SECRETS, "-c", "write -P 5 0 128k", "--image-opts",
                    f"driver=qcow2,file.filename={image},encrypt.key-secret=s0"], check=True, stdout=subprocess.DEVNULL)
    said = [subprocess.run([tool, "map", *form, *SECRETS, "--image-opts", f"driver=qcow2,file.filename={image},encrypt.key-secret=s0"],
                           capture_output=True, text=True)
            for tool in (THEIRS, ours) for form in ([], ["--output=json"])]
    assert [r.returncode for r in said] == [1, 0, 1, 0] and said[1].stdout == said[3].stdout
    assert said[0].stderr.split(": ", 1)[1] == said[2].stderr.split(": ", 1)[1]


def test_theirs_reads_what_ours_wrote(ours, tmp_path):
    raw = tmp_path / "raw"
    data = bytearray(os.urandom(3 << 20)) + bytes(5 << 20) + b"text " * 100000
    data += bytes(-len(data) % 512)
    raw.write_bytes(data)
    for options in ([], ["-c"], ["-c", "-o", "compression_type=zstd"], ["-o", "cluster_size=512"], ["-o", "cluster_size=2M"],
                    ["-o", "extended_l2=on"], ["-o", "compat=0.10"], ["-o", "preallocation=full"], ["-S", "0"]):
        out = tmp_path / "out.q"
        subprocess.run([ours, "convert", "-f", "raw", "-O", "qcow2", *options, raw, out], check=True)
        subprocess.run([THEIRS, "check", "-q", out], check=True)
        subprocess.run([THEIRS, "compare", "-q", raw, out], check=True)
        subprocess.run([ours, "convert", "-O", "raw", out, tmp_path / "back"], check=True)
        assert (tmp_path / "back").read_bytes() == data, options


def bitmaps_of(image):
    """The bitmaps of a qcow2 file by name, as the specification says: (flags, granularity, the set bits)."""
    f = image.read_bytes()
    size, cluster, at = int.from_bytes(f[24:32], "big"), 1 << int.from_bytes(f[20:24], "big"), int.from_bytes(f[100:104], "big")
    found = {}
    while True:
        kind, length = struct.unpack(">II", f[at:at + 8])
        if not kind:
            return found
        if kind == 0x23852875:
            count, _, _, where = struct.unpack(">IIQQ", f[at + 8:at + 32])
            for _ in range(count):
                table, entries, flags, _, bits, name, extra = struct.unpack(">QIIBBHI", f[where:where + 24])
                data = b""
                for e in struct.unpack(f">{entries}Q", f[table:table + 8 * entries]):
                    data += f[e:e + cluster] if e > 1 else bytes([255 * e]) * cluster
                found[f[where + 24 + extra:where + 24 + extra + name].decode()] = (
                    flags, bits, [i for i in range((size + (1 << bits) - 1) >> bits) if data[i // 8] >> i % 8 & 1])
                where += (24 + extra + name + 7) // 8 * 8
        at += 8 + (length + 7) // 8 * 8


def test_bitmaps_hold_what_was_written(ours, tmp_path):
    """QEMU's tools on one image, ours on the other, and then each on the other's."""
    theirs_io = IO
    (tmp_path / "qemu-io").symlink_to(os.path.abspath(VIREO))
    ours_io = tmp_path / "qemu-io"
    seen = []
    for img, io, img2, io2 in (THEIRS, theirs_io, THEIRS, theirs_io), (ours, ours_io, ours, ours_io), (ours, theirs_io, THEIRS, ours_io):
        image = tmp_path / "a.q"

        def run(*args):
            subprocess.run([*args, image], check=True, stdout=subprocess.DEVNULL)

        run(img, "create", "-q", "-f", "qcow2", "-o", "size=40M")
        subprocess.run([img, "bitmap", "--add", "-g", "4k", image, "fine"], check=True)
        subprocess.run([img, "bitmap", "--add", image, "plain"], check=True)
        run(io, "-c", "write -P 3 0 300k", "-c", "write -z 1M 2M", "-c", "write -P 5 8M 1")
        run(io2, "-c", "discard 8M 64k", "-c", "write -P 9 39M 1M", "-c", "write 100k 1k")
        subprocess.run([img2, "bitmap", "--disable", image, "plain"], check=True)
        run(io, "-c", "write 20M 1M")
        subprocess.run([img2, "bitmap", "--add", "-g", "8k", "--merge", "plain", "--merge", "fine", image, "both"], check=True)
        run(io2, "-c", "write 22M 1M")
        subprocess.run([img2, "bitmap", "--add", "-g", "8k", image, "late"], check=True)
        run(io, "-c", "write 20M 1k", "-c", "write 200k 4k")  # in place, when it is followed already
        subprocess.run([THEIRS, "check", "-q", image], check=True)
        subprocess.run([ours, "check", "-q", image], check=True)
        seen.append(bitmaps_of(image))
    assert len(seen[0]) == 4 and all(len(b[2]) > 1 for b in seen[0].values())
    assert seen[1] == seen[0] and seen[2] == seen[0]


def test_bitmaps_that_were_not_saved(ours, tmp_path):
    """Whoever is killed after a write leaves bitmaps that say so; one that is disabled has nothing to lose."""
    (tmp_path / "qemu-io").symlink_to(os.path.abspath(VIREO))
    image = tmp_path / "a.q"
    subprocess.run([ours, "create", "-q", "-f", "qcow2", image, "10M"], check=True)
    subprocess.run([ours, "bitmap", "--add", image, "on"], check=True)
    subprocess.run([ours, "bitmap", "--add", "--disable", image, "off"], check=True)
    assert {k: v[0] for k, v in bitmaps_of(image).items()} == {"on": 2, "off": 0}
    for command, flags in ("read 0 64k", 2), ("write 0 64k", 3):
        subprocess.run([tmp_path / "qemu-io", "-c", command, "-c", "abort", image], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert {k: v[0] for k, v in bitmaps_of(image).items()} == {"on": flags, "off": 0}
    r = subprocess.run([ours, "bitmap", "--clear", image, "on"], capture_output=True, text=True)
    assert r.returncode == 1 and "Bitmap 'on' is inconsistent and cannot be used" in r.stderr
    r = subprocess.run([ours, "convert", "--bitmaps", "-O", "qcow2", image, tmp_path / "b.q"], capture_output=True, text=True)
    assert r.returncode == 1 and "Cannot copy inconsistent bitmap 'on'" in r.stderr
    subprocess.run([ours, "convert", "--bitmaps", "--skip-broken-bitmaps", "-O", "qcow2", image, tmp_path / "b.q"], check=True, stderr=subprocess.DEVNULL)
    assert list(bitmaps_of(tmp_path / "b.q")) == ["off"]
    assert subprocess.run([ours, "resize", image, "20M"], capture_output=True).returncode == 1
    subprocess.run([ours, "bitmap", "--remove", image, "on"], check=True)
    subprocess.run([THEIRS, "check", "-q", image], check=True)
    subprocess.run([ours, "resize", "-q", image, "20M"], check=True)


def test_bitmap_directories_that_lie(ours, tmp_path):
    image, bad = tmp_path / "a.q", tmp_path / "bad.q"
    subprocess.run([ours, "create", "-q", "-f", "qcow2", image, "1T"], check=True)
    for name in "one", "two":
        subprocess.run([ours, "bitmap", "--add", image, name], check=True)
    data = image.read_bytes()
    where = data.index(bytes.fromhex("23852875"))
    directory = int.from_bytes(data[where + 24:where + 32], "big")
    places = [(where + 8, 4), (where + 16, 8), (where + 24, 8), *[(directory + k, n) for k, n in
              ((0, 8), (8, 4), (12, 4), (16, 1), (17, 1), (18, 2), (20, 4), (24, 3), (24 + 8, 8), (24 + 8 + 17, 1))]]
    for at, n in places:
        for value in 0, 1, 2 ** (8 * n - 1), 2 ** (8 * n) - 1, 0x10000 % 2 ** (8 * n):
            bad.write_bytes(data[:at] + value.to_bytes(n, "big") + data[at + n:])
            for command in ["info"], ["check"], ["bitmap", "--clear"]:
                r = subprocess.run(["bash", "-c", 'ulimit -v 3000000; exec "$@"', "-", ours, *command, bad, *(["one"] if len(command) > 1 else [])],
                                   capture_output=True, text=True, timeout=20)
                assert 0 <= r.returncode <= 3, (at, n, value, command, r)


SECRETS = [x for i, text in enumerate(("correct horse", "battery", "staple")) for x in ("--object", f"secret,id=s{i},data={text}")]


def patiently(args):
    """QEMU gives up timing its hash when the machine is busy."""
    for _ in range(50):
        r = subprocess.run(args, capture_output=True, text=True)
        if "Unable to get accurate CPU usage" not in r.stderr:
            break
    return r


def encrypted(image, kind, secret="s0"):
    return f"driver={kind},file.filename={image},{'encrypt.' if kind == 'qcow2' else ''}key-secret={secret}"


@pytest.mark.parametrize("kind,options", [
    ("qcow2", "encrypt.format=luks"), ("qcow2", "encrypt.format=aes"), ("luks", ""),
    pytest.param("qcow2", "encrypt.format=luks,cluster_size=4k,compat=0.10", marks=pytest.mark.slow),
    pytest.param("qcow2", "encrypt.format=luks,extended_l2=on", marks=pytest.mark.slow),
    pytest.param("qcow2", "encrypt.format=luks,preallocation=metadata", marks=pytest.mark.slow),
    pytest.param("luks", "cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,hash-alg=sha1", marks=pytest.mark.slow)])
def test_encrypted_images_both_ways(ours, tmp_path, kind, options):
    """What one tool has encrypted the other reads, also after small writes into it."""
    (tmp_path / "qemu-io").symlink_to(os.path.abspath(VIREO))
    raw, image = tmp_path / "raw", tmp_path / "image"
    prefix = "encrypt." if kind == "qcow2" else ""
    options = ",".join([x for x in [options] if x] + [f"{prefix}key-secret=s0"] + [f"{prefix}iter-time=10"] * ("aes" not in options.split("=")[-1:]))
    for img, io, other in (ours, tmp_path / "qemu-io", THEIRS), (THEIRS, IO, ours):
        data = bytearray(os.urandom(300000) + bytes(400000) + b"text" * 100000)
        data += bytes(-len(data) % 512)
        raw.write_bytes(data)
        assert patiently([img, "convert", *SECRETS, "-f", "raw", "-O", kind, "-o", options, raw, image]).returncode == 0
        assert b"texttext" not in image.read_bytes()
        plain = f"driver=raw,file.filename={raw}"
        subprocess.run([other, "compare", "-q", *SECRETS, "--image-opts", plain, encrypted(image, kind)], check=True)
        subprocess.run([tmp_path / "qemu-io", *SECRETS, "-c", "write -P 7 1000 100", "-c", "write -P 8 350001 5000", "-c", "write -z 8k 12k",
                        "--image-opts", encrypted(image, kind)], check=True, stdout=subprocess.DEVNULL)
        data[1000:1100], data[350001:355001], data[8192:20480] = bytes([7]) * 100, bytes([8]) * 5000, bytes(12288)
        raw.write_bytes(data)
        for tool in ours, THEIRS:
            subprocess.run([tool, "compare", "-q", *SECRETS, "--image-opts", plain, encrypted(image, kind)], check=True)
        if kind == "qcow2":
            for tool in ours, THEIRS:
                subprocess.run([tool, "check", "-q", *SECRETS, "--image-opts", encrypted(image, kind)], check=True)
        infos = [told(tool, ["info", str(image)], tmp_path) for tool in (ours, THEIRS)]
        assert infos[0] == infos[1] and "encrypted: yes" in infos[0][1]
        wrong = subprocess.run([ours, "convert", *SECRETS, "--image-opts", encrypted(image, kind, "s1"), "-O", "raw", tmp_path / "x"],
                               capture_output=True, text=True)
        if "aes" not in options.split(",")[0].split("=")[-1]:
            assert wrong.returncode == 1 and "Invalid password, cannot unlock any keyslot" in wrong.stderr
    r = subprocess.run([ours, "info", *SECRETS, "--image-opts", encrypted(image, kind).replace("key-secret=s0", "format=qcow")], capture_output=True, text=True)
    assert r.returncode == 1 and r.stderr.count("\n") == 1


@pytest.mark.parametrize("beside_theirs", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_measure_encrypted(ours, tmp_path, beside_theirs):
    """What is measured is what is made, and QEMU says the same, which is slow since it times its hash for that."""
    raw, image = tmp_path / "raw", tmp_path / "image"
    raw.write_bytes(os.urandom(1 << 20) + bytes(3 << 20) + os.urandom(512))
    for kind, options in (("luks", ""), ("luks", "cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=plain64,"), ("luks", "preallocation=off,"),
                          ("qcow2", ""), ("qcow2", "cluster_size=4k,encrypt.cipher-alg=aes-128,")):
        prefix = "encrypt." if kind == "qcow2" else ""
        if prefix:
            options += "encrypt.format=luks,"
        options += f"{prefix}key-secret=s0,{prefix}iter-time=10"
        said = []
        for tool in (ours, THEIRS) if beside_theirs else (ours,):
            for source in ["-f", "raw", str(raw)], ["--size", "12345"], ["--size", "1G", "--output=json"]:
                r = patiently([tool, "measure", *SECRETS, "-O", kind, "-o", options, *source])
                assert r.returncode == 0 and not r.stderr, r.stderr
                said.append(r.stdout)
        assert not beside_theirs or said[:3] == said[3:]
        full = ",preallocation=full" if kind == "qcow2" else ""
        subprocess.run([ours, "create", "-q", *SECRETS, "-f", kind, "-o", options + full, image, str(raw.stat().st_size)], check=True)
        assert f"fully allocated size: {image.stat().st_size}\n" in said[0]
        if kind == "luks":
            assert f"required size: {image.stat().st_size}\n" in said[0]
            assert f"required size: {image.stat().st_size - raw.stat().st_size + 12345}\n" in said[1]
    # Its passphrase is not looked for in a header, and nothing is timed.
    begin = time.monotonic()
    subprocess.run([ours, "measure", *SECRETS, "-O", "luks", "-o", "key-secret=s0,iter-time=100000", "--size", "1G"], check=True)
    assert time.monotonic() - begin < 5


def test_key_slots(ours, tmp_path):
    """The same changes of key slots by both tools, each on a file of its own, say the same and leave the same slots."""
    def amend(secret, options):
        said = []
        for name, tool in ("ours", ours), ("theirs", THEIRS):
            r = patiently([tool, "amend", *SECRETS, "--image-opts", encrypted(tmp_path / name, "luks", secret), "-o", options])
            said.append((r.returncode, r.stderr))
        assert said[0] == said[1], (secret, options)
        slots = [re.sub(r"iters: \d+|uuid: .*|image: .*|disk size: .*", "", subprocess.run([ours, "info", tmp_path / n], capture_output=True, text=True).stdout)
                 for n in ("ours", "theirs")]
        assert re.sub("master key .*", "", slots[0]) == re.sub("master key .*", "", slots[1])
        return said[0][0]

    for name, tool in ("ours", ours), ("theirs", THEIRS):
        assert patiently([tool, "create", "-q", *SECRETS, "-f", "luks", "-o", "key-secret=s0,iter-time=10", tmp_path / name, "1M"]).returncode == 0
    assert amend("s0", "state=active,new-secret=s1,iter-time=10") == 0
    assert amend("s1", "state=active,new-secret=s2,iter-time=10,keyslot=5") == 0
    assert amend("s1", "state=active,new-secret=s2,iter-time=10,keyslot=5") == 1
    assert amend("s0", "state=active") == 1
    assert amend("s0", "state=active,new-secret=s1,old-secret=s0") == 1
    assert amend("s0", "state=active,new-secret=s1,keyslot=8") == 1
    assert amend("s0", "state=inactive") == 1
    assert amend("s0", "state=inactive,keyslot=3") == 1
    assert amend("s0", "state=inactive,keyslot=1,old-secret=s2") == 1
    assert amend("s0", "state=inactive,old-secret=s0") == 0
    assert amend("s1", "state=inactive,keyslot=5") == 0
    assert amend("s1", "state=inactive,keyslot=1") == 1
    assert amend("s1", "state=inactive,old-secret=s1") == 1
    for tool in ours, THEIRS:
        for name in "ours", "theirs":
            subprocess.run([tool, "convert", *SECRETS, "--image-opts", encrypted(tmp_path / name, "luks", "s1"), "-O", "raw", tmp_path / "x"], check=True)


def test_luks_headers_that_lie(ours, tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    subprocess.run([ours, "create", "-q", *SECRETS, "-f", "luks", "-o", "key-secret=s0,iter-time=10", good, "1M"], check=True)
    data = good.read_bytes()
    for at, n in (6, 2), (8, 4), (40, 4), (72, 4), (104, 4), (108, 4), (164, 4), (208, 4), (212, 4), (248, 4), (252, 4), (256, 4), (296, 4):
        for value in 0, 1, 2 ** (8 * n - 1) - 1, 2 ** (8 * n - 1), 2 ** (8 * n) - 1:
            bad.write_bytes(data[:at] + value.to_bytes(n, "big") + data[at + n:])
            start = time.monotonic()
            r = subprocess.run(["bash", "-c", 'ulimit -v 3000000; exec "$@"', "-", ours, "convert", *SECRETS, "--image-opts", encrypted(bad, "luks"), "-O", "raw",
                                tmp_path / "x"], capture_output=True, text=True, timeout=20)
            assert r.returncode in (0, 1) and r.stderr.count("\n") == r.returncode and time.monotonic() - start < 10, (at, value, r)
    for size in 0, 100, 592, 5000, len(data) - (1 << 20) - 1:
        bad.write_bytes(data[:size])
        r = subprocess.run([ours, "info", "-f", "luks", bad], capture_output=True, text=True)
        assert r.returncode == 1 and r.stderr.count("\n") == 1 or size == len(data) - (1 << 20) - 1


def test_what_is_written_is_in_order(ours, tmp_path):
    """However many coroutines copy, the file is the same."""
    raw = tmp_path / "raw"
    raw.write_bytes(b"".join(os.urandom(50000) + bytes(50000) + b"text" * 12500 for _ in range(80)))
    for options in ([], ["-c"]):
        files = []
        for m in "1", "16":
            subprocess.run([ours, "convert", "-m", m, "-f", "raw", "-O", "qcow2", *options, raw, tmp_path / "q"], check=True)
            files.append((tmp_path / "q").read_bytes())
        assert files[0] == files[1], options


def test_counts_that_theirs_cannot_rebuild(ours, tmp_path):
    image = tmp_path / "a.q"
    subprocess.run([ours, "create", "-q", "-f", "qcow2", image, "64M"], check=True)
    subprocess.run([IO, "-c", "write -P 3 0 300k", image], check=True, stdout=subprocess.DEVNULL)
    with image.open("r+b") as f:
        f.seek(0x10000)
        f.write((0x20200).to_bytes(8, "big"))  # a block that is not where one can be
    assert subprocess.run([ours, "check", image], capture_output=True).returncode == 1
    r = subprocess.run([ours, "check", "-r", "all", image], capture_output=True, text=True)
    assert r.returncode == 0 and "Rebuilding refcount structure" in r.stderr
    subprocess.run([THEIRS, "check", "-q", image], check=True)
    r = subprocess.run([IO, "-r", "-c", "read -P 3 0 300k", image], capture_output=True, text=True, check=True)
    assert "failed" not in r.stdout


def test_amend_with_snapshots_that_share(ours, tmp_path):
    """Version 2 has no zero clusters; what a snapshot has as data where the disk has zeroes stays."""
    image, raw = tmp_path / "a.q", tmp_path / "raw"
    subprocess.run([ours, "create", "-q", "-f", "qcow2", image, "8M"], check=True)
    subprocess.run([IO, "-c", "write -P 3 0 1M", image], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([ours, "snapshot", "-c", "s", image], check=True)
    subprocess.run([IO, "-c", "write -z 64k 128k", image], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([ours, "amend", "-o", "compat=0.10", image], check=True)
    subprocess.run([THEIRS, "check", "-q", image], check=True)
    for snapshot, want in ([], bytes([3] * 65536) + bytes(131072) + bytes([3] * 65536)), (["-l", "s"], bytes([3] * 262144)):
        subprocess.run([THEIRS, "convert", *snapshot, "-O", "raw", image, raw], check=True)
        assert raw.read_bytes()[:262144] == want


def test_rate_and_progress(ours, tmp_path):
    raw = tmp_path / "raw"
    raw.write_bytes(os.urandom(12 << 20))
    start = time.monotonic()
    child = subprocess.Popen([ours, "convert", "-r", "8M", "-O", "raw", "-f", "raw", raw, tmp_path / "out"], stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    child.send_signal(signal.SIGUSR1)
    assert re.fullmatch(r"    \(\d+\.\d\d/100%\)\n", child.communicate()[1])
    assert child.returncode == 0 and time.monotonic() - start > 1.0
    assert (tmp_path / "out").read_bytes() == raw.read_bytes()
    child = subprocess.Popen([ours, "convert", "-p", "-r", "16M", "-O", "raw", "-f", "raw", raw, tmp_path / "out"], stdout=subprocess.DEVNULL)
    time.sleep(0.3)
    child.send_signal(signal.SIGUSR1)  # it says so anyway
    assert child.wait() == 0
    r = subprocess.run([ours, "convert", "-p", "-O", "raw", "-f", "raw", raw, tmp_path / "out"], check=True, capture_output=True)
    assert r.stdout.startswith(b"    (0.00/100%)\r") and r.stdout.endswith(b"    (100.00/100%)\r\n")
    steps = [float(x) for x in re.findall(rb"\((.*?)/100%\)\r", r.stdout)]
    assert steps == sorted(steps) and len(steps) > 4
    subprocess.run([THEIRS, "create", "-q", "-f", "qcow2", "-b", "raw", "-F", "raw", "top.q"], cwd=tmp_path, check=True)
    subprocess.run([IO, "-c", "write -q -P 5 0 12M", "top.q"], cwd=tmp_path, check=True)
    start = time.monotonic()
    r = subprocess.run([ours, "commit", "-p", "-r", "8M", "top.q"], cwd=tmp_path, check=True, capture_output=True)
    assert time.monotonic() - start > 1.0 and r.stdout.count(b"/100%)\r") > 4


def test_without_the_name(tmp_path):
    image = tmp_path / "a.q"
    subprocess.run([VIREO, "img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
    r = subprocess.run([VIREO, "img", "info", "--output=json", image], check=True, capture_output=True)
    assert json.loads(r.stdout)["virtual-size"] == 1 << 20


def test_data_files_beside_their_image(ours, tmp_path):
    """A name without a directory is one of where the tool is, as QEMU has it, and of the image's directory if there is none."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    subprocess.run([ours, "create", "-q", "-f", "qcow2", "-o", "data_file=d.raw", "d.q", "1M"], cwd=there, check=True)
    (there / "d.raw").write_bytes(b"\5" * (1 << 20))
    read = [IO, "-c", "write -q -P 5 0 64k", "--image-opts", "driver=qcow2,file.filename=d.q,data-file.filename=d.raw"]
    subprocess.run(read, cwd=there, check=True)
    for want in b"\5", b"\6":
        subprocess.run([ours, "dd", "bs=64k", "count=1", "if=../there/d.q", "of=out"], cwd=here, check=True)
        assert (here / "out").read_bytes() == want * 65536
        (here / "d.raw").write_bytes(b"\6" * (1 << 20))


def test_commit_leaves_an_empty_file(ours, tmp_path):
    """Nothing of what was committed stays in the overlay, and its file is as short as QEMU's."""
    sizes = []
    for name, program in ("theirs", THEIRS), ("ours", ours):
        d = tmp_path / name
        d.mkdir()
        for c in ([THEIRS, "create", "-q", "-f", "qcow2", "base.q", "16M"],
                  [THEIRS, "create", "-q", "-f", "qcow2", "-b", "base.q", "-F", "qcow2", "top.q"],
                  [IO, "-c", "write -q -P 5 1M 8M", "-c", "write -q -z 12M 1M", "top.q"], [program, "commit", "-q", "top.q"],
                  [THEIRS, "check", "-q", "top.q"], [IO, "-c", "read -q -P 5 1M 8M", "-c", "write -q -P 6 2M 64k", "top.q"],
                  [program, "check", "-q", "top.q"]):
            subprocess.run(c, cwd=d, check=True)
        sizes.append((d / "top.q").stat().st_size)
    assert sizes[0] == sizes[1]
    subprocess.run([THEIRS, "compare", "-q", "theirs/top.q", "ours/top.q"], cwd=tmp_path, check=True)
