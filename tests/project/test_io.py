"""vireo io by the name qemu-io, beside QEMU's own: the same commands must say the same and leave the same images."""
import os
import re
import shlex
import shutil
import signal
import subprocess
import termios
import time

import pexpect
import pytest

from conftest import VIREO

IMG, THEIRS = shutil.which("qemu-img"), shutil.which("qemu-io")
pytestmark = pytest.mark.skipif(not IMG or not THEIRS, reason="QEMU's tools are not installed")

# Each line is run by both, in a directory of its own. "img ..." is done by QEMU's qemu-img, "< TEXT" is standard input.
STORY = r"""
img create -f qcow2 base.q 8M
img create -f qcow2 -b base.q -F qcow2 a.q
img create -f qcow2 -o cluster_size=4k,extended_l2=off s.q 1M
img create -f raw r.raw 1M
-c "write -P 7 0 1M" base.q
-c "write 0 64k" -c "write -P 0x5a 100k 512" -c "write -z 1M 1M" -c "write -z -u 2M 64k" -c "write -zn 3M 64k" a.q
-c "read -P 0xcd 0 64k" -c "read -P 0x5a 100k 512" -c "read -P 7 128k 64k" -c "read -P 8 128k 64k" -c "read 0 1" a.q
-c "read -P 7 -s 512 -l 512 128k 4k" -c "read -P 7 -s 5k 128k 4k" -c "read -P 7 -l 5k 128k 4k" -c "read -s 1 0 4k" a.q
-c "read -v 100k 40" -c "read -v -P 0x5a 100k 17" -c "read -q 0 4k" -c "read -C -q 0 4k" a.q
-c "write -q 0 1k" -c "w 1k 1k" -c "r 1k 1k" -c "write -f 2k 1k" -c "write -p 2k 1k" a.q
-c "writev -P 3 4k 1k 512 1" -c "readv -P 3 4k 1k 512 1" -c "readv -v 4k 16 16" -c "readv -P 4 4k 1k" -c "writev 0" a.q
-c "aio_write -P 9 64k 4k 4k" -c "aio_flush" -c "aio_read -P 9 64k 8k" -c "aio_flush" -c "aio_read -v 64k 16" a.q
-c "aio_write -z 64k 64k" -c "aio_write -i 0 1k" -c "aio_read -i 0 1k" -c "aio_flush" -c "aio_write -u 0 1k" -c "aio_read 8M 1k" a.q
-c "aio_write -z 0 1k 1k" -c "aio_write 8M 1k" -c "aio_read -P 300 0 1k" -c "aio_write -zu 64k 64k" a.q
-c "discard 0 64k" -c "discard -q 64k 64k" -c "discard 8M 1" -c "discard 0 3G" -c "discard 0" -c "discard -x 0 1" a.q
-c "write -c 256k 64k" -c "write -c -P 3 320k 64k" -c "read -P 3 320k 64k" -c "write -c 0 100" -c "write -c 8M 64k" a.q
-c "write -c 0 64k" r.raw
-c "write 8M 1" -c "read 8388607 2" -c "read 8388607 1" -c "write 0 3G" -c "read 0 3G" -c "write -zn 0 3G" -c "write 0 0" a.q
-c "write -P 256 0 1" -c "write -P x 0 1" -c "write -P -1 0 1" -c "write x 1" -c "write 0 x" -c "write 1y 1" -c "write -1 1" a.q
-c "write 9999999999999999999999 1" -c "write 9E 1" -c "read 1.5k 1.5k" -c "read 0x10 0x10" -c "write 0 -1" a.q
-c "write -n 0 1k" -c "write -u 0 1k" -c "write -z -P 1 0 1k" -c "write -f -c 0 64k" -c "write -b -z 0 1k" -c "write -b 1 1" a.q
-c "write -s pattern 0 10" -c "write -s nope 0 10" -c "write -s /dev/null 0 10" -c "write -s pattern -P 1 0 1" a.q
-c "read" -c "read 0" -c "read 0 1 2" -c "read -x 0 1" -c "write" -c "write -y" -c "readv 0" -c "aio_read 0" -c "bogus 1" a.q
-c "alloc 0 64k" -c "alloc 0" -c "a 1M 1M" -c "alloc 0 8M" -c "alloc 7M 8M" -c "alloc x" -c "alloc 0 x" -c "alloc" a.q
-c map a.q
-c map base.q
-c map -c "alloc 0 1M" -c length r.raw
-c length -c l -c "length 1" a.q
-c info a.q
-c i s.q
-f raw -c info r.raw
-c "truncate 16M" -c length -c "truncate 8M" -c length a.q
-c "truncate -m foo 1M" -c "truncate -m metadata 2M" -c "length" -c "truncate x" -c "truncate" -c map s.q
-f raw -c "truncate 2M" -c length -c "truncate 1M" -c length r.raw
-c flush -c f -c "flush 1" -c aio_flush a.q
-c "sleep 1" -c "sleep x" -c "sleep -1" -c "sleep"
-c "read 0 1" -c "length" -c "map" -c "close" -c "flush"
-c "open a.q" -c "read -q 0 1k" -c "open a.q" -c close -c close -c "open -r a.q" -c "write 0 1k" -c "discard 0 1" -c "truncate 1"
-c "open" -c "open nope" -c "open a.q b.q" -c "open -z" -c "open -t foo a.q" -c "open -d foo a.q" -c "open -i foo a.q"
-c "open -o driver=qcow2 a.q" -c "length" -c "close" -c "open -o driver=foo a.q" -c "open -o driver=raw,file.filename=a.q" -c length
-c "open -n a.q" -c "read -P 7 128k 4k" -c close -c "open -t writethrough a.q" -c "write 0 512" -c close -c "o -s a.q" -c "write 0 1k"
-r -c "read -q 0 1" -c "write 0 1" -c "aio_write 0 1" -c "writev 0 1" a.q
-s -c "write -P 1 0 1k" -c "read -P 1 0 1k" -c "alloc 0 64k" -c "map" a.q
-f qcow2 -c length r.raw
-f foo -c length r.raw
-f raw -c "write -P 1 0 512" -c "read -P 1 0 512" r.raw
-n -f raw -c "write -P 2 100 1000" -c "read -P 2 100 1000" -c "read -v 99 3" -c "write -P 3 1 1" -c "read -v 0 3" r.raw
-m -n -f raw -c "write -P 2 0 4k" -c "read -P 2 0 4k" r.raw
-t foo a.q
-t none -c "read 0 512" a.q
-t directsync -c "write 0 512" a.q
-t unsafe -c "write 0 512" a.q
-d foo a.q
-d ignore -c "discard 0 64k" -c "alloc 0 64k" a.q
-i foo a.q
-i threads -c "read 0 512" a.q
--image-opts -c "read 0 512" driver=qcow2,file.filename=a.q
--image-opts -f raw a.q
--image-opts -c "open driver=raw,file.filename=r.raw" -c length
--image-opts -c "open -o driver=raw r.raw"
-c "read 0 512" nope
-c "length" json:{"driver":"qcow2","file":{"driver":"file","filename":"a.q"}}
-c "length" json:{'driver':'null-co','size':'65536'}
-c "reopen -r" -c "write 0 1" -c "reopen -w" -c "write 0 1" -c "reopen -r -w" -c "reopen -x" -c "reopen foo" -c "reopen -c foo" a.q
-c "reopen -o driver=raw" -c "reopen -o file.driver=qcow2" -c "reopen -o node-name=x" -c "reopen -o driver=qcow2" a.q
-c "reopen -r -o read-only=on" -c "reopen -c none -o cache.direct=on" -c "reopen -o read-only=foo" -c "length" a.q
-c "reopen -c none" -c "write -P 4 0 512" -c "read -P 4 0 512" -c "reopen -o lazy-refcounts=42" -c "read -P 4 0 512" a.q
-c "break foo A" a.q
-c "remove_break A" -c "resume A" a.q
-c "break pwritev A" -c "aio_write -P 5 0 512" -c "wait_break A" -c "resume A" -c "aio_flush" -c "read -P 5 0 512" blkdebug::r.raw
-c "break foo A" -c "resume B" -c "remove_break B" -c "break pwritev B" -c "remove_break B" -c "write 0 512" blkdebug::r.raw
-c help
-c "help bogus" -c "help read write" -c "?"
-c "quit" -c "length" a.q
-c "q x" a.q
-c "abort x" -c "sigraise" -c "sigraise x" -c "sigraise 999"
-c "sigraise 9"
-x
-T nope -c length a.q
-T enable= -T -nope -T nope? -T nope* -c length a.q
-T bogus=1 -c length a.q
-T events=missing -c length a.q
-T events=events -f qcow2 -c "read -q 0 512" a.q
-T file=missing/log -c length a.q
-T file=log,events=missing -c length a.q
-T blk_co_p* -f qcow2 -c "write -q 0 512" -c "write -q -z 0 512" -c "write -q -zu 0 512" -c "write -qc 64k 64k" -c "write -qf 0 512" a.q
-T blk_co_p?* -T -blk_co_preadv -f qcow2 -c "read -q 0 512" -c "write -q -zn 0 64k" -c "writev -q 0 512 512" -c "discard -q 0 64k" -c "write 9M 1" a.q
-T events=events,enable=blk_co_pwritev -f qcow2 -c "aio_write -q 0 512" -c "aio_read -q 0 512 1k" -c aio_flush a.q
-T blk_co_preadv,file=log -f qcow2 -c "read -q 0 512" a.q
a.q r.raw
< open -o driver=raw,file.align=4k blkdebug::r.raw; break pwritev_rmw_head A; aio_write -P 10 0x200 0x200; wait_break A; aio_write -P 11 0x400 0x200; sleep 50; resume A; aio_flush; read -P 10 0x200 0x200; read -P 11 0x400 0x200
< length; read -P 7 128k 4k; bogus; ; quit; length a.q
< open a.q; length a.q -r
< length
img check a.q
img create -f qcow2 -b base.q -F qcow2 cor.q
-C -c "read -P 7 100k 1k" -c map -c "read -P 7 0 300k" -c "read -P 0 2M 64k" -c "alloc 0 8M" -c map cor.q
-C -r -c "read 0 1k" cor.q
--image-opts -c "write -P 3 70k 1k" -c "read -P 7 64k 6k" -c "read -P 3 70k 1k" -c map driver=copy-on-read,file.driver=qcow2,file.file.filename=cor.q
--image-opts -r -c "read 0 1k" driver=copy-on-read,file.driver=qcow2,file.file.filename=cor.q
--image-opts -c "write -P 9 650k 100k" -c "read -P 9 650k 100k" -c "read -P 7 640k 10k" -c "read -P 7 750k 18k" -c "write -z 0 64k" -c "read -P 0 0 64k" driver=compress,file.driver=qcow2,file.file.filename=cor.q
--image-opts -c "write 0 1" driver=compress,file.driver=raw,file.file.filename=r.raw
-c "read -P 9 704k 46k" -c map cor.q
img check cor.q
--object throttle-group,id=g,x-iops-total=1000 --image-opts -c "write -P 4 0 1k" -c "read -P 4 0 1k" driver=throttle,throttle-group=g,file.driver=qcow2,file.file.filename=cor.q
--image-opts driver=throttle,throttle-group=g,file.driver=qcow2,file.file.filename=cor.q
--image-opts driver=throttle,file.driver=qcow2,file.file.filename=cor.q
--object throttle-group,id=g,x-iops-total=1000,x-iops-read=1 -c length cor.q
--object throttle-group,id=g,x-bps-total-max=1000 -c length cor.q
--object throttle-group,id=g,x-bps-total=2000,x-bps-total-max=1000 -c length cor.q
--object throttle-group,id=g,x-bps-total=9000000000000000 -c length cor.q
--object throttle-group,id=g,x-iops-size=512 -c length cor.q
--object throttle-group,id=g,x-iops-total=10,x-iops-total-max=20,x-iops-total-max-length=0 -c length cor.q
--object throttle-group,id=g,x-iops-total=10,x-iops-total-max-length=2 -c length cor.q
img check cor.q
img create -f qcow2 row.q 192k
-c "write -P 42 0 192k" -c "write -z 64k 64k" row.q
--image-opts -c "write -P 43 1k 190k" driver=qcow2,file.driver=blkdebug,file.image.filename=row.q,file.set-state.0.event=write_aio,file.set-state.0.new_state=2,file.inject-error.0.event=write_aio,file.inject-error.0.state=2
-c "read -P 43 1k 190k" -c "read -P 42 0 1k" -c "read -P 42 191k 1k" -c map row.q
-c "write -z 128k 64k" -c "write -P 44 100k 64k" -c "read -P 43 1k 99k" -c "read -P 44 100k 64k" -c "read -P 0 164k 28k" -c map row.q
img check row.q
img create -f qcow2 -b base.q -F qcow2 zero.q 9M
-c "write -z 8256k 1k" -c "write -z 9215k 1k" -c "write -z 2049k 60k" -c "write -z 100k 90k" -c "write -z -u 70k 10k" -c map zero.q
img create -f qcow2 -o extended_l2=on sub.q 1M
-c "write -P 1 0 128k" -c "write -z 3k 7k" -c "write -zu 100k 64k" -c "write -z 300k 1k" -c "write -z 500k 200k" -c "discard 0 64k" -c map sub.q
-c "write -z 1023k 1k" -c "write -z 800k 150k" -c "read -P 0 0 64k" -c "read -P 1 64k 36k" -c "read -P 0 100k 924k" -c map sub.q
-c "open -o cache-size=1M,l2-cache-size=1M,refcount-cache-size=0 sub.q" -c "open -o cache-size=1M,l2-cache-size=2M sub.q" -c "open -o cache-size=1M,refcount-cache-size=2M sub.q"
-c "open -o l2-cache-entry-size=256 sub.q" -c "open -o l2-cache-entry-size=3k sub.q" -c "open -o l2-cache-entry-size=128k sub.q"
-c "open -o cache-size=0 sub.q" -c "write -P 5 0 1M" -c "read -P 5 0 1M" -c close -c "open -o l2-cache-size=0,refcount-cache-size=0 sub.q" -c "read -P 5 0 1M"
-c "write -z 10k 3k" -c "write -z 500k 2k" -c "write -zu 640k 96k" sub.q
img check sub.q
img check zero.q
"""


