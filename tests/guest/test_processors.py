"""Several processors, what they do while nothing is to do, and KVM's paravirtual interface as Linux takes it."""
import os
import time

from conftest import SLOW

# What CPUID offers of KVM's interface; without it a guest runs as on a machine of metal.
PARAVIRTUAL = ["kvmclock", "kvmclock-stable", "kvm-pv-eoi", "kvm-pv-unhalt", "kvm-pv-ipi", "kvm-poll-control"]
CLOCKSOURCE = "cat /sys/devices/system/clocksource/*/current*"
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(path):
    """The processor time of a process or thread, by its directory in /proc: other load on the host does not change it."""
    with open(f"{path}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def vcpu_threads(pid):
    """Name and directory of each vCPU's thread."""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/comm") as f:
            name = f.read().strip()
        if name.startswith("vcpu"):
            found[name] = f"/proc/{pid}/task/{tid}"
    return found


def test_each_processor_has_a_thread_that_sleeps_when_it_halts(busybox, vms):
    vm = vms([*busybox.args(), "--cpus", "2", "--disk", busybox.disk(), "--net", "user"]).boot()
    pid = vm.child.pid
    threads = vcpu_threads(pid)
    assert sorted(threads) == ["vcpu0", "vcpu1"]
    # Work on one processor is done by its thread, and by no other.
    for n, other in ((0, 1), (1, 0)):
        before = {name: cpu_seconds(path) for name, path in threads.items()}
        vm.sh(f"taskset {1 << n:x} sh -c 'i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done'")
        spent = {name: cpu_seconds(path) - before[name] for name, path in threads.items()}
        assert spent[f"vcpu{n}"] > 0.1 and spent[f"vcpu{n}"] > 3 * spent[f"vcpu{other}"], spent
    # Idle: under 3% of a core, all threads together.
    time.sleep(2)
    before, start = cpu_seconds(f"/proc/{pid}"), time.monotonic()
    time.sleep(6)
    share = (cpu_seconds(f"/proc/{pid}") - before) / (time.monotonic() - start)
    assert share < 0.03 * SLOW, f"an idle guest takes {100 * share:.1f}% of a core"


def test_linux_uses_the_paravirtual_interface(busybox, vms):
    # With an invariant TSC, Linux would go on from kvm-clock to the TSC itself.
    vm = vms([*busybox.args(), "--cpus", "2", "--cpu", "max,-invtsc"]).boot()
    log = vm.sh("dmesg")
    for line in ("Hypervisor detected: KVM", "kvm-clock: Using msrs 4b564d01 and 4b564d00",
                 "Booting paravirtualized kernel on KVM", "PV spinlocks enabled", "setup PV IPIs"):
        assert line in log, line
    assert vm.sh(CLOCKSOURCE) == "kvm-clock"
    # Processors that read it by turns never see it go back.
    times = [float(vm.sh(f"taskset {c} cat /proc/uptime").split()[0]) for c in 4 * [1, 2]]
    assert times == sorted(times)
    assert "timekeeping watchdog" not in vm.sh("dmesg")


def test_linux_does_without_the_paravirtual_interface(busybox, vms):
    vm = vms([*busybox.args(), "--cpus", "2", "--cpu", ",".join(["max", *("-" + f for f in PARAVIRTUAL)])]).boot()
    log = vm.sh("dmesg")
    for word in ("kvm-clock", "PV spinlocks enabled", "setup PV IPIs"):
        assert word not in log
    # Linux measures it once more for a second before it takes it for good.
    assert vm.sh(f"n=0; until {CLOCKSOURCE} | grep -qx tsc || [ $n = 50 ]; do sleep 0.2; n=$((n + 1)); done; {CLOCKSOURCE}") == "tsc"
    assert vm.sh("nproc") == "2"
    # The time comes from the TSC then, and sleeps end.
    vm.sh("sleep 0.2")
    assert vm.status == 0
