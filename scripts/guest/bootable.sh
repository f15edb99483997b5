# A disk that starts by itself, by BIOS and by UEFI: GRUB, kernel and initramfs on a FAT partition behind the system's.
# shellcheck shell=bash disable=SC2154 # $dir and others are the build's
fat_mib=64
grub_modules="part_msdos fat normal linux serial terminal configfile echo test boot minicmd ls cat reboot halt"

check_bootable() {
	need "grub-mkimage mformat mmd mcopy" "grub-common grub-pc-bin grub-efi-amd64-bin mtools"
	local platform
	for platform in i386-pc x86_64-efi; do
		[ -e "/usr/lib/grub/$platform/normal.mod" ] ||
			die "GRUB for $platform is missing: apt-get install grub-pc-bin grub-efi-amd64-bin"
	done
}

# Bytes as printf's escapes.
le32() {
	printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255))
}
partition() { # partition FLAGS TYPE FIRST SECTORS
	printf '\\x%02x\\xfe\\xff\\xff\\x%02x\\xfe\\xff\\xff%s%s' "$1" "$2" "$(le32 "$3")" "$(le32 "$4")"
}
put() { dd of="$1" bs="$2" seek="$3" conv=notrunc,sparse status=none; }

make_bootable() {
	local img=$dir/bootable.img.part first=2048 root fat at part=$dir/bootable.part
	say "making bootable.img"
	root=$(($(stat -c %s "$dir/disk.img") / 512))
	fat=$((fat_mib * 2048))
	at=$img@@$(((first + root) * 512))
	rm -rf "$img" "$part"
	mkdir "$part"
	truncate -s $(((first + root + fat) * 512)) "$img"
	cat >"$part/grub.cfg" <<-END
		serial --unit=0 --speed=115200
		terminal_input serial
		terminal_output serial
		set timeout=1
		menuentry "Debian" {
			linux /vmlinuz root=/dev/vda1 console=ttyS0 quiet
			initrd /initrd.img
		}
	END
	# shellcheck disable=SC2086 # a list
	grub-mkimage -O i386-pc -o "$part/core.img" -p "(,msdos2)/grub" biosdisk $grub_modules
	# shellcheck disable=SC2086 # a list
	grub-mkimage -O x86_64-efi -o "$part/bootx64.efi" -p /grub $grub_modules
	put "$img" 1M 1 <"$dir/disk.img"
	mformat -i "$at" -T "$fat" -h 64 -s 32 -H $((first + root)) -v BOOT ::
	mmd -i "$at" ::/grub ::/EFI ::/EFI/BOOT
	mcopy -i "$at" "$part/grub.cfg" ::/grub/
	mcopy -i "$at" "$part/bootx64.efi" ::/EFI/BOOT/BOOTX64.EFI
	mcopy -i "$at" "$dir/vmlinuz" "$dir/initrd.img" ::/
	# The core goes on from the sector behind its first one, as its list of blocks says.
	head -c 440 /usr/lib/grub/i386-pc/boot.img | put "$img" 440 0
	put "$img" 512 1 <"$part/core.img"
	{
		# shellcheck disable=SC2059 # escapes
		printf "$(partition 0 0x83 $first "$root")$(partition 0x80 0xef $((first + root)) $fat)"
		head -c 32 /dev/zero
		printf '\x55\xaa'
	} | dd of="$img" bs=1 seek=446 conv=notrunc status=none
	rm -rf "$part"
	mv "$img" "$dir/bootable.img"
}
