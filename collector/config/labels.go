package config

import (
	"errors"
	"fmt"
	"time"

	promconfig "github.com/prometheus/common/config"

	"github.com/flameline/flameline/collector/relabel"
)

// Labels says where the labels of this machine's processes come from.
type Labels struct {
	// Node is the label node. Empty means the environment's NODE_NAME, or else the host
	// name.
	Node string `yaml:"node"`
	// Cluster is the label cluster; empty means none.
	Cluster    string     `yaml:"cluster"`
	Kubernetes Kubernetes `yaml:"kubernetes"`
	Docker     Docker     `yaml:"docker"`
	// RelabelConfigs change the labels of each process.
	RelabelConfigs relabel.Rules `yaml:"relabel_configs"`
}

// Kubernetes configures where the names of pods come from.
type Kubernetes struct {
	// Enabled is auto for where this process runs in a pod with a service account.
	Enabled Mode `yaml:"enabled"`
	// From is kubelet or api_server.
	From string `yaml:"from"`
	// URL is the server's address. Empty means the cluster's API server, or the kubelet
	// of the node at port 10250.
	URL             string   `yaml:"url"`
	RefreshInterval Duration `yaml:"refresh_interval"`
	// HTTPClientConfig has Prometheus' keys for credentials and TLS. Those that are not
	// set are the service account's.
	HTTPClientConfig promconfig.HTTPClientConfig `yaml:",inline"`
}

// Values of Kubernetes.From.
const (
	FromKubelet   = "kubelet"
	FromAPIServer = "api_server"
)

// Docker configures where the names of other containers come from.
type Docker struct {
	// Enabled is auto for where one of the sockets exists.
	Enabled Mode `yaml:"enabled"`
	// Sockets are the paths of Docker's and Podman's Unix sockets.
	Sockets         []string `yaml:"sockets"`
	RefreshInterval Duration `yaml:"refresh_interval"`
}

func defaultLabels() Labels {
	return Labels{
		Kubernetes: Kubernetes{
			Enabled: Auto, From: FromAPIServer, RefreshInterval: Duration(30 * time.Second),
			HTTPClientConfig: promconfig.DefaultHTTPClientConfig,
		},
		Docker: Docker{
			Enabled: Auto, Sockets: []string{"/var/run/docker.sock", "/run/podman/podman.sock"}, RefreshInterval: Duration(30 * time.Second),
		},
		RelabelConfigs: relabel.Rules{},
	}
}

// UnmarshalYAML reads the labels over the defaults and validates the rules, so that an
// error has the line of the rule.
func (l *Labels) UnmarshalYAML(unmarshal func(any) error) error {
	type plain Labels
	if err := unmarshal((*plain)(l)); err != nil {
		return err
	}
	return l.RelabelConfigs.Validate()
}

// validate returns an error for the first invalid key.
func (l *Labels) validate() error {
	if from := l.Kubernetes.From; from != FromKubelet && from != FromAPIServer {
		return fmt.Errorf("kubernetes.from: %q is neither %s nor %s", from, FromKubelet, FromAPIServer)
	}
	if err := l.Kubernetes.HTTPClientConfig.Validate(); err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	for key, interval := range map[string]Duration{"kubernetes": l.Kubernetes.RefreshInterval, "docker": l.Docker.RefreshInterval} {
		if i := time.Duration(interval); i < time.Second || i > time.Hour {
			return fmt.Errorf("%s.refresh_interval: %s is not within 1s and 1h", key, interval)
		}
	}
	if l.Docker.Enabled == True && len(l.Docker.Sockets) == 0 {
		return errors.New("docker.sockets: is empty")
	}
	return l.RelabelConfigs.Validate()
}
