// Package usdt finds USDT probes in programs and libraries: places in the code that
// report something with arguments (user statically-defined tracing, the macros of
// sys/sdt.h). Each is a note of the section .note.stapsdt, which says where the probe is
// and in which registers or memory its arguments are.
//
// It leaves attaching to probes to its callers, and bounds the cost of a file together
// with package untrusted.
package usdt
