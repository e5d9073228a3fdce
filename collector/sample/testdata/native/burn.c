// Burns CPU time in two functions, in a thread: seven parts of ten in
// burn_heavy, three in burn_light, measured by the thread's own CPU clock.
// Arguments: CPU seconds to burn, and the share of one core (default 1).
// Prints the CPU nanoseconds of both functions and of the process.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile unsigned long sink;
static long heavy, light;
static double goal = 1, share = 1;

static long cpu(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

NOINLINE void burn_heavy(long until)
{
	while (cpu(CLOCK_THREAD_CPUTIME_ID) < until)
		for (unsigned long i = 0; i < 20000; i++)
			sink = sink * 31 + i;
}

NOINLINE void burn_light(long until)
{
	while (cpu(CLOCK_THREAD_CPUTIME_ID) < until)
		for (unsigned long i = 0; i < 20000; i++)
			sink = sink ^ (i * 17);
}

NOINLINE void turn(long budget)
{
	long a = cpu(CLOCK_THREAD_CPUTIME_ID);
	burn_heavy(a + budget * 7 / 10);
	long b = cpu(CLOCK_THREAD_CPUTIME_ID);
	burn_light(b + budget * 3 / 10);
	long c = cpu(CLOCK_THREAD_CPUTIME_ID);
	heavy += b - a;
	light += c - b;
}

static void *worker(void *unused)
{
	const long period = 100000000; // ns
	struct timespec next;
	clock_gettime(CLOCK_MONOTONIC, &next);
	while (cpu(CLOCK_THREAD_CPUTIME_ID) < goal * 1e9) {
		if (share >= 1) {
			turn(10000000);
			continue;
		}
		turn((long)(share * period));
		next.tv_nsec += period;
		next.tv_sec += next.tv_nsec / 1000000000L;
		next.tv_nsec %= 1000000000L;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	return unused;
}

int main(int argc, char **argv)
{
	if (argc > 1)
		goal = atof(argv[1]);
	if (argc > 2)
		share = atof(argv[2]);
	pthread_t t;
	if (pthread_create(&t, NULL, worker, NULL))
		return 1;
	pthread_join(t, NULL);
	printf("%ld %ld %ld\n", heavy, light, cpu(CLOCK_PROCESS_CPUTIME_ID));
	return 0;
}
