// Package target determines the labels of a process' profiles from procfs: environment,
// control group, command line.
//
// The service name is the first of these that is known:
//
//  1. OTEL_SERVICE_NAME, or service.name in OTEL_RESOURCE_ATTRIBUTES, of the
//     process' environment;
//  2. the systemd unit: nginx.service is nginx, postgresql@15-main.service is
//     postgresql; sessions, scopes and user managers are no units;
//  3. the container: its name if one is known, else its short ID;
//  4. for interpreters and virtual machines what they run: the script's base
//     name without extension (/srv/shop/main.py is main; __main__.py and
//     index.js stand for their directory), the module (python -m http.server
//     is http.server), the jar without version, the main class;
//  5. the name of the executable.
//
// Kernel threads are the service "kernel"; their comm has no CPU number
// (kworker/0:1-events is kworker).
//
// Sampling is left to package sample, and names that only an API knows (pods, images) to
// callers.
package target

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// Label names. service_name, comm and node are always present, exe except for kernel
// threads, container if the process runs in one. No label distinguishes processes or
// threads of the same program.
const (
	LabelService   = "service_name"
	LabelComm      = "comm"
	LabelExe       = "exe"
	LabelContainer = "container"
	LabelNode      = "node"
)

// KernelService is the service name of kernel threads.
const KernelService = "kernel"

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
	// ContainerName, if set, returns a container's name by its full ID, "" if the name
	// is unknown.
	ContainerName func(id string) string
}

// A Hint is what the sampler knows about a process. It is used if the process has ended
// before its files were read.
type Hint struct {
	Comm        string            // the thread's name
	Exe         string            // path of the executable
	ContainerID string            // "" if none or unknown
	Env         map[string]string // captured environment variables
}
