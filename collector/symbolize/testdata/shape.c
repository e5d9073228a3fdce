// A program with functions of every kind that a symbol table knows: global,
// static, aliased, weak, without size, cold, reached through the PLT.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

volatile unsigned long sink;

__attribute__((noinline)) static void local_work(int n) {
  for (int i = 0; i < n; i++) sink += i;
}
__attribute__((noinline)) void global_work(int n) { local_work(n); }
void public_name(int n) __attribute__((alias("__internal_name")));
__attribute__((noinline)) void __internal_name(int n) { sink ^= n; }
__attribute__((weak, noinline)) void weak_work(int n) { sink += 2 * n; }

// Hand-written assembly: no type, no size; followed by a hole.
__asm__(".text\n.globl unsized\nunsized:\n  nop\n  nop\n  ret\n"
        ".globl bounded\n.type bounded,@function\nbounded:\n  ret\n.size bounded, 1\n.skip 64, 0x90\n");
void unsized(void);
void bounded(void);

__attribute__((noinline, cold)) void failure(const char *why) {
  fprintf(stderr, "%s\n", why);
  exit(1);
}

int main(int argc, char **argv) {
  if (argc > 9) failure(argv[1]);
  global_work(argc);
  public_name(argc);
  weak_work(argc);
  unsized();
  bounded();
  char buf[64];
  memset(buf, argc, sizeof buf);
  sink += strlen(argv[0]) + buf[7];
  puts("ready");
  fflush(stdout);
  pause();
  return 0;
}
