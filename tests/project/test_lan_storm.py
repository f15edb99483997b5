"""
Storms against a bridge and the servers on it: what they cost others. VIREO_STORM=10000000 is how many frames of each kind
(pytest -s -m slow tests/project/test_lan_storm.py prints what it has measured).
"""
import os
import re
import socket
import statistics
import subprocess
import threading
import time

import pytest

from conftest import VIREO
from lan_net import Net, Space, absent, discover, raw_socket

STORM = os.path.join(os.path.dirname(VIREO), "tests/lan/lan_storm")
COUNT = int(os.environ.get("VIREO_STORM", "200000"))
ALPHA = "52:54:00:77:00:01"


def status(pid, key):
    return int(re.search(rf"{key}:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1))


def cpu_seconds(pid):
    words = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


class Probe:
    """A machine that the network knows asks ten times a second; `waits` in ms, None for no answer in half a second."""

    def __init__(self, machine):
        self.waits, self.ended = [], False
        self.tx = raw_socket(machine)
        self.rx = machine.enter(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        machine.run("ip addr add 10.77.0.50/24 dev eth0")
        self.rx.bind(("", 68))
        self.rx.settimeout(0.5)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ended:
            start = time.perf_counter()
            self.tx.send(discover(ALPHA, 7))
            try:
                self.rx.recv(2000)
                self.waits.append((time.perf_counter() - start) * 1000)
            except TimeoutError:
                self.waits.append(None)
            time.sleep(0.1)

    def end(self):
        self.ended = True
        self.thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["discover", "one", "request", "solicit", "rs", "arp", "dns"])
def test_storm(tmp_path, kind, monkeypatch):
    why = absent()
    if why:
        pytest.skip(why)
    monkeypatch.setattr(Space, "seconds", 3600)
    n = Net(tmp_path)
    try:
        # The bridge's table of MACs is bounded by time only; what machines send is filtered before it by `vireo net`.
        n.host.run("ip link set br0 type bridge ageing_time 1000")
        n.serve(f"host={ALPHA},alpha,10.77.0.50,fd77::50")
        alpha, evil = n.machine(ALPHA), n.machine()
        before, used = status(n.pid, "VmRSS"), cpu_seconds(n.pid)
        probe = Probe(alpha)
        try:
            r = subprocess.run(evil.command([STORM, "eth0", kind, str(COUNT)]), capture_output=True, text=True, timeout=3000)
        finally:
            probe.end()
        frames, seconds = r.stdout.split()
        answered = [w for w in probe.waits if w is not None]
        s = n.ask("stats")
        print(f"\n{kind}: {frames} frames in {seconds} s; servers: {cpu_seconds(n.pid) - used:.1f} s of processor, "
              f"{before} -> {status(n.pid, 'VmHWM')} KiB; known machine: {len(answered)} of {len(probe.waits)} answered, median "
              f"{statistics.median(answered):.2f} ms; heard {s['frames']}, dropped {s['dropped']}, muted {s['muted']}")
        assert status(n.pid, "VmHWM") - before < 1024
        assert len(answered) > len(probe.waits) * 0.8
        assert s["leases4"]["bound"] + s["leases4"]["offered"] <= s["leases4"]["size"] + 1
    finally:
        n.close()
