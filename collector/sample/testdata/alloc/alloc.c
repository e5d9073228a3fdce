// Allocates in two functions, 7 to 3, frees a part, and waits to be told to go on:
// alloc MEGABYTES. It prints "ready", and then reads a line before each step, of which the
// first allocates 7/10 and 3/10 of the megabytes, the second frees what the larger
// function has allocated, and the third ends it. After each step it prints a line.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *sampled_malloc(size_t size);
void sampled_free(void *p);

static void **much, **little;
static size_t much_n, little_n;

#define MUCH_SIZE 700
#define LITTLE_SIZE 300

__attribute__((noinline)) void allocate_much(size_t i) { much[i] = sampled_malloc(MUCH_SIZE); __asm__ volatile("" : : : "memory"); }
__attribute__((noinline)) void allocate_little(size_t i) { little[i] = sampled_malloc(LITTLE_SIZE); __asm__ volatile("" : : : "memory"); }

__attribute__((noinline)) void turn(size_t i)
{
	allocate_much(i);
	allocate_little(i);
	__asm__ volatile("" : : : "memory");
}

__attribute__((noinline)) void release_much(void)
{
	for (size_t i = 0; i < much_n; i++)
		sampled_free(much[i]);
}

static int told(const char *done)
{
	char line[16];
	puts(done);
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) != NULL;
}

__attribute__((noinline)) void *worker(void *none)
{
	if (!told("ready"))
		return none;
	for (size_t i = 0; i < much_n; i++)
		turn(i);
	if (!told("allocated"))
		return none;
	release_much();
	told("freed");
	return none;
}

int main(int argc, char **argv)
{
	size_t bytes = (argc > 1 ? atoi(argv[1]) : 100) * (size_t)1000000;
	much_n = little_n = bytes / (MUCH_SIZE + LITTLE_SIZE);
	much = calloc(much_n, sizeof(void *));
	little = calloc(little_n, sizeof(void *));
	pthread_t t;
	if (pthread_create(&t, NULL, worker, NULL))
		return 1;
	pthread_join(t, NULL);
	return 0;
}
