"""The control socket, and saving and restoring in the middle of work."""
import os
import time

from conftest import run_cli


def boot(busybox, vms, *more, cpus=2):
    return vms([*busybox.args(), "--cpus", str(cpus), "--disk", busybox.disk(), *more]).boot()


def test_stop_and_cont(busybox, vms):
    vm = boot(busybox, vms)
    q = vm.qmp()
    assert q.execute("query-status") == {"status": "running", "running": True, "singlestep": False}
    q.execute("stop")
    assert q.execute("query-status")["status"] == "paused"
    before = q.execute("x-vireo-stats")["cpu0.instructions"]
    time.sleep(1)
    assert q.execute("x-vireo-stats")["cpu0.instructions"] == before
    q.execute("cont")
    assert vm.sh("echo back") == "back"
    assert q.ask("no-such-command")["error"]["class"] == "CommandNotFound"
    q.file.write("{nonsense}\n")
    q.file.flush()
    assert "error" in q.next()
    q.execute("quit")
    assert vm.wait() == 0


def test_power_button(busybox, vms):
    vm = boot(busybox, vms)
    vm.qmp().execute("system_powerdown")
    assert vm.wait(90) == 0


def test_time_stands_still_while_paused(busybox, vms):
    vm = boot(busybox, vms)
    q = vm.qmp()
    before = float(vm.sh("cut -d' ' -f1 /proc/uptime"))
    q.execute("stop")
    time.sleep(5)
    q.execute("cont")
    assert float(vm.sh("cut -d' ' -f1 /proc/uptime")) - before < 4


def test_save_and_restore_in_a_write_storm(busybox, vms, tmp_path):
    vm = boot(busybox, vms, "--net", "user")
    vm.sh("dd if=/dev/urandom of=/tmp/src bs=1M count=8 2>/dev/null; md5sum < /tmp/src > /tmp/sum")
    vm.child.sendline(
        "i=0; while [ $i -lt 12 ]; do dd if=/tmp/src of=/root/out$((i % 3)) bs=64k conv=fsync 2>/dev/null; i=$((i+1)); done; "
        "sync; echo 3 > /proc/sys/vm/drop_caches; for f in /root/out?; do md5sum < $f | cmp - /tmp/sum || echo BA''D; done; echo STORM-DO''NE"
    )
    time.sleep(0.7)
    state = str(tmp_path / "state")
    r = run_cli("save", vm.name, state, timeout=120)
    assert r.returncode == 0, r.stderr
    assert vm.wait() == 0
    assert "STORM-DONE" not in vm.child.before, "saved too late to be in the middle"
    again = vms([state], command="restore")
    again.child.expect("STORM-DONE", timeout=120)
    assert "BAD" not in again.child.before
    again.boot()
    assert again.sh("nproc") == "2"
    again.child.sendline("poweroff")
    assert again.wait() == 0


def test_save_keeps_running_on_request(busybox, vms, tmp_path):
    vm = boot(busybox, vms, cpus=1)
    assert run_cli("save", "--keep", vm.name, str(tmp_path / "s"), timeout=120).returncode == 0
    assert vm.sh("echo on") == "on"


def test_damaged_states_are_refused(busybox, vms, tmp_path):
    vm = boot(busybox, vms, cpus=1)
    state = tmp_path / "state"
    assert run_cli("save", vm.name, str(state), timeout=120).returncode == 0
    data = state.read_bytes()
    for name, bad in [
        ("short", data[: len(data) // 2]),
        ("empty", b""),
        ("magic", b"X" + data[1:]),
        ("version", data[:8] + b"\x63" + data[9:]),
        ("tail", data + b"x"),
        ("end", data[:-40] + os.urandom(40)),
    ]:
        path = tmp_path / name
        path.write_bytes(bad)
        r = run_cli("restore", str(path), timeout=60)
        assert r.returncode == 1, name
        assert len(r.stderr.strip().splitlines()) == 1, r.stderr
        path.unlink()
