package main

import (
	"encoding/json"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// A server answers orders and counts the CPU time of the functions that do
// the work, so that a profile of it can be checked from outside.
type server struct {
	duration prometheus.Histogram
	validate prometheus.Counter
	price    prometheus.Counter
}

func newServer(r prometheus.Registerer) *server {
	f := promauto.With(r)
	cpu := f.NewCounterVec(prometheus.CounterOpts{
		Name: "load_function_cpu_seconds_total",
		Help: "CPU time of the thread while the function was running.",
	}, []string{"function"})
	return &server{
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "order_duration_seconds",
			Help:    "Time to answer an order.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 14),
		}),
		validate: cpu.WithLabelValues("validateOrder"),
		price:    cpu.WithLabelValues("priceOrder"),
	}
}

// handleOrder answers POST /orders with the price.
func (s *server) handleOrder(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	defer func() { s.duration.Observe(time.Since(start).Seconds()) }()

	var o order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&o); err != nil {
		http.Error(w, "read order: "+err.Error(), http.StatusBadRequest)
		return
	}
	if o.Budget < 0 || o.Budget > 1e6 {
		http.Error(w, "budget is not between 0 and 1000000 cents", http.StatusBadRequest)
		return
	}

	// Thread CPU time belongs to this goroutine only while it is locked.
	runtime.LockOSThread()
	before := threadCPU()
	err := validateOrder(&o)
	between := threadCPU()
	var cents int
	if err == nil {
		cents = priceOrder(&o)
	}
	after := threadCPU()
	runtime.UnlockOSThread()
	s.validate.Add((between - before).Seconds())
	s.price.Add((after - between).Seconds())

	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// The customer may be gone; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(map[string]int{"cents": cents})
}
