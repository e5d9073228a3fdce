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
)

// period is how long one turn of work and sleep is.
const period = 100 * time.Millisecond

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
	for turn := time.Now(); turn.Unix() < *until; turn = turn.Add(period) {
		work(turn.Add(time.Duration(*cores * float64(period))))
		time.Sleep(time.Until(turn.Add(period)))
	}
	select {}
}

// work computes until a time.
func work(until time.Time) {
	var sum float64
	for time.Now().Before(until) {
		for i := range 10_000 {
			sum += float64(i) * 1.0001
		}
	}
	runtime.KeepAlive(sum)
}
