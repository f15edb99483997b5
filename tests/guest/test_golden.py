"""What a guest sees of the hardware of pc-1.0, compared with golden/*.txt: a change of it is deliberate.

VIREO_GOLDEN=write writes the files anew; review the difference like code. A machine type that was released does
not change: then a difference means a new machine type.
"""
import base64
import difflib
import os
import re

import pytest

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
# Processors, memory and devices are fixed, and so are identities that are random by default. The model has what is not
# the host's own instructions: nothing of it comes or goes with the host.
CPU = "qemu64,+" + ",+".join("""vme xsave xsaveopt xsavec xsaves xgetbv1 pcid invpcid smep smap umip fsgsbase tsc-adjust
tsc-deadline popcnt movbe abm bmi1 bmi2 adx erms rdrand rdseed rdtscp rdpid clflushopt clwb pdpe1gb arat invtsc""".split())
CPU += ",phys-bits=46"
OPTIONS = ["--cpu", CPU, "--cpus", "2", "--memory", "512M", "--net", "user"]


def sysfs_pci(vm):
    """Each function: its configuration space as bytes, without what the driver in the guest set."""
    out = []
    for name in sorted(vm.sh("ls /sys/bus/pci/devices").split()):
        text = vm.sh(f"base64 -w0 /sys/bus/pci/devices/{name}/config")
        config = bytearray(base64.b64decode(text))
        config[0x04:0x06] = bytes(2)  # command
        out.append(name)
        for at in range(0, len(config), 16):
            row = config[at:at + 16]
            if any(row):
                out.append(f"  {at:02x}: " + " ".join(f"{b:02x}" for b in row))
    return out


def interrupts(vm):
    """Names and controllers, without the counts."""
    out = []
    for line in vm.sh("cat /proc/interrupts").splitlines()[1:]:
        m = re.match(r"\s*(\w+):((?:\s+\d+)+)\s*(.*)", line)
        out.append(f"{m[1]}: {' '.join(m[3].split())}".strip())
    return out


def cpu(vm):
    keep = ("vendor_id", "cpu family", "model\t", "model name", "stepping", "siblings", "cpu cores", "apicid", "fpu",
            "cpuid level", "wp", "flags", "bugs", "clflush size", "cache_alignment", "address sizes")
    lines = vm.sh("cat /proc/cpuinfo").split("\n\n")[0].splitlines()
    return [re.sub(r"\s*:\s*", ": ", line) for line in lines if line.startswith(keep)]


def resources(vm, what):
    # The kernel's own segments lie where it was built for, or anywhere.
    return [line for line in vm.sh(f"cat /proc/{what}").splitlines() if "Kernel" not in line]


def dmi(vm):
    # In a subshell: the prompt shows the directory. Files that are empty or not readable are left out.
    text = vm.sh("(cd /sys/class/dmi/id; grep -s . *_*)")
    return [line for line in sorted(text.splitlines()) if not re.match("product_uuid|bios_version|bios_release", line)]


def acpi(vm):
    """Each table's header, its length and that it sums to zero; what is in it is the table compiler's test."""
    out = []
    for name in sorted(vm.sh("(cd /sys/firmware/acpi/tables; ls -d [A-Z]*)").split()):
        table = base64.b64decode(vm.sh(f"base64 -w0 /sys/firmware/acpi/tables/{name}"))
        if name == "FACS":
            out.append(f"{name} length {len(table)}")
            continue
        assert int.from_bytes(table[4:8], "little") == len(table), name
        assert sum(table) & 0xff == 0, f"{name}: checksum"
        out.append(f"{name} revision {table[8]} oem {table[10:16].decode()!r} {table[16:24].decode()!r} "
                   f"length {len(table)}")
    return out


PARTS = {
    "pci": sysfs_pci,
    "interrupts": interrupts,
    "cpu": cpu,
    "ioports": lambda vm: resources(vm, "ioports"),
    "iomem": lambda vm: resources(vm, "iomem"),
    "dmi": dmi,
    "acpi": acpi,
}


def test_guest_visible_hardware(busybox, vms):
    vm = vms([*busybox.args(), *OPTIONS, "--disk", busybox.disk()]).boot()
    different = []
    for part, collect in PARTS.items():
        path = os.path.join(GOLDEN, part + ".txt")
        got = [line + "\n" for line in collect(vm)]
        assert got, f"{part}: the guest shows nothing"
        if os.environ.get("VIREO_GOLDEN") == "write":
            with open(path, "w") as f:
                f.writelines(got)
            continue
        with open(path) as f:
            want = f.readlines()
        different += difflib.unified_diff(want, got, f"golden/{part}.txt", "this guest")
    vm.child.sendline("poweroff")
    assert vm.wait() == 0
    if os.environ.get("VIREO_GOLDEN") == "write":
        pytest.skip("the golden files were written, nothing was compared")
    assert not different, "the guest-visible hardware changed:\n" + "".join(different)
