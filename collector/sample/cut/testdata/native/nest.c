// Burns CPU time for some seconds below as many nested calls as the second
// argument says, in work, turn, burn.
#include "burn.h"
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

NOINLINE int nest(int depth, double end)
{
	return depth == 0 ? work(end) : nest(depth - 1, end) + (int)(sink & 1) + 1;
}

int main(int argc, char **argv)
{
	return nest(argc > 2 ? atoi(argv[2]) : 200, now() + atof(argv[1])) == 0;
}
