# What `make bench` runs its programs in: Debian's own ones and the files that they need, on a disk that is only read.
# shellcheck shell=bash disable=SC2154 # $work and others are the build's
packages=(linux-image-cloud-amd64 busybox-static zstd xz-utils openssl sqlite3 python3-minimal libpython3-stdlib gcc libc6-dev
	nodejs fio)

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
	rm -rf "$root.part"/var/lib/apt/lists/* "$root.part"/var/cache/apt/* "$root.part"/usr/share/{doc,man,locale}
	mkdir -p "$root.part/bench"
	certificate rsa rsa:2048
	certificate curve ec -pkeyopt ec_paramgen_curve:P-384
	rm -rf --one-file-system "$root"
	mv "$root.part" "$root"
}

# What openssl signs with: a certificate and its key in one file.
certificate() { # certificate NAME KEY-OPTION...
	local name=$1
	shift
	chroot "$root.part" openssl req -x509 -nodes -subj "/CN=$name" -newkey "$@" -keyout /tmp/key -out "/etc/ssl/bench-$name.pem"
	cat "$root.part/tmp/key" >>"$root.part/etc/ssl/bench-$name.pem"
	rm "$root.part/tmp/key"
}

kernel() { take_kernel "$work/root"; }

initrd() { make_initrd "$work/root"; }

disk() { make_disk "$work/root" 2G; }

# The same programs are run without a guest, too.
tree() {
	rm -rf --one-file-system "$dir/root"
	mv "$work/root" "$dir/root"
}

make_guest() {
	step 35 "fetching packages" fetch
	step 50 "installing" system
	step 1 "taking the kernel" kernel
	step 2 "packing the initramfs" initrd
	step 11 "making the disk" disk
	step 1 "keeping its files" tree
}
