package storetest

import "runtime"

// HeapInUse is the memory of live objects in bytes, but not of pools.
func HeapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
