"""The same programs in the same guest on several engines, in turns, and natively.

Each engine's guest is started once and then waits; a program's name on its serial line makes a program ready, another line
lets it begin, and a mark says that it has ended. Time is taken outside. What programs have computed is compared.
"""
import contextlib
import json
import os
import re
import select
import shutil
import socket
import statistics
import subprocess
import time

import data

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# QEMU's `max` without what Vireo has not, and Vireo's model of the same family and stepping with the rest of `max`. Both
# guests see the same flags; that they do is looked at.
CPUS = {
    "vireo": "qemu64,-x2apic," + ",".join(f"+{f}" for f in (
        "ssse3 sse4.1 sse4.2 popcnt xsave avx avx2 bmi1 bmi2 f16c fma abm movbe aes pclmulqdq rdrand fsgsbase smep erms adx smap "
        "clflushopt clwb umip pku xsaveopt xgetbv1 pdpe1gb rdtscp arat").split()),
    "tcg": "max," + ",".join(f"-{f}" for f in (
        "la57 3dnow 3dnowext mmxext monitor mpx svm npt vgif sse4a vaes acpi ss cr8legacy").split()),
}
# Words of Linux that stand for no instruction: the paravirtual clock, and how processors are numbered.
NOT_OF_THE_CPU = {"tsc_known_freq", "cmp_legacy"}
MEMORY = 2048
PATIENCE = 900

VECTORS = ("vector", "avx2", "x87")
RUNTIMES = ("gcc", "python3", "node")
TWO_CPUS = ("lock",)
# Of the first engine's time to TCG's, and of small programs to that without a guest: a program's row, `pipe` and `fork` by
# name, geometric means, a boot.
TARGETS = {
    "default": {"row": 0.9, "pipe": 0.3, "fork": 0.45, "mean": 0.33, "vectors": 0.15, "runtimes": 0.45, "native": 2.0,
                "boot": 0.35},
    "off": {"row": 1.0, "mean": 0.7, "vectors": 0.25, "boot": 0.6},
}
TWO = 1.8  # at least: what two CPUs do of two programs to what one does
INTERPRETED = 0.02  # at most, of a program's instructions
ENGINES = ("jit", "interp", "tcg", "native")
MITIGATIONS = {"default": "", "off": " mitigations=off"}
APPEND = "console=ttyS0 quiet rdinit=/bench-init"


class Failed(Exception):
    """A program or its machine has not come to its end."""


def wall_time(process):
    return time.monotonic()


def processor_time(process):
    """Seconds that a process, its threads and what it started took of the host's processors."""
    ticks, pids = 0, [process.pid]
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/task/{pid}/children") as children:
                # Its own, and of children that have ended.
                ticks += sum(int(field) for field in stat.read().rsplit(")", 1)[1].split()[11:15])
                pids += [int(child) for child in children.read().split()]
        except FileNotFoundError:
            pass  # it has ended, and its parent is going to know
    return ticks / os.sysconf("SC_CLK_TCK")


class Child:
    """A process that says marks."""

    def __init__(self, command, clock=wall_time, **kw):
        self.command, self.clock = command, clock
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
        self.text = b""

    def until(self, pattern, deadline):
        """The match of a mark."""
        while True:
            m = re.search(pattern, self.text)
            if m:
                self.text = self.text[m.end():]
                return m
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise Failed(f"not done after {PATIENCE} s")
            got = os.read(self.process.stdout.fileno(), 65536)
            if not got:
                raise Failed("ended early" + self.last_words())
            self.text += got

    def last_words(self):
        lines = self.text.decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    def timed(self, at_mark):
        """Seconds between the marks of a program, and what it computed."""
        deadline = time.monotonic() + PATIENCE
        times = {}
        while True:
            m = self.until(rb"bench:(begin|end|sum|done)(?:\r?\n|:(\w+):)", deadline)
            if m.group(1) == b"sum":
                return times["end"] - times["begin"], m.group(2).decode()
            if m.group(1) == b"done":
                raise Failed(f"exit status {m.group(2).decode()}")
            times[m.group(1).decode()] = self.clock(self.process)
            at_mark()
            if m.group(1) == b"begin":
                self.say("go")

    def say(self, line):
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # what it had not been told before it ended
            self.process.stdin.close()


