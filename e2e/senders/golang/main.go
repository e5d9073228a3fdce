// Command golang is a program that profiles itself with Pyroscope's SDK for Go
// and pushes to a server: CPU, allocations, memory in use, goroutines, mutexes
// and blocking. Each has a function that it is known for. It pushes as often as the
// SDK does by default, every 15 s.
//
//	golang ADDRESS SERVICE SECONDS
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/grafana/pyroscope-go"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("want ADDRESS SERVICE SECONDS, not %q", args)
	}
	seconds, err := strconv.ParseFloat(args[2], 64)
	if err != nil {
		return fmt.Errorf("seconds: %w", err)
	}
	runtime.SetMutexProfileFraction(1)
	runtime.SetBlockProfileRate(1)
	profiler, err := pyroscope.Start(pyroscope.Config{
		ApplicationName: args[1],
		ServerAddress:   args[0],
		Tags:            map[string]string{"region": "eu"},
		Logger:          logger{},
		ProfileTypes: []pyroscope.ProfileType{
			pyroscope.ProfileCPU, pyroscope.ProfileAllocObjects, pyroscope.ProfileAllocSpace,
			pyroscope.ProfileInuseObjects, pyroscope.ProfileInuseSpace, pyroscope.ProfileGoroutines,
			pyroscope.ProfileMutexCount, pyroscope.ProfileMutexDuration, pyroscope.ProfileBlockCount, pyroscope.ProfileBlockDuration,
		},
	})
	if err != nil {
		return fmt.Errorf("start profiler: %w", err)
	}
	var s shop
	closing := make(chan struct{})
	for range 50 {
		go waitForStock(closing)
	}
	for end := time.Now().Add(time.Duration(seconds * float64(time.Second))); time.Now().Before(end); {
		pyroscope.TagWrapper(context.Background(), pyroscope.Labels("controller", "checkout"), func(context.Context) { s.checkout() })
		s.fillBasket()
		s.reserve()
		awaitPayment()
	}
	err = profiler.Stop()
	close(closing)
	runtime.KeepAlive(&s)
	return err
}

type shop struct {
	mu      sync.Mutex
	baskets [4096][]byte // the newest
	next    int
	sum     uint64
}

// checkout does three quarters of its work for prices.
func (s *shop) checkout() {
	s.priceOrder(3 * step)
	s.validateOrder(step)
}

// step takes some ten milliseconds.
const step = 10_000_000

//go:noinline
func (s *shop) priceOrder(n uint64) { s.burn(n) }

//go:noinline
func (s *shop) validateOrder(n uint64) { s.burn(n) }

//go:noinline
func (s *shop) burn(n uint64) {
	for i := range n {
		s.sum = s.sum*31 + i
	}
}

// fillBasket keeps what it allocates.
//
//go:noinline
func (s *shop) fillBasket() {
	for range 256 {
		s.baskets[s.next%len(s.baskets)] = make([]byte, 4096)
		s.next++
	}
}

// reserve holds a lock that others wait for.
//
//go:noinline
func (s *shop) reserve() {
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(s.lockStock)
	}
	wg.Wait()
}

//go:noinline
func (s *shop) lockStock() {
	s.mu.Lock()
	time.Sleep(time.Millisecond)
	s.mu.Unlock()
}

// awaitPayment blocks on a channel.
//
//go:noinline
func awaitPayment() {
	paid := make(chan struct{})
	go func() {
		time.Sleep(2 * time.Millisecond)
		close(paid)
	}()
	<-paid
}

//go:noinline
func waitForStock(closing <-chan struct{}) { <-closing }

// A logger says what went wrong: the test shows it.
type logger struct{}

func (logger) Infof(string, ...any)              {}
func (logger) Debugf(string, ...any)             {}
func (logger) Errorf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
