"""What `disks` of scripts/bench measures: the image tool beside QEMU's, on the same files, in turns."""
import os
import random
import shutil
import statistics
import subprocess
import time

DATA = 1 << 30  # bytes of the disk that is converted
VIRTUAL = 40 << 30  # of the one for single requests
SPREAD = 330_001 * 4096  # from one request to the next: all over the disk, each place but once in a run
FASTER, NO_SLOWER = 1.3, 1 / 1.05


def fill(path, size):
    """A disk as they are: a third nothing, a third text, a third that cannot be compressed."""
    numbers = random.Random(1)
    words = [numbers.randbytes(numbers.randrange(2, 9)).hex().encode() for _ in range(4096)]
    with open(path, "wb") as f:
        f.truncate(size)
        for at in range(0, size, 3 << 20):
            f.seek(at)
            f.write(numbers.randbytes(1 << 20))
            f.write(b" ".join(numbers.choices(words, k=110_000))[:1 << 20])


def seconds(command):
    begin = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin


class Disks:
    def __init__(self, vireo, work, runs):
        self.tools = {"ours": [vireo, "img"], "theirs": [shutil.which("qemu-img")]}
        self.work, self.runs = work, runs

    def file(self, name):
        return f"{self.work}/{name}"

    def tool(self, *args):
        subprocess.run([*self.tools["theirs"], *args], check=True, stdout=subprocess.DEVNULL)

    def compare(self, *args, out=None):
        """The median of how many times longer QEMU's takes than ours, and ours in seconds; each with the file `out` away."""
        ratios, own = [], []
        for n in range(self.runs):
            took = {}
            for who in sorted(self.tools, reverse=n % 2):
                if out and os.path.exists(out):
                    os.unlink(out)
                os.sync()  # neither waits for what the other has written
                took[who] = seconds([*self.tools[who], *args])
            ratios.append(took["theirs"] / took["ours"])
            own.append(took["ours"])
        return statistics.median(ratios), statistics.median(own)

    def converted(self):
        raw, qcow2, out = self.file("data.raw"), self.file("data.qcow2"), self.file("out")
        fill(raw, DATA)
        self.tool("convert", "-O", "qcow2", raw, qcow2)
        for what, target, args in (
                ("convert raw to qcow2", FASTER, ("-f", "raw", "-O", "qcow2", raw)),
                ("convert qcow2 to raw", FASTER, ("-f", "qcow2", "-O", "raw", qcow2)),
                ("convert raw to raw", FASTER, ("-f", "raw", "-O", "raw", raw)),
                ("convert qcow2 to qcow2", FASTER, ("-f", "qcow2", "-O", "qcow2", qcow2)),
                ("convert raw to compressed qcow2", NO_SLOWER, ("-c", "-f", "raw", "-O", "qcow2", raw))):
            yield what, target, *self.compare("convert", *args, out, out=out)
        yield "compare raw and qcow2", NO_SLOWER, *self.compare("compare", "-f", "raw", "-F", "qcow2", raw, qcow2)
        for name in raw, qcow2, out:
            os.unlink(name)

    def created(self):
        out = self.file("new")
        for mode in "off", "metadata", "falloc", "full":
            size = "40G" if mode in ("off", "metadata") else "1G"
            yield (f"create {size} qcow2, preallocation={mode}", NO_SLOWER,
                   *self.compare("create", "-f", "qcow2", "-o", f"preallocation={mode}", out, size, out=out))
        os.unlink(out)

    def requests(self):
        raw, qcow2 = self.file("disk.raw"), self.file("disk.qcow2")
        self.tool("create", "-f", "raw", raw, str(VIRTUAL))
        self.tool("create", "-f", "qcow2", "-o", "preallocation=metadata", qcow2, str(VIRTUAL))
        for form, path in ("raw", raw), ("qcow2", qcow2):
            # What is read is there: each place is written before.
            for what, write in ("write", ["-w"]), ("read", []):
                for depth, count in (1, 50_000), (32, 200_000):
                    target = FASTER if (form, what, depth) == ("qcow2", "read", 32) else NO_SLOWER
                    yield (f"4K random {what}, depth {depth}, {form}", target,
                           *self.compare("bench", "-f", form, "-c", str(count), "-d", str(depth), "-s", "4096", "-S", str(SPREAD),
                                         *write, path))
            for what, write in ("write", ["-w"]), ("read", []):
                yield (f"1 MiB sequential {what}, depth 4, {form}", NO_SLOWER,
                       *self.compare("bench", "-f", form, "-c", "2000", "-d", "4", "-s", "1M", *write, path))
            os.unlink(path)


def measure(vireo, work, runs):
    """(what, at least so many times as fast, the ratio, seconds) of each case."""
    disks = Disks(vireo, work, runs)
    for part in disks.converted, disks.created, disks.requests:
        yield from part()