class Machine:
    """An engine with a guest that waits for names of programs."""

    environment = None

    def __init__(self, command, clock=wall_time):
        self.command, self.clock, self.child, self.flags = command, clock, None, None

    def start(self):
        self.child = Child(self.command, self.clock, env=self.environment)
        deadline = time.monotonic() + PATIENCE
        self.flags = set(self.child.until(rb"bench:flags:(.*?):", deadline).group(1).decode().split()) - NOT_OF_THE_CPU
        self.child.until(rb"bench:ready:", deadline)

    def measure(self, name, divisor, at_mark=lambda: None):
        if not self.child:
            self.start()
        try:
            self.child.say(f"{name} {divisor}")
            figures = self.child.timed(at_mark)
            self.child.until(rb"bench:done:", time.monotonic() + PATIENCE)
            return figures
        except (Failed, OSError) as e:
            self.stop()  # the next program gets a new one
            raise Failed(e) from e

    def stop(self):
        if self.child:
            self.child.kill()
            self.child = None


class Counting(Machine):
    """A guest on the translator that counts what it executes; so it is slower, and not for times."""

    def __init__(self, command, directory):
        super().__init__([*command, "--set", "jit.count=sums", "--name", "counting"])
        self.environment = dict(os.environ, XDG_RUNTIME_DIR=directory)

    def counters(self):
        """Instructions, those that were interpreted and all."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(f"{self.environment['XDG_RUNTIME_DIR']}/vireo/counting/qmp.sock")
            with s.makefile("rw") as f:
                for command in "qmp_capabilities", "x-vireo-stats":
                    f.write(json.dumps({"execute": command}) + "\n")
                    f.flush()
                while True:
                    counts = json.loads(f.readline()).get("return")
                    if counts:
                        interpreted = sum(counts[f"jit.{tier}"] for tier in ("handled", "alone", "cold"))
                        return interpreted, interpreted + counts["jit.translated"]

    def share(self, name, divisor):
        """The part of a program's instructions, the kernel's for it among them, that was interpreted."""
        counts = []
        self.measure(name, divisor, lambda: counts.append(self.counters()))
        (interpreted, all_), (interpreted_then, all_then) = counts
        return (interpreted_then - interpreted) / (all_then - all_)


class Native:
    """The same program files on this host, on as many processors as the guest has."""

    def __init__(self, directory, root, cpus, clock):
        self.directory, self.root, self.cpus, self.clock = directory, root, cpus, clock
        # The flags of the host's processor are not the guest's.
        self.flags = None

    def start(self):
        pass

    def measure(self, name, divisor):
        command = [f"{self.directory}/bench/run", name, str(divisor)]
        if os.path.exists(f"{self.directory}/bench/programs/{name}"):
            command = self.inside(command)
        allowed = sorted(os.sched_getaffinity(0))[-self.cpus:]
        child = Child(command, self.clock, preexec_fn=lambda: os.sched_setaffinity(0, allowed))
        try:
            return child.timed(lambda: None)
        except OSError as e:
            raise Failed(e) from e
        finally:
            child.kill()

    def inside(self, command):
        """A command in the tree that the guest's disk was made of, in name spaces of its own."""
        user = [] if os.getuid() == 0 else ["--map-root-user"]
        script = ('for dir in proc dev; do mount --rbind /$dir "$0/$dir"; done; mount -t tmpfs tmp "$0/tmp"; '
                  'mount --bind "$1" "$0/bench"; root=$0; shift 2; exec chroot "$root" /bench/run "$@"')
        return ["unshare", "--mount", *user, "sh", "-ec", script, self.root, f"{self.directory}/bench", *command]

    def stop(self):
        pass


def beyond_ram(pid):
    """MiB of a machine's resident memory that are not its guest's RAM, the largest mapping. Code that was translated is
    mapped twice and counts once."""
    with open(f"/proc/{pid}/smaps") as f:
        maps = re.findall(r"^[0-9a-f]+-[0-9a-f]+ .*\n(?:[A-Z].*\n)+", f.read(), re.M)
    sizes = []
    for text in maps:
        kb = {name: int(n) for name, n in re.findall(r"^(\w+): +(\d+) kB$", text, re.M)}
        sizes.append((kb["Size"], kb["Pss" if "/memfd:" in text else "Rss"]))
    return (sum(resident for _, resident in sizes) - max(sizes)[1]) / 1024


def model(engine, options):
    """What an engine is told to be."""
    return "max" if options.own_cpus else CPUS["tcg" if engine == "tcg" else "vireo"]


# Those of scripts/guest, by name.
GUESTS = "bench", "busybox", "generic", "debian"


def guest(vireo, name):
    """The directory of a guest, which is built when it is not there. That of the bench is beside those of `vireo guest`."""
    there = subprocess.run([vireo, "guest", "--print", "busybox"], check=True, capture_output=True, text=True).stdout.strip()
    there = os.path.join(os.path.dirname(there), name)
    if not os.path.exists(f"{there}/ready"):
        os.makedirs(there, exist_ok=True)
        if subprocess.run([f"{TOP}/scripts/guest/build", name, there]).returncode:
            raise SystemExit(1)  # it has said why
    return there


