/* The first user process of a measured boot: says that it runs, and powers off. Static, without libc. */
static long sys(long n, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;

	__asm__ volatile("syscall" : "+a"(n) : "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return n;
}

void _start(void)
{
	static const char text[] = "bench: first process\n";

	sys(1, 1, (long)text, sizeof(text) - 1, 0);	/* write */
	sys(169, 0xfee1dead, 672274793, 0x4321fedc, 0); /* reboot: power off */
	for (;;)
		;
}
