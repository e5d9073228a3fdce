// Package top shows which functions use the CPU at the moment: what `py-spy top` and
// `perf top` are used for, of every language at once. A Table adds up own and total time
// by function, Batch prints it again and again, Screen shows it on a terminal.
//
// It leaves sampling, and choosing processes, to package record.
package top
