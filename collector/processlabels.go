package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/containers"
	"github.com/flameline/flameline/collector/target"
)

// serviceAccount is where Kubernetes mounts a pod's credentials.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// startLabels returns what finds the labels of this machine's processes. It asks
// Kubernetes and Docker, if they are there, until stop is called.
func startLabels(ctx context.Context, c *config.Config, logger *slog.Logger, reg prometheus.Registerer) (targets *target.Resolver, stop func(), err error) {
	l := c.Labels
	l.Node = cmp.Or(l.Node, os.Getenv("NODE_NAME"))
	o := target.Options{
		Logger:     logger.With("component", "target"),
		Registerer: reg,
		Node:       l.Node,
		Cluster:    l.Cluster,
		Rules:      l.RelabelConfigs,
	}
	if c.EBPF.Enabled == config.False && !c.Java.Enabled { // nobody needs them
		return target.New(o), func() {}, nil
	}
	var set containers.Set
	common := containers.Options{Logger: logger.With("component", "containers"), Metrics: containers.NewMetrics(reg)}
	if kubernetesEnabled(l.Kubernetes) {
		common.Interval = time.Duration(l.Kubernetes.RefreshInterval)
		source, err := newKubernetes(l, common)
		if err != nil {
			return nil, nil, fmt.Errorf("labels.kubernetes: %w", err)
		}
		set = append(set, source)
	}
	if l.Docker.Enabled != config.False {
		common.Interval = time.Duration(l.Docker.RefreshInterval)
		for _, socket := range distinct(l.Docker.Sockets) {
			set = append(set, containers.NewDocker(socket, l.Docker.Enabled == config.True, common))
		}
	}
	if len(set) == 0 {
		return target.New(o), func() {}, nil
	}
	o.Containers = set
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		set.Run(ctx)
	}()
	return target.New(o), func() {
		cancel()
		<-ended
	}, nil
}

// distinct leaves out sockets that are links to one before: podman-docker links Docker's
// to Podman's.
func distinct(sockets []string) (all []string) {
	var seen []string
	for _, socket := range sockets {
		file, err := filepath.EvalSymlinks(socket)
		if err != nil {
			file = socket // does not exist yet
		}
		if !slices.Contains(seen, file) {
			seen, all = append(seen, file), append(all, socket)
		}
	}
	return all
}

// kubernetesEnabled reports whether Kubernetes is asked: auto means in a pod with a
// service account.
func kubernetesEnabled(k config.Kubernetes) bool {
	if k.Enabled != config.Auto {
		return k.Enabled == config.True
	}
	_, err := os.Stat(filepath.Join(serviceAccount, "token"))
	return err == nil && (os.Getenv("KUBERNETES_SERVICE_HOST") != "" || k.URL != "")
}

// newKubernetes returns the source of pods that is configured. The service account's
// token and certificate serve where no others are set.
func newKubernetes(l config.Labels, o containers.Options) (*containers.Source, error) {
	k := l.Kubernetes
	kubelet := k.From == config.FromKubelet
	host, _ := os.Hostname()
	node, address := cmp.Or(l.Node, host), k.URL
	switch {
	case address != "":
	case kubelet:
		address = "https://" + net.JoinHostPort(cmp.Or(os.Getenv("NODE_IP"), node), "10250")
	case os.Getenv("KUBERNETES_SERVICE_HOST") == "":
		return nil, fmt.Errorf("url: is empty, and this is no pod, whose environment has KUBERNETES_SERVICE_HOST")
	default:
		address = "https://" + net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), cmp.Or(os.Getenv("KUBERNETES_SERVICE_PORT"), "443"))
	}
	h := k.HTTPClientConfig
	if token := filepath.Join(serviceAccount, "token"); exists(token) && h.Authorization == nil && h.BasicAuth == nil && h.OAuth2 == nil && h.TLSConfig.CertFile == "" && h.TLSConfig.Cert == "" {
		h.Authorization = &promconfig.Authorization{Type: "Bearer", CredentialsFile: token}
	}
	if ca := filepath.Join(serviceAccount, "ca.crt"); exists(ca) && h.TLSConfig.CAFile == "" && h.TLSConfig.CA == "" && h.TLSConfig.CARef == "" {
		h.TLSConfig.CAFile = ca
	}
	client, err := promconfig.NewClientFromConfig(h, "kubernetes")
	if err != nil {
		return nil, err
	}
	return containers.NewKubernetes(client, address, kubelet, node, o)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// rawTargets gives the sampler what is known about a process at once. Labels are finished
// when a window is over.
type rawTargets struct{ *target.Resolver }

func (r rawTargets) Labels(pid int, hint target.Hint) labels.Labels { return r.Raw(pid, hint) }
