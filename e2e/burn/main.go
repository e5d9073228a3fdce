// Command burn uses a given share of one CPU until a given time, rests from then
// on, and shows its CPU time as process_cpu_seconds_total on /metrics.
package main

import (
	"flag"
	"log"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"
)

// period is how long it rests at a time.
const period = 75 * time.Millisecond

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address of /metrics")
	cores := flag.Float64("cores", 0.5, "share of one CPU to use")
	until := flag.Int64("until", 0, "Unix time in seconds from which it rests")
	flag.Parse()

	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	http.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	go func() { log.Fatal(http.ListenAndServe(*listen, nil)) }()

	runtime.LockOSThread()
	end := time.Unix(*until, 0)
	for start := time.Now(); time.Now().Before(end); time.Sleep(period) {
		// What it did not get while others ran it takes now, so that a busy
		// machine does not change its share.
		work(func() bool {
			return time.Now().Before(end) && cpuTime() < time.Duration(*cores*float64(time.Since(start)+period))
		})
	}
	select {}
}

// work computes for as long as due says so.
func work(due func() bool) {
	var sum float64
	for due() {
		for i := range 10_000 {
			sum += float64(i) * 1.0001
		}
	}
	runtime.KeepAlive(sum)
}

// cpuTime is the time that this thread has run.
func cpuTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		log.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
