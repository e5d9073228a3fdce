// Package target determines the labels of a process' profiles: from procfs (environment,
// control group, command line), from the context that OpenTelemetry's SDKs publish in the
// process' memory, and from what Kubernetes or Docker know about its container.
//
// This takes two steps. Raw reads about the process while it is there; its result has
// what is known under Prometheus' names for such labels (__meta_kubernetes_pod_name), and
// tells processes apart that will have different labels. Finish adds what is known about
// the container, which may come later, and makes labels of all that: those of cAdvisor
// and kube-state-metrics first, then what the configured rules say.
//
// The service name is the first of these that is known:
//
//  1. service.name of OpenTelemetry's process context, OTEL_SERVICE_NAME, or
//     service.name in OTEL_RESOURCE_ATTRIBUTES, of the process' environment;
//  2. the systemd unit: nginx.service is nginx, postgresql@15-main.service is
//     postgresql; sessions, scopes and user managers are no units;
//  3. of a container in Kubernetes: the pod's annotation
//     resource.opentelemetry.io/service.name, the workload, the container;
//  4. of another container: the service of Docker Compose or Swarm, the container's name,
//     or its short ID if nobody knows the name;
//  5. for interpreters and virtual machines what they run: the script's base
//     name without extension (/srv/shop/main.py is main; __main__.py and
//     index.js stand for their directory), the module (python -m http.server
//     is http.server), the jar without version, the main class;
//  6. the name of the executable.
//
// Kernel threads are the service "kernel"; their comm has no CPU number
// (kworker/0:1-events is kworker).
//
// Sampling is left to package sample, asking Kubernetes and Docker to package containers.
package target

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/relabel"
)

// Label names. service_name, comm and node are always present, exe except for kernel
// threads, the others where they are known. No label distinguishes processes or threads
// of the same program.
const (
	LabelService          = "service_name"
	LabelServiceNamespace = "service_namespace" // of OpenTelemetry's resource
	LabelServiceVersion   = "service_version"
	LabelComm             = "comm"
	LabelExe              = "exe"
	LabelNode             = "node"
	LabelCluster          = "cluster"
	LabelNamespace        = "namespace"
	LabelPod              = "pod"
	// LabelContainer is the container's name in Kubernetes, as in cAdvisor's metrics of
	// the kubelet; of another container its name in Docker, or its full ID.
	LabelContainer = "container"
	// LabelName is the container's name in Docker, as in cAdvisor's metrics of Docker.
	LabelName         = "name"
	LabelWorkload     = "workload"      // the Deployment, StatefulSet and so on
	LabelWorkloadType = "workload_type" // deployment, statefulset and so on
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
	// Cluster is the value of the cluster label; "" is none.
	Cluster string
	// Containers, if set, knows more about containers than their IDs.
	Containers Containers
	// Rules change the labels of each process.
	Rules relabel.Rules
}

// Containers finds what Kubernetes or Docker know about containers.
type Containers interface {
	// Lookup returns the labels, named as in Prometheus' service discovery, of the first
	// container in ids that is known, and else of the pod with a UID, which may be "". It
	// waits for an answer about containers that it has not heard of, until ctx ends at
	// the latest.
	Lookup(ctx context.Context, ids []string, pod string) labels.Labels
}

// A Hint is what the sampler knows about a process. It is used if the process has ended
// before its files were read.
type Hint struct {
	// Check is about a process that runs: it is looked at even if it was within the last
	// second, as it may run another program by now.
	Check       bool
	Comm        string            // the thread's name
	Exe         string            // path of the executable
	ContainerID string            // "" if none or unknown
	Env         map[string]string // captured environment variables
}
