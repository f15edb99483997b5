# Kernels, initramfs and disks.
# shellcheck shell=bash disable=SC2154,SC2034 # $work and others are the build's

# What the guest was made by: changes with the recipe.
recipe() {
	cd "$here" && find . -type f | LC_ALL=C sort | xargs cat | sha256sum | cut -c-16
}

# What every small guest loads: kernels from Debian have virtio and IDE as modules.
modules="virtio_pci virtio_mmio virtio_blk virtio_net virtio_console virtio_rng virtio_balloon crc32c_generic ext4 af_packet button evdev ata_piix sd_mod sr_mod"

take_kernel() { # take_kernel ROOT
	cp "$(find "$1/boot" -name 'vmlinuz-*' | sort -V | tail -n 1)" "$dir/vmlinuz.part"
	mv "$dir/vmlinuz.part" "$dir/vmlinuz"
}

# Copy modules and what they need from the unpacked kernel's ROOT to a tree, and index them.
copy_modules() { # copy_modules ROOT TREE MODULE...
	local root=$1 tree=$2 version lib module file
	shift 2
	version=$(find "$root/lib/modules" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -V | tail -n 1)
	lib=$root/lib/modules/$version
	depmod -b "$root" "$version"
	mkdir -p "$tree/lib/modules/$version"
	cp "$lib"/modules.{builtin,order} "$tree/lib/modules/$version/"
	for module; do
		modprobe -d "$root" -S "$version" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
	done | sort -u | while read -r file; do
		install -D -m 644 "$file" "$tree/lib/modules/$version/${file#"$lib"/}"
	done
	depmod -b "$tree" "$version"
}

# An initramfs that loads the modules and goes on with the disk: busybox and initramfs.init. Not compressed: it is small,
# and reading it is faster than unpacking it.
make_initrd() { # make_initrd ROOT
	local tree=$work/initrd
	rm -rf "$tree"
	mkdir -p "$tree"/{bin,etc,proc,sys,dev,mnt}
	cp "$1/bin/busybox" "$tree/bin/"
	# shellcheck disable=SC2086 # a list
	copy_modules "$1" "$tree" $modules
	echo "$modules" >"$tree/etc/modules"
	install -m 755 "$here/initramfs.init" "$tree/init"
	(cd "$tree" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$dir/initrd.img.part"
	mv "$dir/initrd.img.part" "$dir/initrd.img"
}

make_disk() { # make_disk TREE SIZE
	rm -f "$dir/disk.img.part"
	mke2fs -q -t ext4 -L root -E root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0 -d "$1" "$dir/disk.img.part" "$2"
	mv "$dir/disk.img.part" "$dir/disk.img"
}
