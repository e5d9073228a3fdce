package target

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

const (
	// lookupTimeout is how long Finish waits for what is known about a container.
	lookupTimeout = 10 * time.Second
	// shortID is the length of a container ID as tools display it.
	shortID = 12
)

// Labels of containers, as Prometheus' service discovery names them, that become labels
// of profiles. Others are there for rules.
const (
	metaKube         = "__meta_kubernetes_"
	metaNamespace    = metaKube + "namespace"
	metaPodName      = metaKube + "pod_name"
	metaPodNode      = metaKube + "pod_node_name"
	metaPodContainer = metaKube + "pod_container_name"
	metaPodService   = metaKube + "pod_annotation_resource_opentelemetry_io_service_name"
	metaWorkload     = metaKube + "workload_name"
	metaWorkloadKind = metaKube + "workload_kind"

	metaDockerName  = "__meta_docker_container_name" // begins with /
	metaDockerLabel = "__meta_docker_container_label_"
	metaCompose     = metaDockerLabel + "com_docker_compose_service"
	metaSwarm       = metaDockerLabel + "com_docker_swarm_service_name"
	// Docker as the runtime of Kubernetes.
	metaDockerNamespace = metaDockerLabel + "io_kubernetes_pod_namespace"
	metaDockerPod       = metaDockerLabel + "io_kubernetes_pod_name"
	metaDockerContainer = metaDockerLabel + "io_kubernetes_container_name"
)

// Labels returns the labels of a process: Finish of Raw.
func (r *Resolver) Labels(pid int, hint Hint) labels.Labels {
	return r.Finish(context.Background(), r.Raw(pid, hint))
}

// Finish returns the labels of a process for which Raw returned raw: no labels if a rule
// drops it. It waits up to 10 s for what is known about a container that is new.
func (r *Resolver) Finish(ctx context.Context, raw labels.Labels) labels.Labels {
	if raw.IsEmpty() {
		return raw
	}
	known := labels.EmptyLabels()
	if ids, pod := raw.Get(rawIDs), raw.Get(rawPod); r.o.Containers != nil && (ids != "" || pod != "") {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		known = r.o.Containers.Lookup(ctx, splitIDs(ids), pod)
		cancel()
	}
	key := raw.Hash()
	r.mu.Lock()
	f, ok := r.finished[key]
	r.mu.Unlock()
	if ok && labels.Equal(f.raw, raw) && labels.Equal(f.known, known) {
		return f.final
	}
	f = finished{raw, known, r.finish(raw, known)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.finished) >= r.o.CacheSize {
		clear(r.finished)
	}
	r.finished[key] = f
	return f.final
}

// finished are labels, and what they follow from.
type finished struct{ raw, known, final labels.Labels }

// finish makes labels of what is known about a process and its container.
func (r *Resolver) finish(raw, known labels.Labels) labels.Labels {
	b := labels.NewBuilder(raw)
	known.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	setDefaults(b)
	if !r.o.Rules.Apply(b) {
		return labels.EmptyLabels()
	}
	b.Range(func(l labels.Label) {
		if strings.HasPrefix(l.Name, "__") {
			b.Del(l.Name)
		} else {
			b.Set(l.Name, labelValue(l.Value))
		}
	})
	if b.Get(LabelService) == "" {
		b.Set(LabelService, unknown)
	}
	return b.Labels()
}

func splitIDs(ids string) []string {
	if ids == "" {
		return nil
	}
	return strings.Split(ids, ",")
}

// setDefaults sets the labels that processes have without rules: those of cAdvisor and
// kube-state-metrics, the workload as in kubernetes-mixin's rules, and the service.
func setDefaults(b *labels.Builder) {
	set := func(name string, values ...string) {
		if v := cmp.Or(values...); v != "" {
			b.Set(name, v)
		}
	}
	id := b.Get(metaContainer)
	name := strings.TrimPrefix(b.Get(metaDockerName), "/")
	pod := cmp.Or(b.Get(metaPodName), b.Get(metaDockerPod))
	set(LabelNamespace, b.Get(metaNamespace), b.Get(metaDockerNamespace))
	set(LabelPod, pod)
	set(LabelNode, b.Get(metaPodNode), b.Get(LabelNode))
	set(LabelWorkload, b.Get(metaWorkload))
	set(LabelWorkloadType, strings.ToLower(b.Get(metaWorkloadKind)))
	container := cmp.Or(b.Get(metaPodContainer), b.Get(metaDockerContainer))
	if pod == "" {
		set(LabelName, name)
		container = cmp.Or(name, id)
	}
	set(LabelContainer, container)
	if len(id) == 64 {
		id = id[:shortID]
	}
	// A pod has another name for each replica, as has what Docker calls its container.
	if pod != "" {
		name, id = container, ""
	}
	set(LabelService,
		b.Get(rawService),
		b.Get(metaPodService), b.Get(metaWorkload),
		b.Get(metaCompose), b.Get(metaSwarm), name, id,
		b.Get(rawProgram), unknown)
}