def told(program, args, cwd, stdin):
    r = subprocess.run([program, *args], cwd=cwd, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       timeout=60)
    # How fast it was is the machine's business.
    out = re.sub(r"\d+ ops; .*", "OPS", r.stdout)
    # The help for the program is in our own words.
    out = re.sub(r"Usage: .*", "USAGE", out, flags=re.S)
    err = re.sub(r"blk 0x[0-9a-f]+ bs 0x[0-9a-f]+", "POINTERS", r.stderr)
    return r.returncode, out, err.replace(os.path.basename(program) + ": ", "qemu-io: ").replace(f"{program}: ", "qemu-io: ")


@pytest.fixture
def ours(tmp_path):
    link = tmp_path / "bin" / "qemu-io"
    link.parent.mkdir()
    link.symlink_to(os.path.abspath(VIREO))
    return str(link)


def run_story(story, ours, tmp_path):
    different = []
    for name in "theirs", "ours":
        (tmp_path / name).mkdir()
        (tmp_path / name / "pattern").write_bytes(b"abc")
        (tmp_path / name / "events").write_text("# what is traced\nnope\n\nblk_co_*\n-blk_co_pwritev\n")
    for line in story.split("\n"):
        if line.startswith("img "):
            for name in "theirs", "ours":
                assert subprocess.run([IMG, *line[4:].split()], cwd=tmp_path / name, stdout=subprocess.DEVNULL).returncode == 0, line
        elif line:
            stdin, args = "", line
            if line.startswith("< "):
                stdin, args = re.match(r"< (.*?)((?: \S+\.q)?(?: -r)?)$", line).groups()
                stdin = stdin.replace("; ", "\n") + "\n"
            args = shlex.split(args) if not args.startswith("-c \"length\" json") else ["-c", "length", args[12:].strip()]
            want = told(THEIRS, args, tmp_path / "theirs", stdin)
            got = told(ours, args, tmp_path / "ours", stdin)
            if want != got:
                different.append(f"{line}\n--- theirs: {want[0]}\n{want[1]}{want[2]}\n--- ours: {got[0]}\n{got[1]}{got[2]}")
    return different


