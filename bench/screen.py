"""What `screen` of scripts/bench measures: a graphical guest that stands idle, and one that scrolls, with a VNC viewer."""
import os
import subprocess
import sys
import threading
import time

import compare

sys.path.insert(0, f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/tests/guest")
import rfb  # noqa: E402

SIZE = 1280, 800
SECONDS = 10
# A frame buffer console of that size, with a cursor that blinks.
GRAPHICS = "modprobe bochs && sleep 1 && printf '\\033[2J' >/dev/tty0 || echo NO''NE"
# Every character of the screen is another one with each line.
SCROLL = "od -v -tx1 /dev/urandom >/dev/tty0 &"


class Machine:
    """Debian's generic kernel, which has a driver for the screen, and its shell in the initramfs."""

    def __init__(self, vireo, guest, *options):
        command = [vireo, "run", "--engine", "jit", "--memory", "512M", "--kernel", f"{guest}/vmlinuz", "--initrd",
                   f"{guest}/initrd.img", "--append", "console=ttyS0 quiet", *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        self.until(b"/ # ")

    def until(self, text):
        seen = b""
        while text not in seen:
            got = os.read(self.process.stdout.fileno(), 65536)
            if not got:
                raise EOFError(f"the guest has ended: {seen[-200:]}")
            seen += got
        return seen

    def say(self, line):
        # The quotes tell its output from its echo.
        self.process.stdin.write(f"{line}\necho DO''NE\n".encode())
        self.process.stdin.flush()
        return self.until(b"DONE")

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Watcher(threading.Thread):
    """A viewer that asks for the next update as soon as it has one; counts them and their pixels."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.viewer = rfb.Viewer(path).enter()
        self.viewer.full()
        while (self.viewer.width, self.viewer.height) != SIZE:
            self.viewer.update()
        self.updates = self.pixels = 0

    def run(self):
        try:
            while True:
                self.pixels += self.viewer.update()
                self.updates += 1
        except (OSError, EOFError):
            pass  # the machine has been ended


def used(machines, seconds=SECONDS):
    """The share of a core that each of them takes."""
    before = [compare.processor_time(m) for m in machines]
    time.sleep(seconds)
    return [(compare.processor_time(m) - b) / seconds for m, b in zip(machines, before)]


def measure(vireo, work, by_processor):
    """Of an idle screen, the share of a core that it adds; whole screens and updates a second, and the share for them."""
    guest, socket = compare.guest(vireo, "generic"), f"{work}/vnc.sock"
    machines = []
    try:
        machines.append(Machine(vireo, guest, "--vnc", f"unix:{socket}"))
        machines.append(Machine(vireo, guest))
        if b"NONE" in machines[0].say(GRAPHICS):
            raise SystemExit(f"{guest} is one without a screen's driver: vireo guest --force generic")
        watcher = Watcher(socket)
        watcher.start()
        time.sleep(3)
        with_screen, without = used(machines)
        machines.pop().stop()
        machines[0].say(SCROLL)
        time.sleep(1)
        updates, pixels = watcher.updates, watcher.pixels
        busy, = used(machines)
        updates, pixels = watcher.updates - updates, watcher.pixels - pixels
    finally:
        for m in machines:
            m.stop()
    seconds = SECONDS * (busy if by_processor else 1)
    return with_screen, without, updates / seconds, pixels / (SIZE[0] * SIZE[1]) / seconds, busy
