// Burns CPU time in small functions, for the CPU seconds of its argument. Prints
// two zeros and the CPU nanoseconds of the process.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile unsigned long sink;

static long cpu(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

NOINLINE unsigned long hash_item(unsigned long x)
{
	return (x ^ (x >> 7)) * 31;
}

NOINLINE unsigned long price_item(unsigned long x)
{
	return hash_item(x) + hash_item(x + 1);
}

NOINLINE unsigned long price_basket(unsigned long n)
{
	unsigned long sum = 0;
	for (unsigned long i = 0; i < n; i++)
		sum += price_item(i);
	return sum;
}

// Returns early and calls in its last place.
NOINLINE unsigned long checkout(unsigned long n)
{
	if (n % 16 == 0)
		return n;
	return price_basket(n % 64) + 1;
}

NOINLINE void shop(void)
{
	for (unsigned long i = 0; i < 20000; i++)
		sink += checkout(i);
}

int main(int argc, char **argv)
{
	double goal = argc > 1 ? atof(argv[1]) : 1;
	while (cpu() < goal * 1e9)
		shop();
	printf("0 0 %ld\n", cpu());
	return 0;
}
