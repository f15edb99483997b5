# Debian's installer as it is booted by the network: the directory `netboot`, and no guest. For tests.
# shellcheck shell=bash disable=SC2154 # $work and others are the build's
package=debian-installer-12-netboot-amd64

check_host() { check_sources; }

packages() {
	fetch_lists
	fetch_only "$package"
}

tree() {
	unpack "$work/root"
	rm -rf "$dir/netboot"
	mv "$work/root/usr/lib/debian-installer/images/12/amd64/text" "$dir/netboot"
}

make_guest() {
	step 90 "fetching packages" packages
	step 10 "unpacking" tree
}
