package main

// shopLoop, priceBasket and hashItems are a chain of small functions, of which
// the innermost has no frame.

//go:noinline
func hashItems(items []uint64) uint64 {
	h := uint64(14695981039346656037)
	for _, x := range items {
		h = (h ^ x) * 1099511628211
	}
	return h
}

//go:noinline
func priceBasket(items []uint64, seed uint64) uint64 {
	items[0] = seed
	return hashItems(items)*3 + 1
}

//go:noinline
func shopLoop(n int) uint64 {
	items := make([]uint64, 8)
	var sum uint64
	for i := range n {
		sum += priceBasket(items, uint64(i))
	}
	return sum
}
