"""A few random images that one program writes and the other reads; scripts/interchange makes thousands."""
import os
import re
import shutil
import subprocess

import pytest

from conftest import TOP, VIREO

pytestmark = pytest.mark.skipif(not shutil.which("qemu-img") or not shutil.which("qemu-io"), reason="QEMU's tools are not installed")


def test_random_images_both_ways():
    r = subprocess.run([os.path.join(TOP, "scripts", "interchange"), "--count", "5", "--seed", "12"], capture_output=True, text=True,
                       timeout=300, env={**os.environ, "VIREO": VIREO})
    assert r.returncode == 0, r.stdout + r.stderr
    assert re.findall(r": (\w+) to (\w+): 5 images, 0 failed", r.stdout) == [("ours", "theirs"), ("theirs", "ours")]


def test_encrypted_zeroes_are_no_hole(tmp_path):
    """What preallocation adds behind encrypted data reads as zeroes, also where version 2 cannot say that it does."""
    image = tmp_path / "a.q"
    secret = ["--object", "secret,id=s0,data=correct horse"]
    opts = f"driver=qcow2,file.filename={image},encrypt.key-secret=s0"
    for options in "encrypt.format=aes,compat=0.10", "encrypt.format=luks,encrypt.iter-time=10,compat=0.10", "encrypt.format=aes,extended_l2=on":
        subprocess.run([VIREO, "img", "create", "-q", *secret, "-f", "qcow2", "-o", f"preallocation=metadata,encrypt.key-secret=s0,{options}", image, "100k"]
                       if "extended" not in options else
                       [VIREO, "img", "create", "-q", *secret, "-f", "qcow2", "-o", f"encrypt.key-secret=s0,{options}", image, "100k"], check=True)
        subprocess.run([VIREO, "io", *secret, "-c", "write -P 7 0 99k", "--image-opts", opts], check=True, stdout=subprocess.DEVNULL)
        for mode, size in ("falloc", "200k"), ("full", "300k"):
            subprocess.run([VIREO, "img", "resize", "-q", *secret, f"--preallocation={mode}", "--image-opts", opts, size], check=True)
        for program in [VIREO, "io"], ["qemu-io"]:
            r = subprocess.run([*program, *secret, "-c", "read -P 7 0 99k", "-c", "read -P 0 100k 200k", "--image-opts", opts], capture_output=True, text=True)
            assert r.returncode == 0 and "failed" not in r.stdout, (options, program, r.stdout)


def test_the_last_cluster_is_whole(tmp_path):
    """Some who read images take what lies behind the end of the file for anything but zeroes."""
    image = tmp_path / "a.q"
    for cluster in 4096, 65536:
        subprocess.run([VIREO, "img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}", image, "1M"], check=True)
        subprocess.run([VIREO, "io", "-c", "write 64k 1k", image], check=True, stdout=subprocess.DEVNULL)
        assert image.stat().st_size % cluster == 0


@pytest.mark.parametrize("options", ["compat=0.10", "compat=1.1", "data_file=data"])
def test_preallocated_clusters_are_zeroes(tmp_path, options):
    """Also where they were somebody's before."""
    def run(*args):
        return subprocess.run([VIREO, *args], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    for mode in "metadata", "falloc", "full":
        run("img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size=4k,{options}", "a.q", "1M")
        run("io", "-d", "ignore", "-c", "write -P 7 0 1M", "a.q")
        run("img", "resize", "-q", "--shrink", "a.q", "64k")
        if "data" in options:  # what a discard that does nothing leaves
            with open(tmp_path / "data", "r+b") as f:
                f.truncate(1 << 20)
                f.seek(65536)
                f.write(b"x" * (1 << 18))
        run("img", "resize", "-q", f"--preallocation={mode}", "a.q", "2M")
        assert "failed" not in run("io", "-c", "read -P 7 0 64k", "-c", "read -P 0 64k 1984k", "a.q"), mode
        for program in [VIREO, "img"], ["qemu-img"]:
            subprocess.run([*program, "check", "-q", "a.q"], cwd=tmp_path, check=True)
