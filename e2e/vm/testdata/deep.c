// A program without libc and without frame pointers that uses the CPU below 40 calls of
// one function.

static volatile unsigned long sum;

__attribute__((noinline)) void deep_leaf(void) {
	for (unsigned long i = 0; i < 100000; i++)
		sum += i;
}

__attribute__((noinline)) void deep_call(int depth) {
	if (depth > 1)
		deep_call(depth - 1);
	else
		deep_leaf();
	sum++; // no tail call
}

__attribute__((noinline)) void deep_main(void) {
	for (;;) {
		deep_call(40);
		sum++;
	}
}

// The process begins here; the unwind table says that there is no caller.
#if defined(__x86_64__)
__asm__(".globl _start\n.type _start,@function\n_start:\n.cfi_startproc\n.cfi_undefined rip\n"
	"\tcall deep_main\n\thlt\n.cfi_endproc\n.size _start,.-_start\n");
#else
__asm__(".globl _start\n.type _start,@function\n_start:\n.cfi_startproc\n.cfi_undefined x30\n"
	"\tbl deep_main\n\tbrk 0\n.cfi_endproc\n.size _start,.-_start\n");
#endif
