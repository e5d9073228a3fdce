// Maps a page of the file that its argument names, of a file system that does not
// answer, prints the page's address and waits until it is killed.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int file = argc > 1 ? open(argv[1], O_RDONLY) : -1;
	void *page = mmap(0, 4096, PROT_READ, MAP_PRIVATE, file, 0);
	struct stat attributes; /* which tell the kernel how large the file is */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (page == MAP_FAILED || fstat(file, &attributes)) {
		perror("silentfile");
		return 1;
	}
	printf("%lu\n", (unsigned long)page);
	fflush(stdout);
	for (;;)
		pause();
}
