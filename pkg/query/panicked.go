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

// errInternal is the error of a query that panicked. It says nothing of the panic: the
// log has that, with the stack.
var errInternal = errors.New("internal error; the plugin's log has it")

// panics is among the metrics that Grafana collects of a plugin.
var panics = promauto.NewCounter(prometheus.CounterOpts{
	Name: "flameline_plugin_panics_total",
	Help: "Queries that ended in a panic, which is a mistake of the plugin; its log has the stack.",
})

// Recovered turns a panic into an error of the query that it happened in. It is
// deferred by every goroutine that works for a query, since a panic that leaves a
// goroutine ends the process, in which other data sources live.
func Recovered(err *error) {
	if p := recover(); p != nil {
		panics.Inc()
		log.DefaultLogger.Error("a query panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = backend.PluginError(errInternal)
	}
}
