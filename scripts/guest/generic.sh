# As busybox, with the kernel that Debian installs on real machines.
# shellcheck shell=bash disable=SC2154,SC2034,SC1091 # $here and others are the build's
. "$here/busybox.sh"
kernel=linux-image-amd64
