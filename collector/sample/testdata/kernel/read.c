// Spends its CPU time in system calls: reads of /dev/zero by read_zeros.
// Argument: CPU seconds to burn. Prints its user and system CPU nanoseconds and
// the sum.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static char buffer[1 << 20];

static long ns(struct timeval t) { return t.tv_sec * 1000000000L + t.tv_usec * 1000L; }

__attribute__((noinline, noclone)) long read_zeros(int fd)
{
	long n = 0;
	for (int i = 0; i < 100; i++)
		n += read(fd, buffer, sizeof(buffer));
	return n;
}

int main(int argc, char **argv)
{
	double goal = argc > 1 ? atof(argv[1]) : 1;
	int fd = open("/dev/zero", O_RDONLY);
	struct rusage u;
	do {
		if (read_zeros(fd) <= 0)
			return 1;
		getrusage(RUSAGE_SELF, &u);
	} while (ns(u.ru_utime) + ns(u.ru_stime) < goal * 1e9);
	printf("%ld %ld %ld\n", ns(u.ru_utime), ns(u.ru_stime), ns(u.ru_utime) + ns(u.ru_stime));
	return 0;
}
