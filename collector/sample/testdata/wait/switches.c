// Leaves the CPU a number of times a second: 50 threads sleep in turn at four places.
// Arguments: switches per second, and seconds to run.
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define NOINLINE __attribute__((noinline, noclone))
#define THREADS 50

static volatile int sink;
static long period; // ns between two switches of a thread
static time_t end;

static void pause_until(struct timespec *next)
{
	next->tv_nsec += period;
	next->tv_sec += next->tv_nsec / 1000000000L;
	next->tv_nsec %= 1000000000L;
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL);
}

NOINLINE void sleep_a(struct timespec *t) { pause_until(t); sink = 1; }
NOINLINE void sleep_b(struct timespec *t) { pause_until(t); sink = 2; }
NOINLINE void sleep_c(struct timespec *t) { pause_until(t); sink = 3; }
NOINLINE void sleep_d(struct timespec *t) { pause_until(t); sink = 4; }

static void *worker(void *number)
{
	struct timespec next;
	clock_gettime(CLOCK_MONOTONIC, &next);
	next.tv_nsec += (long)number * (period / THREADS) % 1000000000L;
	while (next.tv_sec < end) {
		sleep_a(&next);
		sleep_b(&next);
		sleep_c(&next);
		sleep_d(&next);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	struct timespec now;
	if (argc != 3)
		return 1;
	period = 1000000000L / atol(argv[1]) * THREADS;
	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec + atol(argv[2]);
	for (long i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, worker, (void *)i);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