def test_the_same_is_said(ours, tmp_path):
    different = run_story(STORY, ours, tmp_path)
    assert not different, "\n\n".join(different)
    for image in "a.q", "s.q", "base.q":
        subprocess.run([IMG, "compare", "-q", f"theirs/{image}", f"ours/{image}"], cwd=tmp_path, check=True)
    for image in "zero.q", "sub.q":
        maps = [subprocess.run([IMG, "map", "--output=json", image], cwd=tmp_path / name, check=True, capture_output=True,
                               text=True).stdout for name in ("theirs", "ours")]
        theirs, ours = (re.sub(r', "offset": \d+', "", m) for m in maps)
        assert theirs == ours
    assert (tmp_path / "theirs/r.raw").read_bytes() == (tmp_path / "ours/r.raw").read_bytes()


def test_events_go_to_a_file(ours, tmp_path):
    subprocess.run([IMG, "create", "-q", "-f", "raw", "a.raw", "1M"], cwd=tmp_path, check=True)
    command = [ours, "-T", "blk_*,file=log", "-f", "raw", "-c", "write -q 4k 512", "-c", "read -q 0 1k", "a.raw"]
    r = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert not r.stdout and not r.stderr
    assert re.fullmatch(r"blk_co_pwritev .* offset 4096 bytes 512 flags 0x0\nblk_co_preadv .* offset 0 bytes 1024 flags 0x0\n",
                        (tmp_path / "log").read_text())
    names = subprocess.run([ours, "-T", "help"], check=True, capture_output=True, text=True).stdout
    theirs = subprocess.run([THEIRS, "-T", "help"], check=True, capture_output=True, text=True).stdout
    assert names.split() and set(names.split()) <= set(theirs.split())


