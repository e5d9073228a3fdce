// Package sample takes stacktraces of everything that runs on the CPUs of a
// Linux machine: system-wide, in Go, JVM, Python, Node.js, Ruby, PHP, .NET and
// native code with or without frame pointers, down into the kernel. It cuts
// them into windows on the wall clock and hands on one pprof profile per
// series and window.
//
// The unwinder is OpenTelemetry's eBPF profiler, which only this package
// imports. In front of it stands a small eBPF program of our own, the gate
// (bpf/gate.c), that decides which timer ticks are samples and keeps those of
// processes that the unwinder does not know yet.
//
// It leaves native symbols to symbolize, labels to target, and storing to the
// Appender that it is given.
package sample