def build(directory, root):
    """What becomes /bench in the guest; the names of small programs and of Debian's, which need a tree of Debian."""
    bench = f"{directory}/bench"
    os.makedirs(bench, exist_ok=True)
    micro = f"{bench}/micro"
    sources = [f"{TOP}/bench/micro/{f}" for f in sorted(os.listdir(f"{TOP}/bench/micro")) if f.endswith(".c")]
    subprocess.run(["gcc", "-O2", "-march=x86-64", "-mtune=generic", "-fno-math-errno", "-static", "-pthread", *sources, "-o",
                    micro], check=True)
    names = subprocess.run([micro, "--list"], check=True, capture_output=True, text=True).stdout.split()
    shutil.copytree(f"{TOP}/bench/guest", bench, dirs_exist_ok=True)
    if not os.path.exists(root):
        return names, []
    os.makedirs(f"{bench}/data", exist_ok=True)
    for name, content in ("text", data.text(8_000_000)), ("large.c", data.c_source(40)):
        with open(f"{bench}/data/{name}", "wb") as f:
            f.write(content)
    return names, sorted(os.listdir(f"{bench}/programs"))


def initrd(base, directory, out):
    """The guest's initramfs with bench/ and an init of its own."""
    subprocess.run(["cp", f"{TOP}/bench/guest/init", f"{directory}/bench-init"], check=True)
    names = subprocess.run(["find", "bench", "bench-init"], cwd=directory, check=True, capture_output=True).stdout
    more = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], input=names, cwd=directory, check=True,
                          stdout=subprocess.PIPE).stdout
    with open(base, "rb") as f:
        image = f.read()
    with open(out, "wb") as f:
        f.write(image + bytes(-len(image) % 4) + more)