def on_terminal(*command):
    """The program on a terminal of its own, and how that was before."""
    child = pexpect.spawn("sh", ["-c", 'read wait; exec "$@"', "sh", *map(str, command)], timeout=20, encoding="utf-8")
    before = termios.tcgetattr(child.child_fd)[:4]
    child.send("\r")
    return child, before


def test_lines_are_edited_on_a_terminal(ours, tmp_path):
    image = tmp_path / "a.q"
    subprocess.run([IMG, "create", "-q", "-f", "qcow2", image, "3M"], check=True)
    child, before = on_terminal(ours, "-f", "qcow2", image)

    def prompt():
        child.expect_exact("qemu-io> ")
    prompt()
    child.send("le\t")  # the one command that begins so
    child.expect_exact("length ")
    child.send("\r")
    child.expect_exact("3 MiB")
    prompt()
    child.send("\x1b[A\r")  # the line before
    child.expect_exact("3 MiB")
    prompt()
    child.send("engh\x02t\x01l\r")  # in the middle, and at the beginning
    child.expect_exact("3 MiB")
    prompt()
    child.send("help aio_f\t\r")
    child.expect_exact("aio_flush -- completes all")
    prompt()
    child.send("re\t")
    child.expect("read\r+\nreadv\r+\nremove_break\r+\nreopen\r+\nresume\r+\n")
    child.send("\x15length\rlength\r")  # two at once
    for _ in range(2):
        child.expect_exact("3 MiB")
    prompt()
    child.send("write -q " + "\t")  # which is no place for a command
    child.send("-P 5 0 1M\raio_read -P 5 0 1M\r")
    child.expect("read 1048576/1048576 bytes at offset 0\r\n")  # while the next line is written
    assert "remove_break" not in child.before
    child.send("sleep 2000\r")
    child.expect_exact("sleep 2000\r")
    deadline = time.monotonic() + 1.5
    while termios.tcgetattr(child.child_fd)[:4] != before:  # as it was while a command runs
        assert time.monotonic() < deadline
        time.sleep(0.02)
    prompt()
    child.send("\x04")
    child.expect(pexpect.EOF)
    assert termios.tcgetattr(child.child_fd)[:4] == before
    child.close()
    assert child.exitstatus == 0


