// Package record samples chosen processes once, without a server or a store:
// what `perf record`, `py-spy record` and `asprof -d` are used for. A Session
// samples the processes of a Selection and hands on what it gets second by
// second; Run collects a Session's samples in one Recording, for as long as it
// is told or a command runs.
//
// It leaves unwinding to sample, the form of the file to its caller, and
// showing what is sampled while it happens to package top.
package record
