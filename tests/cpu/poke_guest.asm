; What the processors of test_poke.c run: see there. One changes an instruction of five bytes as Linux does (text_poke),
; the others execute it all the time.
;
;   RDI        how often it has been changed
;   RSI        errors, then how often INT3 was met, and how often the instruction itself was executed
;   RCX        how often to change it
;   R11        where it is; a RET follows
;   R10        what it is: 0 MOV EAX, 1 CALL of a function that does that, 2 JMP to one that does and comes back
;   RBX        the number of this processor, R9 how many there are
;   R8         the counter that all meet at (zero at first)
bits 64
org 0x10000

DONE	equ 0x8f00			; a quadword for each processor
ACKS	equ 0x8f40
STOP	equ 0x8f48

; In the order of `enum routine`.
	dd poker, poked, breakpoint, sync_handler

finish:	mov qword [DONE + rbx * 8], 1
	cli
	hlt
	jmp finish

%macro meet 0
	add r15, r9
	lock inc qword [r8]
%%wait:	pause
	cmp [r8], r15
	jb %%wait
%endmacro

%macro apic_on 0			; x2APIC
	mov r12, rcx
	mov ecx, 0x1b
	rdmsr
	or eax, 0xc00
	wrmsr
	mov ecx, 0x80f
	mov eax, 0x1ff
	xor edx, edx
	wrmsr
	mov rcx, r12
	xor r15d, r15d
%endmacro

; All others take an interrupt, which serializes. R13 is how many have been taken.
sync:	push rcx
	push rax
	lea r13, [r13 + r9 - 1]
	mov ecx, 0x830
	mov eax, 0xc0041
	xor edx, edx
	wrmsr
.wait:	pause
	cmp [ACKS], r13
	jb .wait
	pop rax
	pop rcx
	ret

; Number R14 of the code: its operand in EAX, its opcode in DL.
operand:
	movzx eax, r14b
	mov dl, 0xb8
	test r10, r10
	jnz .branch
	imul eax, eax, 0x01010101
	ret
.branch:
	mov dl, 0xe8
	shl eax, 4
	cmp r10, 1
	je .relative
	inc dl				; E9
	add eax, jumped - called
.relative:
	add eax, called - 5
	sub eax, r11d
	ret

; Until the count at RSI + %1 moves: the others have met what is there now.
%macro met 1
	mov r12, [rsi + %1]
%%wait:	pause
	cmp r12, [rsi + %1]
	je %%wait
%endmacro

poker:	apic_on
	xor r14d, r14d
	xor r13d, r13d
	meet
.more:	inc r14
	mov byte [r11], 0xcc
	call sync
	met 8
	call operand
	mov [r11 + 1], eax
	call sync
	call operand
	mov [r11], dl
	call sync
	mov [rdi], r14
	met 16
	dec rcx
	jnz .more
	mov qword [STOP], 1
	jmp finish

; Never a mixture of two, never older than what was said before, never newer than what is said after and the next.
poked:	apic_on
	sti
	meet
.more:	mov rdx, [rdi]
	xor eax, eax
	call r11
	mov r12, [rdi]
	cmp eax, -2
	je .broke
	lock inc qword [rsi + 16]
	movzx ebp, al
	imul ebp, ebp, 0x01010101
	cmp ebp, eax
	jne .bad
	sub al, dl
	sub r12, rdx
	inc r12
	cmp r12, 256
	jae .next
	movzx eax, al
	cmp rax, r12
	jbe .next
.bad:	lock inc qword [rsi]
	jmp .next
.broke:	lock inc qword [rsi + 8]
.next:	cmp qword [STOP], 0
	je .more
	jmp finish

; In place of the whole instruction.
breakpoint:
	mov eax, -2
	add qword [rsp], 4
	iretq

sync_handler:
	lock inc qword [ACKS]
	push rax
	push rcx
	push rdx
	mov ecx, 0x80b
	xor eax, eax
	xor edx, edx
	wrmsr
	pop rdx
	pop rcx
	pop rax
	iretq

; A function each for 256 numbers, in two forms.
	align 4096
called:
%assign n 0
%rep 256
	align 16
	mov eax, n * 0x01010101
	ret
%assign n n + 1
%endrep
	align 16
jumped:
%assign n 0
%rep 256
	align 16
	mov eax, n * 0x01010101
	nop
	ret				; to where the jump was called from
%assign n n + 1
%endrep
