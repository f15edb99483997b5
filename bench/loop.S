/*
 * A multiboot guest: says that it runs through the debug console, counts a register-only integer loop down as
 * often as LOOPS says (ten instructions each time), and ends through isa-debug-exit.
 */
	.code32
	.section .text
	.globl _start
	.balign 4
	.long 0x1badb002, 0, -0x1badb002
_start:
	mov	$'!', %al
	out	%al, $0xe9
	mov	$LOOPS, %ecx
	xor	%eax, %eax
	mov	$0x9e3779b9, %ebx
	xor	%edx, %edx
	test	%ecx, %ecx
	jz	2f
1:	add	%ebx, %eax
	mov	%eax, %esi
	shl	$7, %esi
	xor	%esi, %eax
	mov	%eax, %edi
	shr	$9, %edi
	sub	%edi, %edx
	lea	1(%edx, %eax, 2), %edx
	dec	%ecx
	jnz	1b
2:	mov	$0, %al
	mov	$0x501, %dx
	out	%al, %dx
	hlt
