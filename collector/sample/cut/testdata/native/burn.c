// Burns CPU time for some seconds in work, turn, burn. A second argument is a
// file that is renamed over the program first.
#include "burn.h"
#include <stdio.h>
#include <stdlib.h>

NOINLINE int turn(void)
{
	for (int i = 0; i < 10; i++)
		burn();
	return 1;
}

NOINLINE int work(double end)
{
	int n = 0;
	while (now() < end)
		n += turn();
	return n;
}

int main(int argc, char **argv)
{
	double end = now() + atof(argv[1]);
	if (argc > 2 && rename(argv[2], argv[0])) {
		perror(argv[2]);
		return 1;
	}
	return work(end) == 0;
}
