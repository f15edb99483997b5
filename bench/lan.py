"""What `lan` of scripts/bench measures: making and removing a network, in a name space of its own."""
import os
import shutil
import statistics
import subprocess
import time

MODELS = "nat", "isolated", "routed"


def missing():
    for program, package in ("nft", "nftables"), ("ip", "iproute2"):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            return f"{package} is not installed"
    return None if os.getuid() == 0 else "networks need root"


def measure(vireo, work, runs):
    """(model, seconds to create and to delete) for each: medians of runs in turns."""
    # Whoever holds this name space open outlives none of its networks.
    space = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"], stdout=subprocess.PIPE)
    env = dict(os.environ, VIREO_NET_DIR=f"{work}/lan")
    inside = ["nsenter", f"--net=/proc/{space.pid}/ns/net", vireo, "net"]
    times = {model: ([], []) for model in MODELS}
    try:
        space.stdout.readline()
        for _ in range(runs):
            for model, both in times.items():
                for command, figures in zip((["create", "bench", f"--{model}"], ["delete", "bench"]), both):
                    begin = time.monotonic()
                    subprocess.run([*inside, *command], env=env, check=True, stdout=subprocess.DEVNULL)
                    figures.append(time.monotonic() - begin)
    finally:
        space.kill()
        space.wait()
        space.stdout.close()
    for model, both in times.items():
        yield model, *map(statistics.median, both)
