; A ROM of 64 KiB that tries the host bridge's PAM and SMRAM registers and SMM. nasm -f bin.
; It says a line for each on COM1, "NAME ok" or "NAME bad", and ends by isa-debug-exit.
; Code runs at the top of 4 GiB, from where it changes what is at F0000h.
bits 16
org 0

%macro config 2			; register of 00.0, value
	mov eax, 0x80000000 | (%1 & 0xfc)
	mov dx, 0xcf8
	out dx, eax
	mov dx, 0xcfc + (%1 & 3)
	mov al, %2
	out dx, al
%endmacro
%macro expect 2			; byte operand, value
	cmp byte %1, %2
	jne near %%bad
	jmp %%good
%%bad:	mov byte [fs:0x500], 1
%%good:
%endmacro
%macro verdict 1		; name
	mov si, %%name
	call say
	jmp %%after
%%name:	db %1, 0
%%after:
%endmacro

start:
	cli
	xor ax, ax
	mov fs, ax
	mov ss, ax
	mov sp, 0x7000
	mov ax, 0xf000
	mov es, ax
	mov byte [fs:0x500], 0

	expect [es:data], 0x11	; ROM
	mov byte [es:data], 0x22
	expect [es:data], 0x11
	verdict "rom"

	config 0x59, 0x20	; written, not read
	mov byte [es:data], 0x33
	expect [es:data], 0x11
	config 0x59, 0x10	; read, not written
	expect [es:data], 0x33
	mov byte [es:data], 0x44
	expect [es:data], 0x33
	config 0x59, 0x30
	mov byte [es:data], 0x55
	expect [es:data], 0x55
	config 0x59, 0
	expect [es:data], 0x11
	verdict "pam"

	; Protected mode: flat segments, so that this can be translated; a function of the ROM, and another one in RAM.
	config 0x59, 0x20
	mov ax, 0xf000
	mov es, ax
	mov byte [es:function], 0xb8	; mov eax, 2; ret
	mov dword [es:function + 1], 2
	mov byte [es:function + 5], 0xc3
	config 0x59, 0
	o32 lgdt [cs:gdtr]
	mov eax, cr0
	or al, 1
	mov cr0, eax
	jmp dword 8:0xffff0000 + flat
bits 32
flat:	mov ax, 16
	mov ds, ax
	mov ss, ax
	mov esp, 0x7000
	mov ebx, 20		; times that the memory changes
.change:
	mov ecx, 200		; calls in a row
	xor esi, esi
.call:	mov eax, 0xf0000 + function
	call eax
	add esi, eax
	loop .call
	cmp esi, 200
	je .one
	cmp esi, 400
	jne .bad
	test ebx, 1
	jz .bad			; two in RAM, which the odd ones have
	jmp .next
.one:	test ebx, 1
	jz .next
.bad:	mov byte [0x500], 1
.next:	mov eax, 0x80000058
	mov dx, 0xcf8
	out dx, eax
	mov al, 0x10
	test ebx, 1
	jz .ram			; the next one is odd
	mov al, 0
.ram:	mov dx, 0xcfd
	out dx, al
	dec ebx
	jnz .change
	mov eax, cr0
	and al, 0xfe
	jmp 24:.real
bits 16
.real:	mov cr0, eax
	jmp 0xf000:.here
.here:	xor ax, ax
	mov ss, ax
	mov ds, ax
	mov fs, ax
	config 0x59, 0
	verdict "code"

	; SMRAM: a byte of it outside of SMM and in it.
	mov ax, 0xa000
	mov es, ax
	mov byte [es:0], 0x66
	expect [es:0], 0xff
	config 0x72, 0x4a
	mov byte [es:0], 0x77
	expect [es:0], 0x77
	config 0x72, 0x0a
	expect [es:0], 0xff
	verdict "smram"

	; The handler at 38000h. The power management function: registers at 600h, APM and SMI on.
	push cs
	pop ds
	mov si, handler
	mov ax, 0x3000
	mov es, ax
	mov di, 0x8000
	mov cx, handler_end - handler
	rep movsb
	xor ax, ax
	mov ds, ax
%macro pm 2
	mov eax, 0x80000b00 | %1
	mov dx, 0xcf8
	out dx, eax
	mov dx, 0xcfc
	mov eax, %2
	out dx, eax
%endmacro
	pm 0x40, 0x601
	pm 0x80, 1
	pm 0x58, 0x02000000
	mov dx, 0x628
	mov eax, 1
	out dx, eax
	mov byte [fs:0x501], 0
	mov al, 0x5a
	out 0xb3, al
	mov al, 0x12
	out 0xb2, al
	expect [fs:0x501], 0x12	; what the port was told: the handler ran before this
	expect [fs:0x502], 0x77	; what it found in SMRAM
	in al, 0xb3
	mov [fs:0x503], al
	expect [fs:0x503], 0
	config 0x72, 0x4a
	mov ax, 0xa000
	mov es, ax
	expect [es:0], 0x88	; what it left there
	config 0x72, 0x0a
	verdict "smm"

	mov dx, 0x501
	xor al, al
	out dx, al
	hlt

; In SMM, with the segment registers of real mode.
handler:
	push ax
	push ds
	mov ax, 0xa000
	mov ds, ax
	mov al, [0]
	mov byte [0], 0x88
	mov ah, al
	xor bx, bx
	mov ds, bx
	mov [0x502], ah
	in al, 0xb2
	mov [0x501], al
	xor al, al
	out 0xb3, al
	pop ds
	pop ax
	rsm
handler_end:

; SI: the name, in CS. [fs:500h]: not 0 if it went wrong.
say:	mov dx, 0x3f8
.next:	mov al, [cs:si]
	inc si
	test al, al
	jz .end
	out dx, al
	jmp .next
.end:	mov si, .ok
	cmp byte [fs:0x500], 0
	je .put
	mov si, .bad
.put:	mov al, [cs:si]
	inc si
	test al, al
	jz .done
	out dx, al
	jmp .put
.done:	mov byte [fs:0x500], 0
	ret
.ok:	db " ok", 13, 10, 0
.bad:	db " bad", 13, 10, 0

align 8
gdt:	dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00009b0f0000ffff
gdtr:	dw $ - gdt - 1
	dd 0xffff0000 + gdt

times 0x8000 - ($ - $$) db 0xff
data:	db 0x11
times 0x8800 - ($ - $$) db 0xff
bits 32
function:
	mov eax, 1
	ret
bits 16
times 0xfff0 - ($ - $$) db 0xff
	jmp start
times 0x10000 - ($ - $$) db 0xff
