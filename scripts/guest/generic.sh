# As busybox, with the kernel that Debian installs on real machines.
# shellcheck shell=bash disable=SC2154,SC2034,SC1091 # $here and others are the build's
. "$here/busybox.sh"
kernel=linux-image-amd64
# Devices that only real machines have.
modules="$modules atkbd psmouse i6300esb pvpanic-mmio e1000 bochs"
