"""A debugger at a running kernel: GDB itself, over --gdb."""
import os
import re
import subprocess

import pytest

from conftest import SLOW


def gdb(script, *files, timeout=90):
    """What GDB prints when it runs these commands."""
    args = ["gdb", "-nx", "-batch"]
    for line in ["set pagination off", "set confirm off", *script]:
        args += ["-ex", line]
    r = subprocess.run([*args, *files], capture_output=True, text=True, timeout=timeout * SLOW, stdin=subprocess.DEVNULL)
    return r.stdout + r.stderr


def symbol(vm, name):
    return int(vm.sh(f"grep ' {name}$' /proc/kallsyms | head -1").split()[0], 16)


def test_a_running_kernel(busybox, vms, tmp_path):
    """Attach to a guest that runs, stop in the kernel, look around, and leave it as it was."""
    sock = tmp_path / "gdb.sock"
    vm = vms([*busybox.args("quiet nokaslr"), "--cpus", "2", "--gdb", f"unix:{sock}"]).boot()
    open_file, banner = symbol(vm, "do_sys_openat2"), symbol(vm, "linux_banner")
    vm.child.sendline("while :; do read x < /proc/version; done")
    out = gdb([f"target remote {sock}", "info threads", f"break *{open_file:#x}", "continue", "p/x $rip",
               f"x/s {banner:#x}", "delete", "stepi", "stepi", f"watch *(long *)({banner:#x}+4096)", "delete",
               f"hbreak *{open_file:#x}", "continue", "info registers cr3", "detach"])
    assert "CPU#0" in out and "CPU#1" in out, out
    assert f"{open_file:#x}" in out
    assert len(re.findall("hit Breakpoint", out)) == 2, out
    assert "Linux version 6." in out
    vm.child.sendcontrol("c")
    vm.child.expect(vm.prompt)
    assert vm.sh("echo al''ive") == "alive"


def test_steps_through_a_boot(busybox, vms, tmp_path):
    """A paused machine is debugged from its first instruction."""
    sock = tmp_path / "gdb.sock"
    vm = vms([*busybox.args("quiet nokaslr"), "--gdb", f"unix:{sock}", "--paused"])
    vm.child.expect("waits")
    out = gdb([f"target remote {sock}", "p/x $rip", "stepi", "stepi", "stepi", "p/x $rip", "detach"])
    rips = [int(x, 16) for x in re.findall(r"\$\d+ = (0x[0-9a-f]+)", out)]
    assert len(rips) == 2 and rips[0] == 0x1000200 and 0x1000200 < rips[1] < 0x1000300, out
    vm.boot()


@pytest.mark.slow
def test_debug_symbols(busybox, vms, tmp_path):
    """Debian's kernel with its debug symbols: stopped at functions, by name, with its sources' lines."""
    with open(busybox.kernel, "rb") as f:
        release = re.search(rb"(6\.[0-9.]+[-+][\w.+-]*cloud-amd64) ", f.read()).group(1).decode()
    package = f"linux-image-{release}-dbg"
    cache = os.path.join(os.path.dirname(busybox.dir), "..", "symbols", release)
    image = os.path.join(cache, "vmlinux")
    if not os.path.exists(image):
        os.makedirs(cache, exist_ok=True)
        r = subprocess.run(["apt-get", "download", package], cwd=tmp_path, capture_output=True, text=True)
        if r.returncode:
            pytest.skip(f"{package} cannot be had: {r.stderr.strip().splitlines()[-1:]}")
        subprocess.run(f"dpkg-deb --fsys-tarfile {package}_*.deb | tar -xO ./usr/lib/debug/boot/vmlinux-{release} "
                       f"> {image}.part && mv {image}.part {image}", shell=True, check=True, cwd=tmp_path)
    sock = tmp_path / "gdb.sock"
    vm = vms([*busybox.args("quiet nokaslr"), "--cpus", "2", "--gdb", f"unix:{sock}", "--paused"])
    vm.child.expect("waits")
    out = gdb([f"target remote {sock}", "break start_kernel", "continue", "bt", "next", "next",
               "break do_sys_openat2", "continue", "bt", "p filename", "finish", "p init_task.comm",
               "watch jiffies_64", "continue", "bt 3", "delete", "detach"], image, timeout=240)
    assert "start_kernel () at init/main.c" in out, out
    assert re.search(r"hit Breakpoint 2.*do_sys_openat2 \(dfd=-100", out), out
    assert '"swapper/0' in out
    before, after = map(int, re.search(r"hit Hardware watchpoint.*\n\nOld value = (\d+)\nNew value = (\d+)\n", out).groups())
    assert before < after < before + 100
    vm.boot()