class Comparison:
    """Rows of a table: one program each."""

    def __init__(self, vireo, directory, options):
        self.vireo, self.directory, self.options = os.path.abspath(vireo), f"{directory}/programs", options
        self.qemu = shutil.which("qemu-system-x86_64")
        self.engines = [e for e in options.engines if e != "tcg" or self.qemu]
        self.counted = "jit" in options.engines and options.count
        self.guest = guest(self.vireo, options.guest)
        os.mkdir(self.directory)
        self.small, others = build(self.directory, f"{self.guest}/root")
        self.programs = self.small + others
        self.missed, self.targets = 0, None
        self.initrd = f"{self.directory}/initrd.img"
        initrd(f"{self.guest}/initrd.img", self.directory, self.initrd)

    def command(self, engine, append, cpus):
        """How an engine runs the guest: kernel, memory, disk, command line and processor are the same for all."""
        kernel, disk = f"{self.guest}/vmlinuz", f"{self.guest}/disk.img"
        cpu = model(engine, self.options)
        if engine == "tcg":
            return [self.qemu, "-accel", "tcg", "-cpu", cpu, "-smp", str(cpus), "-m", str(MEMORY), "-display", "none",
                    "-nodefaults", "-serial", "stdio", "-no-reboot", "-kernel", kernel, "-initrd", self.initrd, "-append",
                    append, "-drive", f"file={disk},if=virtio,format=raw,readonly=on"]
        return [self.vireo, "run", "--engine", engine, "--cpu", cpu, "--cpus", str(cpus), "--memory", f"{MEMORY}M", "--kernel",
                kernel, "--initrd", self.initrd, "--append", append, "--disk", f"{disk},readonly=on"]

    def machines(self, append, cpus):
        made, clock = {}, processor_time if self.options.processor_time else wall_time
        for engine in self.engines:
            if engine == "native":
                made[engine] = Native(self.directory, f"{self.guest}/root", cpus, clock)
            else:
                made[engine] = Machine(self.command(engine, append, cpus), clock)
        return made

    def row(self, name, machines):
        """Seconds by engine, medians of runs in turns, and what was wrong."""
        times, sums, wrong = {e: [] for e in machines}, {}, []
        for _ in range(self.options.runs):
            for engine, machine in machines.items():
                try:
                    seconds, result = machine.measure(name, self.options.divisor)
                    times[engine].append(seconds)
                    sums.setdefault(result, []).append(engine)
                except Failed as e:
                    wrong.append(f"{engine}: {e}")
        if len(sums) > 1:
            wrong.append("different results: " + ", ".join(f"{'/'.join(sorted(set(e)))} {s}" for s, e in sums.items()))
        return {e: statistics.median(t) for e, t in times.items() if t}, wrong

    def share(self, name, counting, wrong):
        if self.counted:
            try:
                return counting.share(name, self.options.divisor)
            except Failed as e:
                wrong.append(f"counting: {e}")
        return None

    # --- the table ---

    def print(self, line):
        print(line, flush=True)

    def heading(self, mode):
        engines = self.engines
        words = [f"{e:>9}" for e in engines] + [f"{engines[0] + '/' + e:>12}" for e in engines[1:]]
        words += [f"{'interpreted':>13}"] if self.counted else []
        self.print(f"{'mitigations: ' + mode:<22}" + "".join(words))

    def line(self, name, times, wrong, share=None):
        first, *others = self.engines
        words = [f"{times[e]:>8.2f}s" if e in times else f"{'-':>9}" for e in (first, *others)]
        ratios = {e: times[first] / times[e] for e in others if times.get(first) and times.get(e)}
        words += [f"{ratios[e]:>12.2f}" if e in ratios else f"{'-':>12}" for e in others]
        verdict = wrong[:]
        target = self.targets.get(name, self.targets["row"])
        if ratios.get("tcg", 0) > target:
            verdict.append(f"MISSED: at most {target} of TCG")
        if share is not None:
            words.append(f"{share:>13.2%}")
            if share > INTERPRETED:
                verdict.append(f"MISSED: at most {INTERPRETED:.0%} interpreted")
        self.missed += len(verdict)
        self.print(f"{name:<22}" + "".join(words) + "".join(f"  {v}" for v in verdict))
        return ratios

    def mean(self, what, ratios, target, to="TCG"):
        if ratios and target:
            mean = statistics.geometric_mean(ratios)
            missed = mean > target
            self.missed += missed
            self.print(f"{what:<22} geometric mean of {len(ratios)} ratios to {to}: {mean:.3f} (at most {target})"
                       f"{'  MISSED' if missed else ''}")

    def means(self, ratios):
        """Of ratios by program and engine, those that a table promises."""
        def those(engine, names):
            return [r[engine] for n, r in ratios.items() if n in names and r.get(engine)]

        self.mean("all", those("tcg", ratios), self.targets["mean"])
        self.mean("vectors and x87", those("tcg", VECTORS), self.targets["vectors"])
        self.mean(", ".join(RUNTIMES), those("tcg", RUNTIMES), self.targets.get("runtimes"))
        self.mean("small programs", those("native", self.small), self.targets.get("native"), "native")

    def start(self, machines):
        """Start them; those that cannot be are left out. They should see the same processor, or cannot be compared."""
        for engine, machine in list(machines.items()):
            try:
                machine.start()
            except Failed as e:
                self.miss(f"{engine}: {e}")
                del machines[engine]
        seen = {e: m.flags for e, m in machines.items() if m.flags}
        for engine, flags in seen.items():
            other = set.union(*seen.values()) - flags
            if other and not self.options.own_cpus:
                self.miss(f"{engine} lacks flags of the other processors: {' '.join(sorted(other))}")

    def miss(self, why):
        self.missed += 1
        self.print(why)

    def tables(self, names):
        """How many targets were missed or results wrong."""
        if "tcg" not in self.engines and "tcg" in self.options.engines:
            self.print("QEMU is not installed: no comparison with its TCG")
        cpus = "each its own max" if self.options.own_cpus else "max of QEMU 7.2 as far as both have it, with its family"
        times = "of the host's processors" if self.options.processor_time else "that passed"
        self.print(f"guest {self.options.guest}, {MEMORY} MiB, CPU: {cpus}; runs: {self.options.runs}; "
                   f"seconds {times}; load: {os.getloadavg()[0]:.1f}")
        for mode in self.options.mitigations:
            self.table(names, mode)
        return self.missed

    def table(self, names, mode):
        append = APPEND + MITIGATIONS[mode]
        self.targets = TARGETS[mode]
        ratios = {}
        self.heading(mode)
        for cpus in (1, 2):
            chosen = [n for n in names if (n in TWO_CPUS) == (cpus == 2)]
            if not chosen:
                continue
            machines, counting = self.machines(append, cpus), Counting(self.command("jit", append, cpus), self.directory)
            try:
                self.start(machines)
                for name in chosen:
                    times, wrong = self.row(name, machines)
                    ratios[name] = self.line(name, times, wrong, self.share(name, counting, wrong))
            finally:
                for machine in [*machines.values(), counting]:
                    machine.stop()
        self.means(ratios)