def test_an_interrupt_leaves_the_terminal_as_it_was(ours, tmp_path):
    child, before = on_terminal(ours)
    child.expect_exact("qemu-io> ")
    child.send("x")
    child.expect_exact("x")
    assert termios.tcgetattr(child.child_fd)[:4] != before
    child.send("\x03")
    child.expect(pexpect.EOF)
    assert termios.tcgetattr(child.child_fd)[:4] == before
    child.close()
    assert child.signalstatus == signal.SIGINT


EVENTS = """l1_update l2_load l2_update l2_alloc_write cow_read cow_write write_aio read_aio read_backing_aio cluster_alloc
refblock_load refblock_alloc refblock_update_part refblock_alloc_write refblock_alloc_hookup flush_to_os pwritev
pwritev_done reftable_load vmstate_save""".split()


def both(ours, tmp_path, make, args):
    """What both say in directories of their own that make(directory) has prepared, without warnings of raw images."""
    said = []
    for name, program in ("theirs", THEIRS), ("ours", ours):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        (tmp_path / name).mkdir()
        make(tmp_path / name)
        status, out, err = told(program, args, tmp_path / name, "")
        said.append((status, out, re.sub(r"(?s)WARNING: .*? restrictions\.\n", "", err)))
    return said


def test_errors_come_where_they_come_in_qemu(ours, tmp_path):
    """Every event, once and for ever: the same commands fail, with the same words, and the image stays whole."""
    different = []
    images = tmp_path / "images"
    images.mkdir()
    for command in ([IMG, "create", "-q", "-f", "qcow2", "base.q", "4M"], [THEIRS, "-c", "write -q -P 1 0 4M", "base.q"],
                    [IMG, "create", "-q", "-f", "qcow2", "-b", "base.q", "-F", "qcow2", "a.q"]):
        subprocess.run(command, cwd=images, check=True)
    for event in EVENTS:
        for once in "off", "on":
            def make(d):
                shutil.copytree(images, d, dirs_exist_ok=True)
                (d / "conf").write_text(f'# a comment\n[inject-error "x"]\nevent = "{event}"\nerrno = "28"\nonce = "{once}"\n')
            args = ["-f", "qcow2", "-c", "write -P 2 1k 1k", "-c", "read -P 1 0 1k", "-c", "write -P 2 1M 64k", "-c", "flush",
                    "-c", "read -P 2 1M 64k", "-c", "write -b 0 64k", "blkdebug:conf:a.q"]
            want, got = both(ours, tmp_path, make, args)
            # Leaks are as they may be: our tables and counts are in another order, and so is what fails behind an error.
            want, got = ([re.sub(r"qcow2_free_clusters failed: .*\n", "", str(s)) for s in said] for said in (want, got))
            check = subprocess.run([IMG, "check", "-f", "qcow2", "a.q"], cwd=tmp_path / "ours", capture_output=True, text=True)
            assert check.returncode in (0, 3), check.stdout
            if want != got:
                different.append(f"{event} once={once}\n--- theirs {want[0]}\n{''.join(want[1:])}--- ours {got[0]}\n{''.join(got[1:])}")
    assert not different, "\n\n".join(different)


