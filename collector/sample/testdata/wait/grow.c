// Makes memory resident in known functions: 100 MB in grow_much and 20 MB in grow_little.
// Arguments: "huge" for pages of 2 MB in grow_much, and "forever" to go on growing. It
// begins after 1.5 s, when the sampler knows the process.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
#define MB (1L << 20)

static volatile char sink;

static char *reserve(long bytes)
{
	char *p = mmap(NULL, bytes + 2 * MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		abort();
	return (char *)(((long)p + 2 * MB - 1) & ~(2 * MB - 1));
}

static void touch(char *p, long bytes)
{
	for (long i = 0; i < bytes; i += 4096)
		p[i] = 1;
}

NOINLINE void grow_much(int huge)
{
	char *p = reserve(100 * MB);
	madvise(p, 100 * MB, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	touch(p, 100 * MB);
	sink = 1;
}

NOINLINE void grow_little(void)
{
	char *p = reserve(20 * MB);
	madvise(p, 20 * MB, MADV_NOHUGEPAGE);
	touch(p, 20 * MB);
	sink = 2;
}

int main(int argc, char **argv)
{
	int huge = argc > 1 && !strcmp(argv[1], "huge"), forever = argc > 1 && !strcmp(argv[1], "forever");
	char *page = reserve(MB);
	for (int i = 0; i < 150; i++) {
		usleep(10000);
		madvise(page, MB, MADV_DONTNEED);
		touch(page, MB / 4);
	}
	do {
		grow_much(huge);
		grow_little();
	} while (forever);
	return 0;
}
