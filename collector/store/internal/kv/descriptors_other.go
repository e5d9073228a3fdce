//go:build !unix

package kv

// descriptors is how many files the process may have open: there is no limit to
// ask for.
func descriptors() uint64 { return 1 << 20 }
