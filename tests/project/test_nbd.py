"""The NBD client of vireo img and vireo io beside QEMU's own: the same commands on the same kinds of exports say the same."""
import os
import re
import shutil
import subprocess
import time

import pytest

from conftest import VIREO

IMG, IO, NBD = shutil.which("qemu-img"), shutil.which("qemu-io"), shutil.which("qemu-nbd")
pytestmark = pytest.mark.skipif(not IMG or not IO or not NBD, reason="QEMU's tools are not installed")

# "serve OPTIONS" starts QEMU's server for what follows; @ is its socket.
STORY = r"""
serve -f raw r.raw
img info nbd+unix:///?socket=@
img info --output=json nbd+unix:///?socket=@
img info nbd:unix:@
img map --output=json nbd:unix:@
img map --output=json --image-opts driver=nbd,server.type=unix,server.path=@
img map --output=json --image-opts driver=raw,offset=512,file.driver=nbd,file.path=@
io -f raw -c "write -P 3 1 5000" -c "read -P 3 1 5000" -c "write -z 64k 64k" -c "write -zu 1M 64k" -c "discard 2M 1M" -c flush nbd:unix:@
io -f raw -c "write -f -P 9 3M 1k" -c "aio_write -P 1 3M 512" -c "aio_flush" -c "read -v 3M 16" -c "alloc 0 4M" nbd:unix:@
io -f raw -c "read 4M 1" -c "write 4M 1" -c "truncate 8M" -c "truncate 1M" -c length -c "info" nbd:unix:@
io -r -f raw -c "write 0 1" -c "length" nbd:unix:@
io -c "read 0 1" nbd:unix:@:exportname=other
io -c "read 0 1" nbd:unix:nowhere
io -c "read 0 1" nbd:
img info nbd://
img info nbd+unix:///x
img info --image-opts driver=nbd
img info --image-opts driver=nbd,path=@,host=h
img info --image-opts driver=nbd,path=@,port=1
img info --image-opts driver=nbd,path=@,bogus=1
img info json:{"driver":"nbd","server":{"type":"unix","path":"@"}}
img info nbd://127.0.0.1:1
img resize -f raw nbd:unix:@ 8M
img create -f raw nbd:unix:@ 4M
img create -f raw nbd:unix:@ 8M
img create -f qcow2 nbd:unix:@ 1M
img info nbd:unix:@
img check -f qcow2 nbd:unix:@
img create -f qcow2 nbd:unix:@ 64M
img convert -O qcow2 a.q nbd:unix:@
img convert -c -O qcow2 a.q nbd:unix:@
img compare a.q nbd:unix:@
img check -f qcow2 nbd:unix:@
img convert -f qcow2 -O raw nbd:unix:@ back.raw
img compare back.raw a.q
img create -f qcow2 -b nbd:unix:@ -F qcow2 over.q
img info over.q
io -c "read -P 6 100k 1k" over.q
img convert -n -O raw a.q nbd:unix:@
img compare -f qcow2 -F raw a.q nbd:unix:@
serve -f qcow2 -A -B b a.q
img map --output=json nbd:unix:@
img map --output=json --image-opts driver=nbd,path=@,x-dirty-bitmap=qemu:allocation-depth
img map --output=json --image-opts driver=nbd,path=@,x-dirty-bitmap=qemu:dirty-bitmap:b
serve -r -x name -f qcow2 a.q
io -r -f raw -c "read -P 6 100k 1k" nbd+unix:///name?socket=@
img info nbd+unix:///name?socket=@
img info nbd+unix:///other?socket=@
img map nbd+unix:///name?socket=@
"""


@pytest.fixture
def ours(tmp_path):
    (tmp_path / "bin").mkdir()
    programs = {}
    for name in "img", "io":
        link = tmp_path / "bin" / f"qemu-{name}"
        link.symlink_to(os.path.abspath(VIREO))
        programs[name] = str(link)
    return programs


class Servers:
    """One for each of the two directories."""

    def __init__(self, top):
        self.top, self.running = top, []

    def start(self, options):
        self.stop()
        for name in "theirs", "ours":
            socket = self.top / name / "s"
            socket.unlink(missing_ok=True)
            self.running.append(subprocess.Popen([NBD, "-t", "-k", str(socket), *options], cwd=self.top / name))
            for _ in range(100):
                if socket.exists():
                    break
                time.sleep(0.05)

    def stop(self):
        for p in self.running:
            p.terminate()
            p.wait(timeout=10)
        self.running = []


def told(program, args, cwd):
    r = subprocess.run([program, *args], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=60)
    text = re.sub(r"\d+ ops; .*", "OPS", r.stdout)
    text = re.sub(r"(?s)WARNING: .*? restrictions\.\n", "", text)
    text = re.sub(r"disk size: [0-9].*", "disk size", text)
    return r.returncode, text.replace(str(cwd), "DIR").replace(program, os.path.basename(program))


def split(line):
    return [a.strip('"') if not a.startswith("json:") else a for a in re.findall(r'json:\S+|"[^"]*"|\S+', line)]


def test_the_same_is_said(ours, tmp_path):
    servers, different = Servers(tmp_path), []
    for name in "theirs", "ours":
        d = tmp_path / name
        d.mkdir()
        for c in ([IMG, "create", "-q", "-f", "raw", "r.raw", "4M"], [IO, "-f", "raw", "-c", "write -q -P 1 1M 1M", "r.raw"],
                  [IMG, "create", "-q", "-f", "qcow2", "base.q", "3M"], [IO, "-c", "write -q -P 6 64k 128k", "base.q"],
                  [IMG, "create", "-q", "-f", "qcow2", "-b", "base.q", "-F", "qcow2", "a.q"],
                  [IMG, "bitmap", "--add", "a.q", "b"], [IO, "-c", "write -q -P 7 1M 64k", "-c", "write -q -z 2M 64k", "a.q"],
                  [IMG, "bitmap", "--disable", "a.q", "b"]):
            subprocess.run(c, cwd=d, check=True)
    try:
        for line in filter(None, STORY.split("\n")):
            kind, rest = line.split(" ", 1)
            if kind == "serve":
                servers.start(rest.split())
                continue
            said = []
            for name, program in ("theirs", {"img": IMG, "io": IO}[kind]), ("ours", ours[kind]):
                args = [a.replace("@", str(tmp_path / name / "s")) for a in split(rest)]
                said.append(told(program, args, tmp_path / name))
            if said[0] != said[1]:
                different.append(f"{line}\n--- theirs: {said[0][0]}\n{said[0][1]}\n--- ours: {said[1][0]}\n{said[1][1]}")
    finally:
        servers.stop()
    assert not different, "\n\n".join(different)
    assert (tmp_path / "theirs/r.raw").read_bytes() == (tmp_path / "ours/r.raw").read_bytes()
