# Debian with systemd: a login prompt, a network by DHCP, apt.
# shellcheck shell=bash disable=SC2154 # $work and others are the build's
packages=(linux-image-cloud-amd64 busybox-static systemd-sysv udev dbus kmod iproute2 iputils-ping dhcpcd ca-certificates
	curl openssh-client less nano procps netbase)
# What only costs time in a virtual machine without a screen that may be off for weeks.
unneeded=(getty@tty1.service e2scrub_reap.service e2scrub_all.timer apt-daily.timer apt-daily-upgrade.timer
	dpkg-db-backup.timer)

check_host() {
	need mmdebstrap mmdebstrap
	[ "$(id -u)" = 0 ] ||
		die "root is needed, or a user name space: apt-get install uidmap, and a range for $(id -un) in /etc/subuid and /etc/subgid"
	check_sources
}

fetch() {
	fetch_lists
	fetch_system "${packages[@]}"
}

system() {
	local root=$work/root list
	printf -v list '%s,' "${packages[@]}"
	install_system "$root.part" "${list%,}"
	chroot "$root.part" passwd -d root
	chroot "$root.part" systemctl disable "${unneeded[@]}"
	cp -R "$here/debian.root/." "$root.part/"
	tr -d - </proc/sys/kernel/random/uuid >"$root.part/etc/machine-id"
	# To be filled by DHCP.
	rm -f "$root.part/etc/resolv.conf"
	touch "$root.part/etc/resolv.conf"
	rm -rf --one-file-system "$root"
	mv "$root.part" "$root"
}

kernel() { take_kernel "$work/root"; }

initrd() { make_initrd "$work/root"; }

disk() { make_disk "$work/root" 4G; }

make_guest() {
	step 35 "fetching packages" fetch
	step 50 "installing" system
	step 1 "taking the kernel" kernel
	step 2 "packing the initramfs" initrd
	step 12 "making the disk" disk
}
