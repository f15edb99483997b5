# The cloud kernel, busybox and nothing else: a shell in seconds.
# shellcheck shell=bash disable=SC2154 # $work and others are the build's
kernel=linux-image-cloud-amd64

check_host() { check_sources; }

packages() {
	local images
	fetch_lists
	images=$(means "$kernel")
	fetch_only "$images" busybox-static
}

unpack_packages() {
	unpack "$work/root"
	take_kernel "$work/root"
}

initrd() { make_initrd "$work/root"; }

disk() {
	local tree=$work/tree applet
	rm -rf "$tree"
	mkdir -p "$tree"/{bin,sbin,usr/bin,usr/sbin,etc,proc,sys,dev,tmp,root,run,var/log,mnt}
	chmod 1777 "$tree/tmp"
	cp "$work/root/bin/busybox" "$tree/bin/"
	for applet in $("$tree/bin/busybox" --list-full); do
		[ -e "$tree/$applet" ] || ln -s /bin/busybox "$tree/$applet"
	done
	# shellcheck disable=SC2086 # a list
	copy_modules "$work/root" "$tree" $modules
	cp -R "$here/busybox.root/." "$tree/"
	ln -s /run/resolv.conf "$tree/etc/resolv.conf"
	make_disk "$tree" 64M
}

make_guest() {
	step 60 "fetching packages" packages
	step 20 "unpacking" unpack_packages
	step 10 "packing the initramfs" initrd
	step 10 "making the disk" disk
}
