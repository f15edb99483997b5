# As busybox, with Debian's kernel for 32-bit processors. For tests.
# shellcheck shell=bash disable=SC2154,SC2034,SC1091 # $here and others are the build's
. "$here/busybox.sh"
kernel=linux-image-686-pae
arch=i386
# The first release is enough.
releases=""
