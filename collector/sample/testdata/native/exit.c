// Fills so many MiB of memory and ends: giving it back takes the kernel about as long.
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	size_t n = (size_t)atoi(argv[1]) << 20;
	char *p = malloc(n);
	if (argc != 2 || p == NULL)
		return 1;
	memset(p, 1, n);
	return p[n / 2] != 1;
}
