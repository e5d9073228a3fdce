// Package doctor says what of this system, and of a process, helps or hinders profiling:
// what works, what does not, and what to change. It answers the usual questions: why there
// are no symbols, why frames are [unknown], why permission is denied, why a JVM cannot be
// attached to.
//
// It reads procfs, sysfs and the ELF files of processes within the bounds of package
// symbolize, and changes nothing. Sampling is left to package sample, which says what it
// needs.
package doctor
