// Package target tells what a process is: the labels of the series that its
// profiles belong to, from procfs: environment, control group, command line.
//
// It leaves sampling to sample and names that only an API knows (pods, images)
// to its callers.
package target

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// Label names. service_name, comm, exe and node are always there, container
// where the process runs in one.
const (
	LabelService   = "service_name"
	LabelComm      = "comm"
	LabelExe       = "exe"
	LabelContainer = "container"
	LabelNode      = "node"
)

// Options configure a Resolver; the zero value is useful.
type Options struct {
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers nothing
	// ProcRoot is where procfs is mounted; "" is /proc.
	ProcRoot string
	// Node is the value of the node label; "" is the host name.
	Node string
	// CacheSize bounds the number of processes kept; 0 is 8192.
	CacheSize int
	// ContainerName, if set, returns the name that people know a container
	// by, "" if it knows none. It is called with the full ID.
	ContainerName func(id string) string
}

// A Hint is what the sampler knows about a process already. It serves when
// the process is gone before it was looked at.
type Hint struct {
	Comm        string            // the thread's name
	Exe         string            // path of the executable
	ContainerID string            // "" if none or unknown
	Env         map[string]string // the variables that were captured
}
