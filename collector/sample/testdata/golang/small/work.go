package main

import (
	"syscall"
)

// mix is a leaf without a frame, which many call.
//
//go:noinline
func mix(a, b uint64) uint64 {
	a ^= b
	for range 8 {
		a *= 1099511628211
	}
	return a ^ a>>7
}

// climb calls itself and then mix.
//
//go:noinline
func climb(n int) uint64 {
	if n == 0 {
		return summit()
	}
	return climb(n-1) + 1
}

//go:noinline
func summit() (s uint64) {
	for i := range uint64(5000) {
		s += mix(s, i)
	}
	return s
}

//go:noinline
func fib(n int) uint64 {
	if n < 2 {
		return 1
	}
	return fib(n-1) + fib(n-2)
}

type counter struct{ n uint64 }

//go:noinline
func (c *counter) add(x uint64) {
	for range 8 {
		c.n = (c.n ^ x) * 1099511628211
	}
}

//go:noinline
func methodValues(n int) uint64 {
	var c counter
	adds := []func(uint64){c.add, (&c).add}
	for i := range uint64(n) {
		adds[i&1](i)
	}
	return c.n
}

//go:noinline
func closures(n int) (s uint64) {
	add := func(x uint64) {
		for range 8 {
			s = (s ^ x) * 31
		}
	}
	each(n, add)
	return s
}

//go:noinline
func each(n int, f func(uint64)) {
	for i := range uint64(n) {
		f(i)
	}
}

type number interface{ ~uint64 | ~uint32 }

//go:noinline
func sumOf[T number](xs []T) (s T) {
	for _, x := range xs {
		s = s*31 + x
	}
	return s
}

//go:noinline
func twice[T number](xs []T) T { return sumOf(xs) + sumOf(xs) }

//go:noinline
func generics(n int) (s uint64) {
	var a [8]uint64
	var b [8]uint32
	for i := range n {
		a[0], b[0] = uint64(i), uint32(i)
		s += twice(a[:]) + uint64(twice(b[:]))
	}
	return s
}

//go:noinline
func bigFrame(seed uint64) uint64 {
	var a [4096]byte
	a[seed&4095] = 1
	return touch(&a, seed)
}

//go:noinline
func touch(a *[4096]byte, seed uint64) (s uint64) {
	for i := range a {
		s += uint64(a[i]) ^ seed
	}
	return s
}

//go:noinline
func bigFrames(n int) (s uint64) {
	for i := range uint64(n) {
		s += bigFrame(i)
	}
	return s
}

//go:noinline
func rescue(i uint64) (s uint64) {
	defer func() {
		if v := recover(); v != nil {
			s = mix(v.(uint64), i)
		}
	}()
	return fall(i)
}

//go:noinline
func fall(i uint64) uint64 {
	panic(i)
}

//go:noinline
func panics(n int) (s uint64) {
	for i := range uint64(n) {
		s += rescue(i)
	}
	return s
}

type adder interface{ plus(x uint64) uint64 }

type (
	small uint64
	large struct{ a, b uint64 }
)

//go:noinline
func (s small) plus(x uint64) uint64 {
	for range 8 {
		x = (x ^ uint64(s)) * 1099511628211
	}
	return x
}

//go:noinline
func (l large) plus(x uint64) uint64 {
	for range 8 {
		x = (x ^ l.a + l.b) * 1099511628211
	}
	return x
}

//go:noinline
func interfaces(n int) (s uint64) {
	as := []adder{small(3), large{1, 2}}
	for i := range n {
		s = as[i&1].plus(s)
	}
	return s
}

//go:noinline
func systemCalls(n int) (s uint64) {
	for range n {
		s += uint64(syscall.Getppid())
	}
	return s
}
