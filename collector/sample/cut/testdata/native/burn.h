// What the programs here share: a function that burns CPU time for some
// microseconds, and a clock.
#include <time.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile unsigned long sink;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

NOINLINE static void burn(void)
{
	for (unsigned long i = 0; i < 20000; i++)
		sink = sink * 31 + i;
}
