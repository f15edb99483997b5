# As generic, and the hypervisor below it: `xen`. For tests.
# shellcheck shell=bash disable=SC2154,SC2034,SC1091 # $here and others are the build's
. "$here/generic.sh"

packages() {
	local images
	fetch_lists
	images=$(means "$kernel")
	fetch_only "$images" busybox-static xen-hypervisor-4.17-amd64
}

unpack_packages() {
	unpack "$work/root"
	take_kernel "$work/root"
	gzip -dc "$work"/root/boot/xen-*.gz >"$dir/xen.part"
	mv "$dir/xen.part" "$dir/xen"
}
