"""What a network does to its host and to what others have there, in a lab (lanlab.py): scenarios for test_lan_host.py."""
import json
import os
import re
import sys

from lanlab import Lab, sh
from lanscenes import gone, servers, shown


def jailed(lab):
    """What the process of the servers is and sees."""
    lab.vireo("net", "create", "lab", "--nat")
    pid, = servers(lab)
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)
    found = {"uid": status["Uid"].split(), "gid": status["Gid"].split(), "groups": status["Groups"].split(),
             "capabilities": status["CapPrm"], "root": os.listdir(f"/proc/{pid}/root/"),
             "leases": os.stat(f"/proc/{pid}/root/leases").st_uid,
             "mounts": open(f"/proc/{pid}/mountinfo").read().count("\n"),
             "own": os.stat(os.path.join(lab.dir, "run", "lab")).st_uid}
    lab.vireo("net", "delete", "lab")
    return {**found, "left": gone(lab)}


if __name__ == "__main__":
    lab = Lab()
    try:
        print(json.dumps(globals()[sys.argv[1]](lab, *sys.argv[2:])))
    finally:
        lab.end()
