; What the processors of test_guest_clocks.c run: each reads a clock with a lock held and compares it with what the last
; reader of any processor has left there. A time that is less than that is an error.
;
;   RDI   the lock, the last time at + 8, errors at + 16, how often a reader found another's time at + 24, the number of
;         the last reader at + 32
;   RSI   this processor's page of kvmclock (struct pvclock_vcpu_time_info)
;   RCX   how many times, then a HLT
;   RBX   the number of this processor
bits 64
org 0x10000

	dd tsc, kvmclock

%macro take 0
%%try:	mov eax, 1
	xchg [rdi], eax
	test eax, eax
	jz %%got
	pause
	jmp %%try
%%got:
%endmacro

%macro compare 0
	cmp rax, [rdi + 8]
	jae %%fine
	inc qword [rdi + 16]
%%fine:	mov [rdi + 8], rax
	cmp [rdi + 32], rbx
	je %%mine
	inc qword [rdi + 24]
	mov [rdi + 32], rbx
%%mine:	mov dword [rdi], 0
%endmacro

tsc:	take
	rdtsc
	shl rdx, 32
	or rax, rdx
	compare
	dec rcx
	jnz tsc
	hlt

; ns = system_time + ((tsc - tsc_timestamp) << shift) * multiplier / 2^32, if the version is even and stays.
kvmclock:
	take
.again:	mov r8d, [rsi]
	test r8d, 1
	jnz .again
	rdtsc
	shl rdx, 32
	or rax, rdx
	sub rax, [rsi + 8]
	mov r9, rcx
	mov cl, [rsi + 28]
	shl rax, cl
	mov rcx, r9
	mov edx, [rsi + 24]
	mul rdx
	shrd rax, rdx, 32
	add rax, [rsi + 16]
	cmp r8d, [rsi]
	jne .again
	compare
	dec rcx
	jnz kvmclock
	hlt
