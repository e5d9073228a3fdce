package containers

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/strutil"
)

// A podList is the part of Kubernetes' v1.PodList that is read.
type podList struct {
	Items []pod `json:"items"`
}

type pod struct {
	Metadata struct {
		Name            string            `json:"name"`
		Namespace       string            `json:"namespace"`
		UID             string            `json:"uid"`
		Labels          map[string]string `json:"labels"`
		Annotations     map[string]string `json:"annotations"`
		OwnerReferences []owner           `json:"ownerReferences"`
	} `json:"metadata"`
	Spec struct {
		NodeName string `json:"nodeName"`
	} `json:"spec"`
	Status struct {
		HostIP    string            `json:"hostIP"`
		PodIP     string            `json:"podIP"`
		Init      []containerStatus `json:"initContainerStatuses"`
		Usual     []containerStatus `json:"containerStatuses"`
		Ephemeral []containerStatus `json:"ephemeralContainerStatuses"`
	} `json:"status"`
}

type owner struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Controller bool   `json:"controller"`
}

type containerStatus struct {
	Name        string         `json:"name"`
	ContainerID string         `json:"containerID"` // RUNTIME://ID
	Image       string         `json:"image"`
	State       containerState `json:"state"`
	// LastState has the container that ran before this one was started in its place.
	LastState containerState `json:"lastState"`
}

type containerState struct {
	Terminated struct {
		ContainerID string `json:"containerID"`
	} `json:"terminated"`
}

// maxMeta bounds labels and annotations: longer ones, such as a whole configuration, are
// left out.
const maxMeta = 1024

// Annotations of pods that a kubelet's own files define.
const (
	// hashAnnotation is the UID by which the kubelet knows such a pod, which is in the
	// names of its control groups; the API server has another UID for it.
	hashAnnotation   = "kubernetes.io/config.hash"
	mirrorAnnotation = "kubernetes.io/config.mirror"
	sourceAnnotation = "kubernetes.io/config.source"
)

// appendFound appends what is known about a pod and its containers.
func (p *pod) appendFound(all []found) []found {
	base := map[string]string{}
	set := func(name, value string) {
		if value != "" {
			base["__meta_kubernetes_"+name] = value
		}
	}
	m := &p.Metadata
	set("namespace", m.Namespace)
	set("pod_name", m.Name)
	set("pod_uid", m.UID)
	set("pod_ip", p.Status.PodIP)
	set("pod_host_ip", p.Status.HostIP)
	set("pod_node_name", p.Spec.NodeName)
	addMeta(base, "__meta_kubernetes_pod_label", m.Labels)
	addMeta(base, "__meta_kubernetes_pod_annotation", m.Annotations)
	for _, o := range m.OwnerReferences {
		if o.Controller {
			set("pod_controller_kind", o.Kind)
			set("pod_controller_name", o.Name)
		}
	}
	kind, name := p.workload()
	set("workload_kind", kind)
	set("workload_name", name)
	switch kind {
	case "Deployment":
		set("pod_deployment_name", name)
	case "CronJob":
		set("pod_cronjob_name", name)
	}
	if o := p.controller(); o.Kind == "Job" {
		set("pod_job_name", o.Name)
	}
	of := labels.FromMap(base)
	for _, uid := range []string{m.UID, m.Annotations[hashAnnotation]} {
		if uid != "" {
			all = append(all, found{podKey(uid), of})
		}
	}
	for _, group := range []struct {
		statuses []containerStatus
		init     bool
	}{{p.Status.Init, true}, {p.Status.Usual, false}, {p.Status.Ephemeral, false}} {
		for i := range group.statuses {
			c := &group.statuses[i]
			seen := map[string]bool{}
			for _, address := range []string{c.ContainerID, c.State.Terminated.ContainerID, c.LastState.Terminated.ContainerID} {
				runtime, id, _ := strings.Cut(address, "://")
				if id == "" || seen[id] {
					continue
				}
				seen[id] = true
				b := labels.NewBuilder(of)
				b.Set("__meta_kubernetes_pod_container_name", c.Name)
				b.Set("__meta_kubernetes_pod_container_id", address)
				b.Set("__meta_kubernetes_pod_container_image", c.Image)
				b.Set("__meta_kubernetes_pod_container_init", strconv.FormatBool(group.init))
				b.Set("__meta_container_runtime", runtime)
				all = append(all, found{id, b.Labels()})
			}
		}
	}
	return all
}

// controller returns what manages the pod, a zero owner if nothing does.
func (p *pod) controller() owner {
	for _, o := range p.Metadata.OwnerReferences {
		if o.Controller {
			return o
		}
	}
	return owner{}
}

// cronRun matches the end of the name that a CronJob gives to a Job: the planned time, in
// minutes since 1970, before Kubernetes 1.21 in seconds.
var cronRun = regexp.MustCompile(`^(.+)-[0-9]{8,10}$`)

// workload returns what the pod is a part of: of a ReplicaSet the Deployment, whose name
// its name begins with, and of a Job the CronJob. Pods without a controller are a
// workload of their own, those of a kubelet's own files without the node's name in
// theirs.
func (p *pod) workload() (kind, name string) {
	m, o := &p.Metadata, p.controller()
	switch {
	case o.Kind == "ReplicaSet":
		if name, ok := strings.CutSuffix(o.Name, "-"+m.Labels["pod-template-hash"]); ok && name != "" {
			return "Deployment", name
		}
		if name, ok := strings.CutSuffix(o.Name, "-"+m.Labels["rollouts-pod-template-hash"]); ok && name != "" {
			return "Rollout", name
		}
	case o.Kind == "Job":
		if run := cronRun.FindStringSubmatch(o.Name); run != nil {
			return "CronJob", run[1]
		}
	case o.Kind == "Node" || m.Annotations[mirrorAnnotation] != "" || o.Kind == "" && m.Annotations[sourceAnnotation] == "file":
		return "StaticPod", strings.TrimSuffix(m.Name, "-"+p.Spec.NodeName)
	case o.Kind == "":
		return "BarePod", m.Name
	}
	return o.Kind, o.Name
}

// addMeta adds labels or annotations, each as PREFIX_NAME and PREFIXpresent_NAME. Of
// names that differ in characters that a label's name cannot have, the first counts.
func addMeta(to map[string]string, prefix string, values map[string]string) {
	for _, name := range slices.SortedFunc(maps.Keys(values), cmp.Compare[string]) {
		value, key := values[name], strutil.SanitizeLabelName(name)
		if _, taken := to[prefix+"present_"+key]; taken || len(value) > maxMeta || len(name) > maxMeta {
			continue
		}
		to[prefix+"_"+key] = value
		to[prefix+"present_"+key] = "true"
	}
}
