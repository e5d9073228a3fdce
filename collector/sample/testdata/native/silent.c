// Has memory that does not come: pages that a userfaultfd is to deliver, and
// nobody does. They are named as those are in which a process publishes facts
// about itself (OpenTelemetry's process context), so that profilers read them.
// Prints their address, then burns CPU time until it is killed.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <signal.h>
#include <unistd.h>

static volatile unsigned long sink;

int main(void)
{
	const unsigned long size = 8192;
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register pages = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int faults = syscall(SYS_userfaultfd, O_CLOEXEC);
	int file = memfd_create("OTEL_CTX", 0);
	if (faults < 0 || file < 0 || ftruncate(file, size) || ioctl(faults, UFFDIO_API, &api)) {
		perror("silent");
		return 1;
	}
	void *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	pages.range.start = (unsigned long)memory;
	pages.range.len = size;
	if (memory == MAP_FAILED || ioctl(faults, UFFDIO_REGISTER, &pages)) {
		perror("silent");
		return 1;
	}
	printf("%lu\n", (unsigned long)memory);
	fflush(stdout);
	for (;;)
		sink++;
}
