// A process that looks like a JVM: it maps a libjvm.so, has HotSpot's thread for SIGQUIT and
// a handler, and then opens the socket that tools connect to. Connections are accepted and
// get no answer, or one without an end.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static volatile sig_atomic_t asked;

static void on_quit(int signal) { asked++; }

static void *dispatch(void *unused)
{
	prctl(PR_SET_NAME, "Signal Dispatcher");
	for (;;)
		pause();
}

static void *chatter(void *connection)
{
	static char zeros[1 << 16];
	memset(zeros, '0', sizeof(zeros));
	while (write((int)(long)connection, zeros, sizeof(zeros)) > 0) { }
	close((int)(long)connection);
	return NULL;
}

int main(int argc, char **argv)
{
	int fd = open(argv[1], O_RDWR | O_CREAT, 0700); // libjvm.so
	if (ftruncate(fd, 4096) || mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED)
		return 1;
	signal(SIGQUIT, on_quit);
	signal(SIGPIPE, SIG_IGN);
	pthread_t thread;
	pthread_create(&thread, NULL, dispatch, NULL);
	sleep(1); // until the thread has its name
	puts("ready");
	fflush(stdout);
	if (!strcmp(argv[2], "deaf"))
		for (;;)
			pause();
	while (!asked)
		usleep(10000);
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	snprintf(name.sun_path, sizeof(name.sun_path), "/tmp/.java_pid%d", getpid());
	unlink(name.sun_path);
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(s, (void *)&name, sizeof(name)) || listen(s, 5))
		return 1;
	for (;;) {
		int connection = accept(s, NULL, NULL);
		if (connection >= 0 && !strcmp(argv[2], "endless"))
			pthread_create(&thread, NULL, chatter, (void *)(long)connection);
	}
}
