// Waits in known functions, each round once: for a time, for a pipe, for a lock, for a
// disk, and for a page that must be read. Arguments: seconds to run, and a file to read
// from the disk. Prints for each function the nanoseconds that it took by the clock less
// those of its CPU time.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int request[2], answer[2], disk;
static long disk_bytes;
static char *block, *mapped;
static volatile char sink;

static long now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void pause_for(long ns)
{
	struct timespec t = {.tv_nsec = ns};
	nanosleep(&t, NULL);
}

// The other thread holds the lock for a while, and then writes to the pipe.
static void *other(void *unused)
{
	char byte;
	while (read(request[0], &byte, 1) == 1) {
		if (byte == 'l') {
			pthread_mutex_lock(&lock);
			if (write(answer[1], "x", 1) != 1)
				abort();
			pause_for(8000000);
			pthread_mutex_unlock(&lock);
		} else {
			pause_for(7000000);
			if (write(answer[1], "x", 1) != 1)
				abort();
		}
	}
	return unused;
}

static void ask(char what)
{
	if (write(request[1], &what, 1) != 1)
		abort();
}

NOINLINE void wait_long(void)
{
	pause_for(14000000);
	sink = 1;
}

NOINLINE void wait_short(void)
{
	pause_for(6000000);
	sink = 2;
}

NOINLINE void wait_pipe(void)
{
	char byte;
	ask('p');
	if (read(answer[0], &byte, 1) != 1)
		abort();
	sink = byte;
}

NOINLINE void wait_lock(void)
{
	pthread_mutex_lock(&lock);
	pthread_mutex_unlock(&lock);
	sink = 3;
}

NOINLINE void wait_disk(void)
{
	long at = random() % (disk_bytes >> 20) << 20;
	if (pread(disk, block, 1 << 20, at) < 0)
		abort();
	sink = block[0];
}

NOINLINE void wait_page(void)
{
	long at = random() % (disk_bytes >> 20) << 20;
	madvise(mapped + at, 1 << 20, MADV_DONTNEED);
	posix_fadvise(disk, at, 1 << 20, POSIX_FADV_DONTNEED);
	for (int i = 0; i < 1 << 20; i += 65536)
		sink = mapped[at + i];
}

static void (*const functions[])(void) = {wait_long, wait_short, wait_pipe, wait_lock, wait_disk, wait_page};
#define FUNCTIONS (int)(sizeof(functions) / sizeof(functions[0]))

int main(int argc, char **argv)
{
	long spent[FUNCTIONS] = {0};
	double seconds = argc > 1 ? atof(argv[1]) : 1;
	disk = open(argv[2], O_RDONLY | O_DIRECT);
	struct stat st;
	if (disk < 0 || fstat(disk, &st) || posix_memalign((void **)&block, 4096, 1 << 20) || pipe(request) || pipe(answer))
		return 1;
	disk_bytes = st.st_size;
	int cached = open(argv[2], O_RDONLY);
	mapped = mmap(NULL, disk_bytes, PROT_READ, MAP_SHARED, cached, 0);
	madvise(mapped, disk_bytes, MADV_RANDOM);
	pthread_t thread;
	pthread_create(&thread, NULL, other, NULL);
	for (int i = 0; i < 150; i++) // until the sampler knows the process
		pause_for(10000000);
	long begin = now(CLOCK_MONOTONIC);
	while (now(CLOCK_MONOTONIC) - begin < seconds * 1e9) {
		for (int i = 0; i < FUNCTIONS; i++) {
			if (functions[i] == wait_lock) {
				char byte;
				ask('l');
				if (read(answer[0], &byte, 1) != 1)
					abort();
			}
			long a = now(CLOCK_MONOTONIC), c = now(CLOCK_THREAD_CPUTIME_ID);
			functions[i]();
			spent[i] += now(CLOCK_MONOTONIC) - a - (now(CLOCK_THREAD_CPUTIME_ID) - c);
		}
	}
	for (int i = 0; i < FUNCTIONS; i++)
		printf("%ld ", spent[i]);
	printf("\n");
	return 0;
}
