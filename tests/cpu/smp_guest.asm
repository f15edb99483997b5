; What the processors of test_smp.c run: see there. A routine ends by halting with interrupts off, after it has set its
; word of DONE.
;
;   RDI, RSI   the memory under test, and where results go
;   RCX        how many times
;   RBX        the number of this processor, R9 how many there are
;   R8         the counter that all meet at (zero at first)
bits 64
org 0x10000

DONE	equ 0x8f00			; a quadword for each processor
ACKS	equ 0x8f40
STOP	equ 0x8f48
ERRORS	equ 0x8f50

; In the order of `enum routine`.
	dd store_buffering, message_passing, load_buffering, independent_reads, coherence
	dd spinlock, own_bits, count8, count16, count32, count64, count8b, count16b
	dd writer, reader2, reader4, reader8, reader16
	dd pte_counter, pte_toucher, patcher, patched, loop_stopper, endless_loop
	dd ping, pong, kicker, kicked, shooter, target
	dd ack_handler, ping_handler, shoot_handler

; R15 is how many arrivals there have been before.
%macro meet 0
	add r15, r9
	lock inc qword [r8]
%%wait:	pause
	cmp [r8], r15
	jb %%wait
%endmacro

finish:	mov qword [DONE + rbx * 8], 1
	cli
	hlt
	jmp finish

; --- litmus tests: X at RDI, Y a line behind it; R11 chooses the fence ---
;
; Instead of meeting before each round, all count up for themselves and store numbers that tell the round: any round of
; one may meet any round of the other.

%macro fence 0
	cmp r11, 1
	jne %%xchg
	mfence
	jmp %%none
%%xchg:	cmp r11, 2
	jne %%or
	xchg [rsp - 8], rax
	jmp %%none
%%or:	cmp r11, 3
	jne %%none
	lock or qword [rsp - 8], 0
%%none:
%endmacro

; Round EDX; its result goes to RSI + 4 * EDX. R12: this processor's variable, R13: the other's.
%macro rounds 0
	xor r15d, r15d
	mov edx, 1
	mov r12d, ebx
	and r12d, 1
	shl r12d, 6
	mov r13d, r12d
	xor r13d, 64
	meet
%endmacro
%macro rounds_end 1			; the label of the first line of a round
	mov [rsi + rdx * 4], eax
	inc edx
	cmp edx, ecx
	jbe %1
	jmp finish
%endmacro

; x = n; fence; read y | y = n; fence; read x
store_buffering:
	rounds
.round:	mov [rdi + r12], edx
	fence
	mov eax, [rdi + r13]
	rounds_end .round

; x = n; y = n | read y; read x. Errors at RSI.
message_passing:
	rounds
	test ebx, ebx
	jnz .read
.write:	mov [rdi], edx
	mov [rdi + 64], edx
	inc edx
	cmp edx, ecx
	jbe .write
	jmp finish
.read:	mov eax, [rdi + 64]
	mov edx, [rdi]
	cmp edx, eax
	jae .fine
	lock inc qword [rsi]
.fine:	cmp eax, ecx
	jb .read
	jmp finish

; read x; y = n | read y; x = n
load_buffering:
	rounds
.round:	mov eax, [rdi + r12]
	mov [rdi + r13], edx
	rounds_end .round

; x = 1 | y = 1 | read x; read y | read y; read x
independent_reads:			; here all meet before each round, which has 128 bytes of its own
	rounds
	lea rsi, [rsi + rbx * 4]
	mov r14d, ecx
.round:	meet
	cmp ebx, 2
	jae .read
	mov dword [rdi + r12], 1
	jmp .next
.read:	mov eax, [rdi + r12]
	mov edx, [rdi + r13]
	lea eax, [rax + rdx * 2]
	mov [rsi], eax
.next:	add rdi, 128
	add rsi, 16
	dec r14d
	jnz .round
	jmp finish

; One counts up in memory, the others never see it go down. Errors at RSI.
coherence:
	xor r15d, r15d
	meet
	test ebx, ebx
	jnz .read
.write:	mov [rdi], rcx
	neg qword [rdi + 64]		; something else in between
	inc rcx
	bt rcx, 17
	jnc .write
	jmp finish
.read:	xor edx, edx
.more:	mov rax, [rdi]
	cmp rax, rdx
	jae .fine
	lock inc qword [rsi]
.fine:	mov rdx, rax
	cmp rax, (1 << 17) - 1
	jb .more
	jmp finish

; --- counters ---

; A lock taken by XCHG guards the plain counter behind it.
spinlock:
	xor r15d, r15d
	meet
