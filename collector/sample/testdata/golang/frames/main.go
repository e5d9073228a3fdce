// Calls functions with frames of many sizes, some of which call no others. It is
// executed step by step for arm64, where the sizes need different instructions.
package main

var sink int

//go:noinline
func leafSmall(n int) int {
	var a [16]byte
	a[n&15] = 1
	return int(a[(n+1)&15])
}

// leafMiddle is cleared by duffzero, until Go 1.25.
//
//go:noinline
func leafMiddle(n int) int {
	var a [904]byte
	a[n&511] = 1
	return int(a[(n+1)&511])
}

//go:noinline
func leafLarge(n int) int {
	var a [9000]byte
	a[n&4095] = 1
	return int(a[(n+1)&4095])
}

//go:noinline
func leafHuge(n int) int {
	var a [70000]byte
	a[n&65535] = 1
	return int(a[(n+1)&65535])
}

//go:noinline
func fill(a []byte, n int) { a[n%len(a)] = 1 }

//go:noinline
func callMiddle(n int) int {
	var a [904]byte
	fill(a[:], n)
	return int(a[(n+1)&511])
}

//go:noinline
func callLarge(n int) int {
	var a [9000]byte
	fill(a[:], n)
	return int(a[(n+1)&4095])
}

//go:noinline
func callHuge(n int) int {
	var a [70000]byte
	fill(a[:], n)
	return int(a[(n+1)&65535])
}

type wide struct{ a [60]int }

//go:noinline
func takes(w wide, n int) int { return w.a[n&31] }

// copiesWide copies with duffcopy, until Go 1.25.
//
//go:noinline
func copiesWide(w *wide, n int) int { return takes(*w, n) + takes(*w, n+1) }

var wides [2]wide

//go:noinline
func smallFrames(n int) int {
	return leafSmall(n) + leafMiddle(n) + callMiddle(n) + copiesWide(&wides[n&1], n)
}

//go:noinline
func largeFrames(n int) int { return leafLarge(n) + callLarge(n) }

//go:noinline
func hugeFrames(n int) int { return leafHuge(n) + callHuge(n) }

//go:noinline
func begin() {
	for n := 0; n < 3; n++ {
		sink += smallFrames(n) + largeFrames(n) + hugeFrames(n)
	}
}

func main() {
	sink += hugeFrames(0) // makes the stack as large as it must be
	begin()
}
