"""The command line as people expect it of any program."""
import os
import pwd
import subprocess
import sys
import tempfile

import pytest

from conftest import VIREO

COMMANDS = ["run", "ps", "stop", "console", "pause", "resume", "reset", "save", "restore", "trace", "engines", "guest",
            "help"]


def test_version(vireo):
    r = vireo("--version")
    assert r.returncode == 0 and r.stdout.startswith("vireo 0.") and not r.stderr
    assert vireo("-V").stdout == r.stdout


def test_overview_names_every_command(vireo):
    r = vireo("--help")
    assert r.returncode == 0 and not r.stderr
    assert set(COMMANDS) <= {line.split()[0] for line in r.stdout.split("Commands:\n")[1].split("\n\n")[0].splitlines()}
    assert vireo("help").stdout == vireo("-h").stdout == r.stdout


def test_without_a_command_the_overview_is_an_error(vireo):
    r = vireo()
    assert r.returncode == 1 and not r.stdout and r.stderr == vireo("help").stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(vireo, command):
    r = vireo("help", command)
    assert r.returncode == 0 and r.stdout.startswith(f"Usage: vireo {command}") and not r.stderr
    assert vireo(command, "--help").stdout == vireo(command, "-h").stdout == r.stdout


def test_help_of_a_commands_commands(vireo):
    listed = vireo("help", "net").stdout.split("describes one):\n")[1].split("\n\n")[0]
    commands = [line.split()[0] for line in listed.splitlines()]
    assert {"create", "list", "delete"} <= set(commands)
    for c in commands:
        r = vireo("help", "net", c)
        assert r.returncode == 0 and r.stdout.startswith(f"Usage: vireo net {c}") and not r.stderr
        assert vireo("net", c, "--help").stdout == r.stdout


def test_help_among_other_options(vireo):
    assert vireo("run", "--memory", "2G", "--help").stdout == vireo("help", "run").stdout
    assert vireo("run", "--append", "--help").returncode == 1  # a value, not a request


@pytest.mark.parametrize("args,says", [
    (["rnu"], "no command 'rnu' (did you mean 'run'?)"),
    (["sav", "a", "b"], "no command 'sav' (did you mean 'save'?)"),
    (["zebra"], "no command 'zebra' (see 'vireo help')"),
    (["help", "stpo"], "no command 'stpo' (did you mean 'stop'?)"),
    (["help", "net", "craete"], "net: no command 'craete' (did you mean 'create'?)"),
    (["help", "net", "zebra"], "net: no command 'zebra' (see 'vireo help net')"),
    (["net", "zebra"], "net: no command 'zebra' (see 'vireo help net')"),
    (["net", "create", "--zebra"], "unknown option '--zebra' (see 'vireo help net create')"),
    (["help", "ps", "net"], "ps has no commands (see 'vireo help ps')"),
    (["--nonsense"], "unknown option '--nonsense' before the command (see 'vireo help')"),
    (["run", "--kernal=x"], "unknown option '--kernal=x' (did you mean '--kernel'?)"),
    (["run", "--mem", "2G"], "unknown option '--mem' (did you mean '--memory'?)"),
    (["run", "--zebra"], "unknown option '--zebra' (see 'vireo help run')"),
    (["run", "-z"], "unknown option '-z' (see 'vireo help run')"),
    (["run", "--stats=yes"], "option '--stats' takes no value"),
    (["run", "--memory"], "option '--memory' needs SIZE"),
    (["run", "surplus"], "surplus: no such file; make an image first, for example with: truncate -s 8G surplus"),
    (["ps", "surplus"], "unexpected argument 'surplus' (see 'vireo help ps')"),
    (["save", "one"], "usage: vireo save [OPTION]... NAME FILE"),
])
def test_slips(vireo, args, says):
    r = vireo(*args)
    assert (r.returncode, r.stdout, r.stderr) == (1, "", f"vireo: {says}\n")


def test_output_that_goes_nowhere_is_a_failure():
    with open("/dev/full", "w") as full:
        r = subprocess.run([VIREO, "help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert r.returncode == 1 and r.stderr == "vireo: standard output: No space left on device\n"


def test_guests_are_in_the_users_own_cache(vireo):
    """Without HOME they are in the home directory all the same: anybody may write to /tmp."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    r = subprocess.run([VIREO, "guest", "--print", "busybox"], env={}, capture_output=True, text=True)
    assert r.returncode == 0 and r.stdout == f"{home}/.cache/vireo/guests/busybox\n"


# A machine as far as the commands that end one see it, which goes on for a while after it has said goodbye.
LINGERING = """
import fcntl, json, os, socket, sys, time
os.makedirs(sys.argv[1], 0o700)
pid = open(sys.argv[1] + "/pid", "w")
fcntl.flock(pid, fcntl.LOCK_EX)
pid.write(str(os.getpid()))
pid.flush()
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1] + "/qmp.sock")
s.listen()
print("ready", flush=True)
c, _ = s.accept()
say = lambda o: c.sendall(json.dumps(o).encode() + b"\\n")
say({"QMP": {}})
what = ""
while what != "quit":
    what = json.loads(c.recv(4096))["execute"]
    say({"return": {"status": "completed"} if what == "query-migrate" else {}})
c.close()
s.close()
time.sleep(1.5)
"""


@pytest.mark.parametrize("args", [["save", "one", "FILE"], ["stop", "--force", "one"]], ids=["save", "stop"])
def test_who_ends_a_machine_waits_for_its_process(args, monkeypatch, tmp_path):
    with tempfile.TemporaryDirectory(prefix="vireo-run-") as run:
        monkeypatch.setenv("XDG_RUNTIME_DIR", run)
        os.mkdir(os.path.join(run, "vireo"), 0o700)
        machine = subprocess.Popen([sys.executable, "-c", LINGERING, os.path.join(run, "vireo", "one")], stdout=subprocess.PIPE, text=True)
        try:
            assert machine.stdout.readline() == "ready\n"
            r = subprocess.run([VIREO, *(str(tmp_path / "state") if a == "FILE" else a for a in args)], capture_output=True, text=True, timeout=30)
            assert (r.returncode, r.stderr) == (0, "")
            assert machine.poll() is not None
            assert subprocess.run([VIREO, "ps"], capture_output=True, text=True, timeout=30).stdout.splitlines()[1:] == []
        finally:
            machine.kill()
            machine.wait()
