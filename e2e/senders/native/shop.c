/* A program for profilers of native code: gperftools' and jemalloc's, which are
   preloaded. It burns CPU time, three quarters of it for prices, and keeps three
   quarters of what it allocates in baskets.

     shop MILLISECONDS  of CPU time */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OUT __attribute__((noinline))

enum { ITEM = 64 << 10, ITEMS = 400 };

static volatile unsigned long sum;
static void *volatile baskets[ITEMS], *volatile receipts[ITEMS];

static long cpu_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

OUT void burn(long n) {
  for (long i = 0; i < n; i++) sum = sum * 31 + i;
}

OUT void price_order(long n) { burn(3 * n); sum++; }

OUT void validate_order(long n) { burn(n); sum++; }

OUT void checkout(void) { price_order(100000); validate_order(100000); sum++; }

/* What it allocates is kept. */
OUT void fill_basket(int i) {
  baskets[i] = malloc(3 * ITEM);
  memset(baskets[i], 1, 3 * ITEM);
}

OUT void print_receipt(int i) {
  receipts[i] = malloc(ITEM);
  memset(receipts[i], 1, ITEM);
}

/* What it allocates is freed. */
OUT void draft_offer(void) {
  char *p = malloc(ITEM);
  memset(p, 1, ITEM);
  sum += p[1];
  free(p);
}

OUT void work(long ms) {
  for (int i = 0; i < ITEMS; i++) {
    fill_basket(i);
    print_receipt(i);
    draft_offer();
  }
  while (cpu_ms() < ms) checkout();
}

int main(int argc, char **argv) {
  work(argc > 1 ? atol(argv[1]) : 1000);
  printf("%lu\n", sum);
  return 0;
}
