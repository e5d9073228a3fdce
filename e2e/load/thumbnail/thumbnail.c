/*
 * A load program without frame pointers: makes thumbnails in bursts, in one
 * thread of its own.
 *
 * scale_rows takes 70 % and sharpen 30 % of each burst; the CPU time that each
 * really took is measured with the thread's clock and shown on /metrics.
 *
 *	cc -O2 -fomit-frame-pointer -pthread -o thumbnail thumbnail.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BURST 0.1 /* seconds of CPU */
#define WIDTH 4096

/* Each hot function keeps its name and its own frame. */
#if defined(__clang__)
#define KEEP __attribute__((noinline))
#else
#define KEEP __attribute__((noinline, noclone))
#endif

struct meter {
	const char *name;
	double seconds; /* wanted per call */
	long n;         /* rows per call */
	double total;   /* CPU seconds of all calls */
};

static struct meter scale = {"scale_rows", 0.7 * BURST, 10, 0};
static struct meter sharp = {"sharpen", 0.3 * BURST, 10, 0};
static pthread_mutex_t totals = PTHREAD_MUTEX_INITIALIZER;
static uint32_t row[WIDTH];
static volatile uint32_t result; /* keeps the compiler from dropping the work */

static double cpu_seconds(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Returns the checksum of n rows scaled to half their width. */
static KEEP uint32_t scale_rows(long n)
{
	uint32_t sum = 0;

	for (long y = 0; y < n; y++) {
		for (int x = 0; x + 1 < WIDTH; x++) {
			row[x] = (row[x] * 3 + row[x + 1] + (uint32_t)y) / 4;
			sum = sum * 31 + row[x];
		}
	}
	return sum;
}

/* Returns the checksum of n rows with their edges raised. */
static KEEP uint32_t sharpen(long n)
{
	uint32_t sum = 0;

	for (long y = 0; y < n; y++) {
		for (int x = 1; x + 1 < WIDTH; x++) {
			uint32_t edge = 2 * row[x] - row[x - 1] - row[x + 1];

			sum = (sum << 5 | sum >> 27) ^ (edge + (uint32_t)y);
		}
	}
	return sum;
}

/* Counts a call's CPU seconds and fits n to the machine. */
static void adjust(struct meter *m, double took)
{
	double factor = m->seconds / (took > 1e-4 ? took : 1e-4);

	if (factor > 2)
		factor = 2;
	if (factor < 0.5)
		factor = 0.5;
	m->n = (long)(m->n * factor);
	if (m->n < 1)
		m->n = 1;
	pthread_mutex_lock(&totals);
	m->total += took;
	pthread_mutex_unlock(&totals);
}

static KEEP void make_thumbnail(void)
{
	double start = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
	result += scale_rows(scale.n);
	double between = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
	result += sharpen(sharp.n);
	double end = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);

	adjust(&scale, between - start);
	adjust(&sharp, end - between);
}

static void *work(void *arg)
{
	double pause = BURST / *(double *)arg - BURST;

	for (;;) {
		double wait = pause * (0.5 + rand() / (double)RAND_MAX);
		struct timespec ts = {(time_t)wait, (long)((wait - (time_t)wait) * 1e9)};

		make_thumbnail();
		nanosleep(&ts, NULL);
	}
	return NULL;
}

static int write_metrics(char *body, size_t size)
{
	pthread_mutex_lock(&totals);
	int n = snprintf(body, size,
		"# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.\n"
		"# TYPE process_cpu_seconds_total counter\n"
		"process_cpu_seconds_total %.6f\n"
		"# HELP load_function_cpu_seconds_total CPU time of the thread while the function was running.\n"
		"# TYPE load_function_cpu_seconds_total counter\n"
		"load_function_cpu_seconds_total{function=\"%s\"} %.6f\n"
		"load_function_cpu_seconds_total{function=\"%s\"} %.6f\n",
		cpu_seconds(CLOCK_PROCESS_CPUTIME_ID), scale.name, scale.total, sharp.name, sharp.total);
	pthread_mutex_unlock(&totals);
	return n;
}

/* Answers one connection: GET /metrics, anything else is not found. */
static void answer(int client)
{
	char request[4096], body[2048], head[256];
	ssize_t got = read(client, request, sizeof request - 1);

	if (got <= 0)
		return;
	request[got] = 0;
	int found = strncmp(request, "GET /metrics ", 13) == 0;
	int length = found ? write_metrics(body, sizeof body) : 0;
	int n = snprintf(head, sizeof head,
		"HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4\r\n"
		"Content-Length: %d\r\nConnection: close\r\n\r\n",
		found ? "200 OK" : "404 Not Found", length);

	if (write(client, head, n) != n || write(client, body, length) != length)
		perror("answer");
}

static int listen_on(char *address)
{
	char *colon = strrchr(address, ':');
	struct sockaddr_in at = {.sin_family = AF_INET};
	int on = 1;

	if (!colon)
		return errno = EINVAL, -1;
	*colon = 0;
	at.sin_port = htons(atoi(colon + 1));
	if (inet_pton(AF_INET, address, &at.sin_addr) != 1)
		return errno = EINVAL, -1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
	    bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 16))
		return -1;
	return fd;
}

int main(int argc, char **argv)
{
	char address[64] = "127.0.0.1:4055";
	double cores = 0.2;
	pthread_t thread;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--listen"))
			snprintf(address, sizeof address, "%s", argv[i + 1]);
		else if (!strcmp(argv[i], "--cores"))
			cores = atof(argv[i + 1]);
		else
			return fprintf(stderr, "unknown flag %s\n", argv[i]), 2;
	}
	if (cores <= 0 || cores > 1)
		return fprintf(stderr, "--cores must be above 0 and at most 1\n"), 2;
	signal(SIGPIPE, SIG_IGN);
	int fd = listen_on(address);
	if (fd < 0)
		return perror("listen"), 1;
	if (pthread_create(&thread, NULL, work, &cores))
		return fprintf(stderr, "cannot start the working thread\n"), 1;
	for (;;) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (client < 0)
			continue;
		answer(client);
		close(client);
	}
}
