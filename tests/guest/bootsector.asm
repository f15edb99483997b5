; A boot sector that says "boot sector DL" on COM1 and "int 10h" by the BIOS, and ends by isa-debug-exit. nasm -f bin.
bits 16
org 0x7c00
	cli
	xor ax, ax
	mov ds, ax
	mov ss, ax
	mov sp, 0x7c00
	sti
	mov al, dl
	shr al, 4
	call digit
	mov [number], al
	mov al, dl
	call digit
	mov [number + 1], al
	mov si, text
	mov dx, 0x3f8
.next:	lodsb
	test al, al
	jz .bios
	out dx, al
	jmp .next
.bios:	lodsb
	test al, al
	jz .wait
	mov ah, 0x0e
	mov bx, 7
	int 0x10
	jmp .bios
	; Some ticks, in which the BIOS sends what it has, and which show that its timer runs.
.wait:	mov eax, [0x46c]
	add eax, 4
.tick:	hlt
	cmp eax, [0x46c]
	ja .tick
	mov dx, 0x501
	xor al, al
	out dx, al
	hlt

digit:	and al, 15
	add al, '0'
	cmp al, '9'
	jbe .end
	add al, 7
.end:	ret

text:	db "boot sector "
number:	db "00", 13, 10, 0, "int 10h", 13, 10, 0
times 510 - ($ - $$) db 0
	dw 0xaa55