RULES = """
set-state.0.event=pwritev,set-state.0.state=1,set-state.0.new_state=2,inject-error.0.event=pwritev,inject-error.0.state=2
inject-error.0.event=none,inject-error.0.sector=2,inject-error.0.errno=5
inject-error.0.event=none,inject-error.0.iotype=read
inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.once=on,inject-error.0.immediately=on
inject-error.0.event=none,inject-error.0.iotype=write-zeroes
inject-error.0.event=none,inject-error.0.iotype=discard
inject-error.0.event=none,inject-error.0.iotype=flush,inject-error.1.event=pwritev,inject-error.1.errno=0
align=4096,opt-write-zero=64k,max-write-zero=64k,opt-discard=64k,max-discard=1M
align=3
max-transfer=100k,align=64k
opt-write-zero=1000,align=512
max-write-zero=96k,opt-write-zero=64k
max-discard=3G
inject-error.0.event=foo
inject-error.0.event=none,inject-error.0.iotype=foo
inject-error.0.errno=5
inject-error.0.event=none,inject-error.0.bogus=1
bogus=1
"""


def test_rules_and_limits(ours, tmp_path):
    def make(d):
        subprocess.run([IMG, "create", "-q", "-f", "raw", "a.q", "4M"], cwd=d, check=True)
    different = []
    for rule in RULES.strip().split("\n"):
        args = ["--image-opts", "-t", "writeback", "-c", "write -P 1 0 1000k", "-c", "write -P 2 1k 1k", "-c", "read -P 2 1k 1k",
                "-c", "write -z 100 300k", "-c", "write -z 64k 128k", "-c", "read -P 0 100 300k", "-c", "discard 1M 2M",
                "-c", "discard 100 200", "-c", "flush", "-c", "read 3k 1k", f"driver=blkdebug,{rule},image.filename=a.q"]
        want, got = both(ours, tmp_path, make, args)
        if want != got:
            different.append(f"{rule}\n--- theirs {want[0]}\n{''.join(want[1:])}--- ours {got[0]}\n{''.join(got[1:])}")
    assert not different, "\n\n".join(different)


@pytest.mark.parametrize("text", [
    "event = \"none\"\n", "[inject-error]\n", "[inject-error]\nevent\n", "[inject-error]\nevent = none\n", "[foo]\n", "[",
    "[inject-error]\nevent = \"none\"\nerrno = \"99999999999999999999\"\n", "[inject-error]\nevent = \"none\"\nsector = \"-2\"\n",
    "[inject-error]\nevent = \"none\"\nerrno = \"5000000000\"\n", "[inject-error]\nevent=\"none\"\n" * 3000, "\0" * 100 + "[", "x" * 70000,
    "[inject-error]\n" + "a = \"b\"\n" * 5000])
def test_a_configuration_that_lies(ours, tmp_path, text):
    (tmp_path / "conf").write_text(text)
    (tmp_path / "a.raw").write_bytes(bytes(1 << 20))
    r = subprocess.run([ours, "-f", "raw", "-c", "read 0 512", "blkdebug:conf:a.raw"], cwd=tmp_path, capture_output=True, text=True,
                       timeout=20)
    if r.returncode:
        assert r.stderr.count("\n") == 1 and "can't open device" in r.stderr, r.stderr
    else:
        assert text.startswith("\0") or text.count("[") == 3000
