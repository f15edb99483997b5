; A boot sector that writes 24 bytes of each of the files 20h to 4Fh of fw_cfg to COM1, and ends by isa-debug-exit. nasm -f bin.
bits 16
org 0x7c00
	cli
	mov bx, 0x20
.file:	mov dx, 0x510
	mov ax, bx
	out dx, ax
	mov cx, 24
.byte:	mov dx, 0x511
	in al, dx
	mov dx, 0x3f8
	out dx, al
	loop .byte
	inc bx
	cmp bx, 0x50
	jb .file
	mov dx, 0x501
	xor al, al
	out dx, al
	hlt

	times 510 - ($ - $$) db 0
	dw 0xaa55
