// The probes otel_memory:alloc and otel_memory:free, as sys/sdt.h of SystemTap would
// write them. With -DSEMAPHORES the program asks whether anyone listens.
#pragma once

#include <stdint.h>

#ifdef SEMAPHORES
#define COUNTER(name) __attribute__((section(".probes"), used, visibility("hidden"))) volatile unsigned short otel_memory_##name##_semaphore;
#define COUNTED(name) "otel_memory_" name "_semaphore"
#define LISTENED(name) (otel_memory_##name##_semaphore != 0)
#else
#define COUNTER(name)
#define COUNTED(name) "0"
#define LISTENED(name) 1
#endif

#define PROBE(name, arguments) \
	"990: nop\n" \
	".pushsection .note.stapsdt,\"\",\"note\"\n" \
	".balign 4\n .4byte 992f-991f, 994f-993f, 3\n" \
	"991: .asciz \"stapsdt\"\n" \
	"992: .balign 4\n" \
	"993: .8byte 990b, _.stapsdt.base, " COUNTED(name) "\n" \
	".asciz \"otel_memory\"\n .asciz \"" name "\"\n .asciz \"" arguments "\"\n" \
	"994: .balign 4\n" \
	".popsection\n" \
	".ifndef _.stapsdt.base\n" \
	".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
	".weak _.stapsdt.base\n .hidden _.stapsdt.base\n" \
	"_.stapsdt.base: .space 1\n .size _.stapsdt.base, 1\n" \
	".popsection\n.endif\n"

COUNTER(alloc)
COUNTER(free)


__attribute__((noinline)) static void probe_alloc(void *user, uint64_t size, uint64_t weight)
{
	if (!LISTENED(alloc))
		return;
	// In a register, in memory, and as the compiler likes.
	volatile uint64_t in_memory = size;
	__asm__ volatile(PROBE("alloc", "8@%[user] 8@%[size] 8@%[weight]")
		: : [user] "r"(user), [size] "m"(in_memory), [weight] "r"(weight) : "memory");
}

__attribute__((noinline)) static void probe_free(void *user)
{
	if (LISTENED(free))
		__asm__ volatile(PROBE("free", "8@%[user]") : : [user] "r"(user) : "memory");
}
