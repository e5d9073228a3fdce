package ingest

import (
	"cmp"
	"strings"

	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// Attributes that have a meaning in OpenTelemetry's semantic conventions.
const (
	attributeService    = "service.name"
	attributeExecutable = "process.executable.name"
	attributeFrameType  = "profile.frame.type"
)

// unlabelled are attributes that differ between processes or threads of one service. As
// labels they would make each process a series.
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

// prometheusNames are Prometheus' names for resource attributes, so that profiles and
// metrics have the same labels.
var prometheusNames = map[string]string{
	"k8s.cluster.name":   "cluster",
	"k8s.container.name": "container",
	"k8s.namespace.name": "namespace",
	"k8s.node.name":      "node",
	"k8s.pod.name":       "pod",
}

// otlpLabels returns a series' labels: the attributes of its resource and its scope.
// service is the one that the samples name, "" if they name none.
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

// otlpService returns the resource's service, or the fallback of OpenTelemetry's
// conventions: unknown_service with the program's name.
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

// otlpLabelName returns the label's name for an attribute, "" for one that is not a
// label. As in Pyroscope dots become underscores; so do characters that label names may
// not have, which Pyroscope refuses.
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
	if name == "" || strings.HasPrefix(name, "__") { // reserved for the server
		return ""
	}
	if name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}
