; Guests that make themselves slow, for test_hostile.c. None ends.
;
;   RDI        rounds done, then errors
;   RSI        a linear address that the test has prepared
;   R8, R9     more of them
bits 64
org 0x10000

; In the order of `enum guest`.
	dd rewriter, aliases, modes, remaps, spaces, device, wipes

bad:	inc qword [rdi + 8]
	hlt

; Each instruction changes the next one.
rewriter:
	xor r12d, r12d
.more:	inc r12d
%rep 64
	mov [rel $ + 7 + 3], r12d
	cmp r12d, strict dword 0
	jne bad
%endrep
	inc qword [rdi]
	jmp .more

; The page at R8 lies at 2048 addresses, from RSI on: lea rax, [rip]; mov ecx, NUMBER; ret
aliases:
	xor r12d, r12d
.more:	inc r12d
	mov [r8 + 8], r12d
	mov rbx, rsi
	mov r13d, 2048
.next:	call rbx
	lea rdx, [rbx + 7]
	cmp rax, rdx
	jne bad
	cmp ecx, r12d
	jne bad
	add rbx, 4096
	dec r13d
	jnz .next
	inc qword [rdi]
	jmp .more

; TS, AC, PGE, 32-bit code, all the time.
modes:	xor r12d, r12d
.more:	inc r12d
	mov rax, cr0
	xor eax, 8
	mov cr0, rax
	test eax, 8
	jnz .closed
	movd xmm0, r12d
	movd edx, xmm0
	cmp edx, r12d
	jne bad
.closed:
	pushfq
	xor dword [rsp], 0x40000
	popfq
	mov rax, cr4
	xor eax, 0x80
	mov cr4, rax
	mov ebx, r12d
	mov ecx, edi
	jmp far [rel .there]
bits 32
.narrow:
	inc ebx
	inc ebx
	jmp 0x10:.back
bits 64
.back:	mov edi, ecx
	sub ebx, r12d
	cmp ebx, 2
	jne bad
	inc qword [rdi]
	jmp .more
.there:	dd .narrow
	dw 0x20

; Each of 4096 pages from RSI on, whose entries are at R8, is one of two frames, from R9 on: mov eax, 0 or 1; ret. Which page
; is called, and which frame it is afterwards, is random. So each round takes a new epoch, and when its number is used
; again some pages have not been looked at since. What each page is: RDI + 4096 and on.
remaps:	mov r13d, 1
.more:	imul r13d, r13d, 1103515245
	add r13d, 12345
	mov ebx, r13d
	shr ebx, 16
	and ebx, 4095
	mov ebp, ebx
	shl ebp, 12
	add rbp, rsi
	call rbp
	cmp al, [rdi + rbx + 4096]
	jne bad
	mov r12d, r13d
	shr r12d, 31
	mov [rdi + rbx + 4096], r12b
	mov eax, r12d
	shl eax, 12
	add rax, r9
	or eax, 3
	mov [r8 + rbx * 8], rax
	invlpg [rbp]
	inc qword [rdi]
	jmp .more

; The page at RSI is another one in each of two address spaces, R8 and R9.
spaces:	xor r12d, r12d
.more:	xor r12d, 1
	mov rax, r8
	test r12d, r12d
	cmovnz rax, r9
	mov cr3, rax
	call rsi
	cmp eax, r12d
	jne bad
	inc qword [rdi]
	jmp .more

; Code that is no memory: inc qword [rdi]; ret
device:	call rsi
	jmp device

; A string that goes over the code behind it, and over its own.
wipes:	xor r12d, r12d
.more:	inc r12d
	push rdi
	mov eax, 0x90
	lea rdi, [rel .here]
	mov ecx, 64
	rep stosb
.here:	times 64 nop
	lea rdi, [rel .store]
	mov rsi, rdi
	mov ecx, 2
.store:	rep movsb
	pop rdi
	inc qword [rdi]
	jmp .more
