"""Machines that begin in a ROM: a small one of our own, and Debian's firmware unmodified."""
import os
import subprocess

import pytest

from conftest import run_cli

HERE = os.path.dirname(__file__)
SEABIOS = "/usr/share/seabios/bios-256k.bin"
ENGINES = ["interp", "jit"]

seabios = pytest.mark.skipif(not os.path.exists(SEABIOS), reason="the package seabios is not installed")


def assemble(source, directory):
    out = str(directory / (source + ".bin"))
    subprocess.run(["nasm", "-f", "bin", "-o", out, os.path.join(HERE, source + ".asm")], check=True)
    return out


def boot_disk(directory):
    path = assemble("bootsector", directory)
    os.truncate(path, 1 << 20)
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rom_finds_pam_smram_and_smm(tmp_path, engine):
    r = run_cli("run", "--firmware", assemble("rom", tmp_path), "--engine", engine, "--set", "jit.heat=0",
                "--device", "isa-debug-exit")
    assert r.stdout.split("\n")[:-1] == ["rom ok", "pam ok", "code ok", "smram ok", "smm ok"], r.stdout + r.stderr
    assert r.returncode == 1


@seabios
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("more", [[], ["--cpus", "3", "--memory", "5G"], ["--memory", "16M"]])
def test_seabios_starts_a_disk(tmp_path, engine, more):
    log = tmp_path / "log"
    r = run_cli("run", "--firmware", "bios", "--disk", f"{boot_disk(tmp_path)},format=raw", "--engine", engine, *more,
                "--device", "isa-debug-exit", "--set", f"debugcon=file:{log}", "--set", "debugcon.iobase=0x402")
    said = log.read_text()
    assert "boot sector 80" in r.stdout and "int 10h" in r.stdout, r.stdout + r.stderr + said
    assert r.returncode == 1
    assert "Found QEMU fw_cfg" in said and "using modern (1.0) virtio mode" in said
    if "--cpus" in more:
        assert "Found 3 cpu(s) max supported 3 cpu(s)" in said
        assert "0000000100000000 - 0000000180000000 = 1 RAM" in said


def test_what_is_no_firmware_is_refused(tmp_path):
    odd = tmp_path / "odd"
    odd.write_bytes(b"x" * 1000)
    for path, says in [(odd, "multiple of 64 KiB"), (tmp_path / "none", "No such file"), (tmp_path, "not a regular file")]:
        r = run_cli("run", "--firmware", str(path))
        assert r.returncode == 1 and says in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr
    r = run_cli("run", "--firmware", "bios", "--kernel", str(odd))
    assert r.returncode == 1 and len(r.stderr.splitlines()) == 1
