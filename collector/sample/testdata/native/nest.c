// Burns CPU time for some seconds below as many nested calls as the second
// argument says, in nest, bottom. Prints the CPU nanoseconds of bottom, 0 and those
// of the process.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile unsigned long sink;

static long cpu(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

NOINLINE long bottom(long until)
{
	long from = cpu(CLOCK_PROCESS_CPUTIME_ID);
	while (cpu(CLOCK_PROCESS_CPUTIME_ID) < until)
		for (unsigned long i = 0; i < 20000; i++)
			sink = sink * 31 + i;
	return cpu(CLOCK_PROCESS_CPUTIME_ID) - from;
}

NOINLINE long nest(int depth, long until)
{
	long spent = depth == 0 ? bottom(until) : nest(depth - 1, until);
	sink++;
	return spent;
}

int main(int argc, char **argv)
{
	long spent = nest(argc > 2 ? atoi(argv[2]) - 1 : 199, (long)(atof(argv[1]) * 1e9));
	printf("%ld 0 %ld\n", spent, cpu(CLOCK_PROCESS_CPUTIME_ID));
	return 0;
}