.more:	mov eax, 1
.try:	xchg [rdi], eax
	test eax, eax
	jz .got
	pause
	jmp .try
.got:	inc qword [rdi + 8]
	mov dword [rdi], 0
	dec rcx
	jnz .more
	jmp finish

; Each sets, clears and complements a bit of its own and finds it as it left it. Errors at RSI.
own_bits:
	xor r15d, r15d
	meet
.more:	lock bts qword [rdi], rbx
	jc .bad
	lock btr qword [rdi], rbx
	jnc .bad
	lock btc qword [rdi], rbx
	jc .bad
	mov eax, 1
	push rcx
	mov ecx, ebx
	shl eax, cl
	pop rcx
	not eax
	lock and [rdi], eax
	not eax
	lock or [rdi], eax
	lock btr qword [rdi], rbx
	jnc .bad
.next:	dec rcx
	jnz .more
	jmp finish
.bad:	lock inc qword [rsi]
	lock btr qword [rdi], rbx
	jmp .next

; Count by compare and exchange.
%macro count 3				; name, accumulator, its successor
%1:	xor r15d, r15d
	meet
.more:	mov %2, [rdi]
.try:	lea rdx, [rax + 1]
	lock cmpxchg [rdi], %3
	jnz .try
	dec rcx
	jnz .more
	jmp finish
%endmacro
	count count8, al, dl
	count count16, ax, dx
	count count32, eax, edx
	count count64, rax, rdx

; The halves are always the same: a torn one is an error at RSI.
count8b:
	xor r15d, r15d
	mov r12, rcx
	mov r13, rbx
	meet
.more:	mov eax, [rdi]
	mov edx, [rdi + 4]
.try:	lea ebx, [rax + 1]
	mov ecx, ebx
	lock cmpxchg8b [rdi]
	jz .done
	cmp eax, edx
	je .try
	lock inc qword [rsi]
	jmp .more
.done:	dec r12
	jnz .more
	mov rbx, r13
	jmp finish

count16b:
	xor r15d, r15d
	mov r12, rcx
	mov r13, rbx
	meet
.more:	xor eax, eax
	xor edx, edx
.try:	lea rbx, [rax + 1]
	mov rcx, rbx
	lock cmpxchg16b [rdi]
	jz .done
	cmp rax, rdx
	je .try
	lock inc qword [rsi]
	jmp .more
.done:	dec r12
	jnz .more
	mov rbx, r13
	jmp finish

; --- plain accesses are whole ---

; Zeros and ones by turns, by stores of R11 bytes; 16: by CMPXCHG16B.
writer:	xor r15d, r15d
	mov r12, rcx
	mov r13, rbx
	meet
	xor eax, eax
.more:	cmp r11, 2
	jne .not2
	mov [rdi], ax
.not2:	cmp r11, 4
	jne .not4
	mov [rdi], eax
.not4:	cmp r11, 8
	jne .not8
	mov [rdi], rax
.not8:	cmp r11, 16
	jne .next
	mov rdx, rax
	mov rbx, rax
	not rbx
	mov rcx, rbx
	lock cmpxchg16b [rdi]
.next:	not rax
	dec r12
	jnz .more
	mov rbx, r13
	jmp finish

%macro reader 2				; name, accumulator: errors at RSI
%1:	xor r15d, r15d
	meet
.more:	mov %2, [rdi]
	test %2, %2
	jz .fine
	not %2
	test %2, %2
	jz .fine
	lock inc qword [rsi]
.fine:	dec rcx
	jnz .more
	jmp finish
%endmacro
	reader reader2, ax
	reader reader4, eax
	reader reader8, rax

reader16:
	xor r15d, r15d
	mov r12, rcx
	mov r13, rbx
	meet
.more:	xor eax, eax
	xor edx, edx
	xor ebx, ebx
	xor ecx, ecx
	lock cmpxchg16b [rdi]		; reads, or writes the zeros that are there
	cmp rax, rdx
	je .fine
	lock inc qword [rsi]
.fine:	dec r12
	jnz .more
	mov rbx, r13
	jmp finish

; --- accessed and dirty bits: RDI is the entry, R11 an address in its page ---

pte_counter:
	mov rax, 1 << 52		; bits that the processor ignores
	xor r15d, r15d
	meet
.more:	lock add [rdi], rax
	dec rcx
	jnz .more
	mov qword [rsi + 8], 1
	jmp finish

pte_toucher:
	xor r15d, r15d
	meet
.more:	lock btr qword [rdi], 5
	lock btr qword [rdi], 6
	invlpg [r11]
	mov al, [r11]
	bt qword [rdi], 5
	jnc .bad
	mov [r11], al
	bt qword [rdi], 6
	jnc .bad
