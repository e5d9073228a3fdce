// Burns CPU time in code that it writes into unnamed memory, as a JIT compiler
// does, for the CPU seconds of its argument: call_back there calls turn, which
// is in the file. Prints two zeros and the CPU nanoseconds of the process.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define COPIES 64
#define ROOM 256 // bytes for a copy

static volatile unsigned long sink;

extern const char __start_copied[], __stop_copied[]; // by the linker

static long cpu(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

// No addresses are in its code, so that it runs anywhere.
__attribute__((noinline, noclone, section("copied")))
unsigned long call_back(unsigned long (*f)(unsigned long), unsigned long n)
{
	unsigned long sum = 0;
	for (unsigned long i = 0; i < n; i++) {
		for (unsigned long k = 0; k < 100; k++)
			sum = sum * 31 + (k ^ i);
		sum += f(sum);
	}
	return sum;
}

__attribute__((noinline, noclone)) unsigned long turn(unsigned long x)
{
	for (unsigned long i = 0; i < 100; i++)
		x = x * 17 + i;
	return x;
}

int main(int argc, char **argv)
{
	double goal = argc > 1 ? atof(argv[1]) : 1;
	// What is mapped grows, as that of a compiler does.
	size_t size = 64 << 20, page = 4096;
	char *code = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (code == MAP_FAILED)
		return 1;
	for (size_t at = 0; cpu() < goal * 1e9; at = (at + 16 * page) % size) {
		char *here = code + at;
		if (mprotect(here, 4 * page, PROT_READ | PROT_WRITE | PROT_EXEC))
			return 1;
		for (int i = 0; i < COPIES; i++)
			memcpy(here + i * ROOM, __start_copied, __stop_copied - __start_copied);
		__builtin___clear_cache(here, here + COPIES * ROOM);
		unsigned long (*copy)(unsigned long (*)(unsigned long), unsigned long) = (void *)(here + ROOM);
		long until = cpu() + 20000000;
		while (cpu() < until)
			sink += copy(turn, 1000);
	}
	printf("0 0 %ld\n", cpu());
	return 0;
}
