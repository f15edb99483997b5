/*
 * void co_switch(void **save, void *load): push what a function must keep, remember the stack pointer in *save, and
 * go on where `load` was remembered. The floating-point control words are the thread's: no coroutine changes them.
 */
#if defined(__x86_64__)
	.text
	.globl	co_switch
	.hidden	co_switch
	.type	co_switch, @function
co_switch:
	.cfi_startproc
	pushq	%rbp
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, (%rdi)
	movq	%rsi, %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	ret
	.cfi_endproc
	.size	co_switch, .-co_switch
#elif defined(__aarch64__)
	.text
	.globl	co_switch
	.hidden	co_switch
	.type	co_switch, %function
co_switch:
	.cfi_startproc
	stp	x29, x30, [sp, #-160]!
	stp	x19, x20, [sp, #16]
	stp	x21, x22, [sp, #32]
	stp	x23, x24, [sp, #48]
	stp	x25, x26, [sp, #64]
	stp	x27, x28, [sp, #80]
	stp	d8, d9, [sp, #96]
	stp	d10, d11, [sp, #112]
	stp	d12, d13, [sp, #128]
	stp	d14, d15, [sp, #144]
	mov	x9, sp
	str	x9, [x0]
	mov	sp, x1
	ldp	x19, x20, [sp, #16]
	ldp	x21, x22, [sp, #32]
	ldp	x23, x24, [sp, #48]
	ldp	x25, x26, [sp, #64]
	ldp	x27, x28, [sp, #80]
	ldp	d8, d9, [sp, #96]
	ldp	d10, d11, [sp, #112]
	ldp	d12, d13, [sp, #128]
	ldp	d14, d15, [sp, #144]
	ldp	x29, x30, [sp], #160
	ret
	.cfi_endproc
	.size	co_switch, .-co_switch
#endif
	.section .note.GNU-stack, "", %progbits
