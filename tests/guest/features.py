"""What a card offers its guest's kernel (`ethtool -k`), of ours and of stock QEMU's with the same back end, for test_networks.py.
Run as a program in name spaces of its own, it prints as JSON {BACK END: [ours, QEMU's]}, each {NAME: "on" or "off [fixed]"}.
"""
import json
import re
import sys

import programs
import wirelab

# --net, -netdev
BACK_ENDS = {
    "tap": ("tap,ifname=ours", "tap,id=n,ifname=theirs,script=no,downscript=no"),
    "user": ("user", "user,id=n"),
}
APPEND = "console=ttyS0 quiet rdinit=/net-init"


def features(lab, name, command):
    guest = wirelab.Guest(lab.dir, name, command)
    lab.guests[name] = guest
    guest.until("/ # ", 0, 120)
    found = re.findall(r"feature: (\S+): ((?:on|off)(?: \[fixed\])?)", guest.sh("/net/features eth0"))
    guest.kill()
    return dict(found)


def main(files):
    lab = wirelab.Lab(files, [], lambda d: programs.build(programs.FEATURES, f"{d}/features", "-static"))
    boot = lambda option: [f"{option}kernel", f"{files}/vmlinuz", f"{option}initrd", lab.initrd, f"{option}append", APPEND]
    try:
        r = {}
        for name, (ours, theirs) in BACK_ENDS.items():
            r[name] = [features(lab, f"{name}-ours", [wirelab.VIREO, "run", "--memory", "256M", *boot("--"), "--net", ours]),
                       features(lab, f"{name}-theirs", [
                           "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "256", "-display", "none", "-nodefaults",
                           "-serial", "stdio", *boot("-"), "-netdev", theirs, "-device", "virtio-net-pci,netdev=n"])]
        print(json.dumps(r))
    finally:
        lab.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
