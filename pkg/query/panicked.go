package query

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/backend/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// errInternal is the error of a query that panicked. The panic and its stack are in the
// log.
var errInternal = errors.New("internal error; see the plugin's log")

// panics is one of the metrics that Grafana collects from a plugin.
var panics = promauto.NewCounter(prometheus.CounterOpts{
	Name: "flameline_plugin_panics_total",
	Help: "Queries that ended in a panic, which is a bug; the plugin's log has the stack.",
})

// Recovered turns a panic into an error of its query. It is deferred by every goroutine
// that works for a query, since an unrecovered panic ends the process, which other data
// sources share.
func Recovered(err *error) {
	if p := recover(); p != nil {
		panics.Inc()
		log.DefaultLogger.Error("a query panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = backend.PluginError(errInternal)
	}
}
