package ingest

import (
	"cmp"
	"strings"

	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// Attributes with a meaning of their own, by OpenTelemetry's semantic
// conventions.
const (
	attributeService    = "service.name"
	attributeExecutable = "process.executable.name"
	attributeFrameType  = "profile.frame.type"
)

// unlabelled are attributes that tell one process or thread of a service from
// the next. As labels they would make every process a series of its own.
var unlabelled = map[string]bool{
	"cpu.logical_number":               true,
	"process.args_count":               true,
	"process.command_args":             true,
	"process.command_line":             true,
	"process.creation.time":            true,
	"process.group_leader.pid":         true,
	"process.interactive":              true,
	"process.parent_pid":               true,
	"process.pid":                      true,
	"process.session_leader.pid":       true,
	"process.vpid":                     true,
	"process.working_directory":        true,
	"thread.id":                        true,
	"thread.name":                      true,
	"process.context.label.thread.id":  true,
	"process.context.label.process.id": true,
}

// prometheusNames are the labels by which Prometheus knows what a resource
// attribute says, so that profiles and metrics meet.
var prometheusNames = map[string]string{
	"k8s.cluster.name":   "cluster",
	"k8s.container.name": "container",
	"k8s.namespace.name": "namespace",
	"k8s.node.name":      "node",
	"k8s.pod.name":       "pod",
}

// otlpLabels are a series' labels: the attributes of its resource and its scope.
// service is that of the samples, "" if they have none.
func otlpLabels(name, service string, resource, scope []otlpAttribute, l Limits) (labels.Labels, error) {
	seen := map[string]bool{}
	var pairs []*typesv1.LabelPair
	add := func(name, value string) {
		if name != "" && value != "" && !seen[name] {
			seen[name] = true
			pairs = append(pairs, &typesv1.LabelPair{Name: name, Value: value})
		}
	}
	add(model.MetricNameLabel, name)
	add(labelService, cmp.Or(service, otlpService(resource)))
	for _, as := range [][]otlpAttribute{resource, scope} {
		for _, a := range as {
			add(otlpLabelName(a.key), a.value)
		}
	}
	for _, a := range resource {
		add(prometheusNames[a.key], a.value)
	}
	return Labels(pairs, l)
}

// otlpService is the resource's service, or what OpenTelemetry's conventions
// say in its place: unknown_service with the name of the program.
func otlpService(resource []otlpAttribute) string {
	fallback := fallbackService
	for _, a := range resource {
		switch {
		case a.value == "":
		case a.key == attributeService:
			return a.value
		case a.key == attributeExecutable:
			fallback = fallbackService + ":" + a.value
		}
	}
	return fallback
}

// otlpLabelName is the label of an attribute, "" if it has none. Pyroscope puts
// underscores for dots, and refuses what no label can be called; here those
// characters become underscores too.
func otlpLabelName(key string) string {
	if unlabelled[key] {
		return ""
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, key)
	if name == "" || strings.HasPrefix(name, "__") { // the server's to set
		return ""
	}
	if name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}
