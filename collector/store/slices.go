package store

import "slices"

func zeroed[T any](s []T, n int) []T {
	s = sized(s, n)
	clear(s)
	return s
}

// sized is zeroed where the values do not matter.
func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/8)
	}
	return s[:n]
}

func grow(s []uint64, n int) []uint64 {
	return slices.Grow(s[:0], n)[:n]
}
