"""The routing of PCI interrupts: many functions on four lines, by the I/O APIC and by the 8259s."""
import pytest

from conftest import Guest, guest_files


@pytest.mark.parametrize("append", ["pci=nomsi", pytest.param("pci=nomsi noapic", marks=pytest.mark.slow)])
def test_many_functions_share_four_lines(vms, tmp_path, append):
    guest = Guest(guest_files("generic"), str(tmp_path))
    disks = []
    for n in range(6):
        with open(tmp_path / f"d{n}", "wb") as f:
            f.truncate(8 << 20)
        disks += ["--disk", f"{tmp_path}/d{n},format=raw"]
    vm = vms([*guest.args(f"quiet {append}"), "--net", "user,model=e1000", "--net", "user", "--net", "user,model=e1000", *disks])
    vm.child.expect("shell in the initramfs")
    vm.boot()
    vm.sh("set -e; for d in a b c d e f; do dd if=/dev/vd$d of=/dev/null bs=1M count=4 iflag=direct 2>/dev/null; done; set +e")
    assert vm.status == 0
    for n in range(3):
        assert "obtained" in vm.sh(f"ip link set eth{n} up; udhcpc -i eth{n} -n -q 2>&1")
    lines = vm.sh("grep -E 'virtio|eth' /proc/interrupts").splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["5", "7", "10", "11"], lines
    assert all(("XT-PIC" in line) == ("noapic" in append) for line in lines), lines
    assert vm.sh("dmesg | grep -iE 'nobody cared|disabling irq'") == ""
