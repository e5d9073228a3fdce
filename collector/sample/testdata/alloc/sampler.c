// An allocator that samples: of every thread's bytes each 512 KiB, from a random one on,
// report the allocation that they are in. With -shared it is a library.
#include <stdlib.h>

#include "probes.h"

#define INTERVAL (512 << 10)

// Before each allocation, as the marks of sampled ones.
struct head { uint64_t sampled, size; };

static __thread uint64_t left = 1 + INTERVAL / 2;

void *sampled_malloc(size_t size)
{
	struct head *h = malloc(sizeof(*h) + size);
	h->size = size;
	h->sampled = 0;
	if (size < left) {
		left -= size;
		return h + 1;
	}
	uint64_t beyond = size - left;
	h->sampled = 1 + beyond / INTERVAL;
	left = INTERVAL - beyond % INTERVAL;
	probe_alloc(h + 1, size, h->sampled * INTERVAL);
	return h + 1;
}

void sampled_free(void *p)
{
	struct head *h = (struct head *)p - 1;
	if (h->sampled)
		probe_free(p);
	free(h);
}