.next:	cmp qword [rsi + 8], 0
	je .more
	jmp finish
.bad:	lock inc qword [rsi]
	jmp .next

; --- code that another processor writes ---

; The number in the code is never older than the one that was published after it.
patcher:
	xor r15d, r15d
	lea rdi, [rel changing + 1]
	meet
	mov eax, 1
.more:	mov [rdi], eax
	mov [rsi + 64], eax
.sync:	mov edx, [rsi + 128]		; the reader is not more than 64 behind
	add edx, 64
	cmp edx, eax
	jae .go
	pause
	jmp .sync
.go:	inc eax
	dec rcx
	jnz .more
	jmp finish

patched:
	xor r15d, r15d
	meet
.more:	mov edx, [rsi + 64]
	call changing
	cmp eax, edx
	jae .fine
	lock inc qword [rsi]
.fine:	mov [rsi + 128], edx
	cmp edx, ecx
	jb .more
	jmp finish

	align 64
	times 3 nop
changing:
	mov eax, 0			; the operand lies in one quadword
	ret

; Ends the other's loop by a jump out of it.
loop_stopper:
	xor r15d, r15d
	meet
.wait:	dec rcx
	jnz .wait
	mov byte [rel endless_loop.way + 1], endless_loop.out - endless_loop.way - 2
	jmp finish

	align 4096
endless_loop:
	xor r15d, r15d
	meet
.top:	nop
.way:	jmp short .top
.out:	jmp finish
	align 4096

; --- interrupts: x2APIC; the handlers count at RDI + 128 * (this processor) ---

%macro apic_on 0
	mov r12, rcx
	mov r13, rdx
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
%macro ipi 2				; vector, destination
	push rcx
	mov ecx, 0x830
	mov eax, %1
	mov edx, %2
	wrmsr
	pop rcx
%endmacro
%macro eoi 0
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
%endmacro

; Sleep until the counter of this processor (at R10) is R14.
%macro sleep_until_counted 0
%%look:	cli
	cmp [r10], r14
	jae %%done
	sti
	hlt
	jmp %%look
%%done:	sti
%endmacro

ping:	apic_on
	mov r10, rdi
	xor r14d, r14d
	meet
.more:	inc r14
	ipi 0x41, 1
	sleep_until_counted
	dec rcx
	jnz .more
	jmp finish

pong:	apic_on
	lea r10, [rdi + 128]
	xor r14d, r14d
	meet
.more:	inc r14
	sleep_until_counted
	ipi 0x41, 0
	dec rcx
	jnz .more
	jmp finish

ping_handler:
	inc qword [r10]
	eoi
	iretq

; KVM's wake-up call: hypercall 5. The counter at RDI says how far the other has come.
kicker:	xor r15d, r15d
	meet
	mov r12, rcx
	xor r14d, r14d
.more:	inc r14
	mov [rdi], r14
	mov eax, 5
	mov rdx, rbx
	xor ebx, ebx
	mov ecx, 1
	vmcall
	mov rbx, rdx
.wait:	pause
	cmp [rdi + 64], r14
	jb .wait
	dec r12
	jnz .more
	jmp finish

kicked:	xor r15d, r15d
	meet
	xor r14d, r14d
.more:	inc r14
.look:	cmp [rdi], r14
	jae .awake
	hlt				; interrupts are off: only a kick ends it
	jmp .look
.awake:	mov [rdi + 64], r14
	dec rcx
	jnz .more
	jmp finish

; Moves the page at R11 (its entry at RDI) between the frames RSI and RSI + 4096, tells the other to forget it, and
; then spoils the old frame.
shooter:
	apic_on
	xor r14d, r14d
	meet
.more:	mov rax, rsi
	xor rax, 0x1000
	mov qword [rax], 1		; the new one is good
	or rax, 3
	mov [rdi], rax
	inc r14
	ipi 0x42, 1
.wait:	pause
	cmp [ACKS], r14
	jb .wait
	mov qword [rsi], 0xdead
	xor rsi, 0x1000
	dec rcx
	jnz .more
	mov qword [STOP], 1
	jmp finish

target:	apic_on
	sti
	meet
.more:	mov rax, [r11]
	cmp rax, 0xdead
	jne .fine
	lock inc qword [ERRORS]
.fine:	cmp qword [STOP], 0
	je .more
	jmp finish

shoot_handler:
	invlpg [r11]
	inc qword [ACKS]
	eoi
	iretq

ack_handler:
	eoi
	iretq
