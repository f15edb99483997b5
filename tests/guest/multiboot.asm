; A multiboot kernel that looks at what firmware and boot loader have left, says so on COM1 and ends by isa-debug-exit.
; nasm -f bin. Lines: "cmdline ...", "module ...", "rsdp ok", "bar DEVFN ADDRESS" for each BAR 0, "end".
bits 32
org 0x100000
start:
	dd 0x1badb002, 0x10003, -(0x1badb002 + 0x10003)
	dd start, start, 0, bss_end, entry

entry:
	mov esp, stack_end
	mov ebp, ebx
	cmp eax, 0x2badb002
	jne finish
	mov esi, text_cmdline
	call print
	mov esi, [ebp + 16]
	call print
	call newline
	; modules: count, list
	mov ecx, [ebp + 20]
	mov edi, [ebp + 24]
.module:
	jecxz .modules_end
	mov esi, text_module
	call print
	mov esi, [edi + 8]
	call print
	mov esi, text_is
	call print
	mov esi, [edi]		; its contents end with a NUL
	call print
	call newline
	add edi, 16
	dec ecx
	jmp .module
.modules_end:
	; the RSDP: in the F segment, at a multiple of 16, with a sum of 0
	mov edi, 0xf0000
.rsdp:
	cmp dword [edi], 'RSD '
	jne .rsdp_next
	cmp dword [edi + 4], 'PTR '
	jne .rsdp_next
	xor eax, eax
	mov ecx, 20
.sum:
	add al, [edi + ecx - 1]
	loop .sum
	test al, al
	jnz .rsdp_next
	mov esi, text_rsdp
	call print
	jmp .pci
.rsdp_next:
	add edi, 16
	cmp edi, 0x100000
	jb .rsdp
.pci:
	xor edi, edi		; bus 0, devfn
.function:
	xor ebx, ebx
	call config
	cmp ax, 0xffff
	je .next
	mov ebx, 0x0c		; header type 0 only
	call config
	test eax, 0x7f0000
	jnz .next
	; is there a BAR 0? Its size is asked for, and its value put back.
	mov ebx, 0x10
	call config
	push eax
	mov eax, 0xffffffff
	out dx, eax
	in eax, dx
	mov ecx, eax
	pop eax
	out dx, eax
	jecxz .next
	push eax
	mov esi, text_bar
	call print
	mov eax, edi
	call hex
	mov al, ' '
	call put
	pop eax
	call hex
	call newline
.next:
	inc edi
	cmp edi, 256
	jb .function
	mov esi, text_end
	call print
finish:
	mov dx, 0x501
	xor eax, eax
	out dx, eax
	hlt
	jmp finish

; edi = devfn, ebx = register: eax = its value, dx = the data port
config:
	mov eax, edi
	shl eax, 8
	or eax, ebx
	or eax, 0x80000000
	mov dx, 0xcf8
	out dx, eax
	mov dx, 0xcfc
	in eax, dx
	ret

hex:
	push ecx
	push ebx
	mov ebx, eax
	mov ecx, 8
.digit:
	rol ebx, 4
	mov eax, ebx
	and eax, 15
	mov al, [digits + eax]
	call put
	loop .digit
	pop ebx
	pop ecx
	ret

newline:
	mov al, 10
put:
	push edx
	mov dx, 0x3f8
	out dx, al
	pop edx
	ret

print:
	lodsb
	test al, al
	jz .end
	call put
	jmp print
.end:
	ret

digits:		db '0123456789abcdef'
text_cmdline:	db 'cmdline ', 0
text_module:	db 'module ', 0
text_is:	db ' is ', 0
text_rsdp:	db 'rsdp ok', 10, 0
text_bar:	db 'bar ', 0
text_end:	db 'end', 10, 0
align 16
	times 4096 db 0
stack_end:
bss_end:
