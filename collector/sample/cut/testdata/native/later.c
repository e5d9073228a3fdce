// Opens a library after half its seconds, as many as the first argument says,
// and then burns CPU time in a function that the library calls. The second
// argument is the library. Until then it burns in early.
#include "burn.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static int one(void *unused)
{
	(void)unused;
	burn();
	return 1;
}

NOINLINE int early(double end)
{
	int n = 0;
	while (now() < end) {
		burn();
		n++;
	}
	return n;
}

NOINLINE int late(double end, void (*each)(int (*)(void *), void *))
{
	int n = 0;
	while (now() < end) {
		each(one, 0);
		n++;
	}
	return n;
}

int main(int argc, char **argv)
{
	(void)argc;
	double seconds = atof(argv[1]);
	int n = early(now() + seconds / 2);
	void *library = dlopen(argv[2], RTLD_NOW);
	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	void (*each)(int (*)(void *), void *);
	*(void **)&each = dlsym(library, "plugin_each");
	return n + late(now() + seconds / 2, each) == 0;
}
