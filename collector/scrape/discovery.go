package scrape

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/dns"
	"github.com/prometheus/prometheus/discovery/file"
	"github.com/prometheus/prometheus/discovery/http"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/moby"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

// Discovery has the lists of targets and the mechanisms that find them, with
// Prometheus' keys. All that are given are used together.
type Discovery struct {
	StaticConfigs       []*targetgroup.Group   `yaml:"static_configs,omitempty"`
	FileSDConfigs       []*file.SDConfig       `yaml:"file_sd_configs,omitempty"`
	HTTPSDConfigs       []*http.SDConfig       `yaml:"http_sd_configs,omitempty"`
	DNSSDConfigs        []*dns.SDConfig        `yaml:"dns_sd_configs,omitempty"`
	DockerSDConfigs     []*moby.DockerSDConfig `yaml:"docker_sd_configs,omitempty"`
	KubernetesSDConfigs []*kubernetes.SDConfig `yaml:"kubernetes_sd_configs,omitempty"`
}

// mechanisms returns the mechanisms of targets that move, which static_configs is not.
func (d *Discovery) mechanisms() discovery.Configs {
	var out discovery.Configs
	for _, c := range d.FileSDConfigs {
		out = append(out, c)
	}
	for _, c := range d.HTTPSDConfigs {
		out = append(out, c)
	}
	for _, c := range d.DNSSDConfigs {
		out = append(out, c)
	}
	for _, c := range d.DockerSDConfigs {
		out = append(out, c)
	}
	for _, c := range d.KubernetesSDConfigs {
		out = append(out, c)
	}
	return out
}

// validate refuses empty entries. What is in the others was validated when it was read.
func (d *Discovery) validate() error {
	for key, empty := range map[string]bool{
		"static_configs":        slices.Contains(d.StaticConfigs, nil),
		"file_sd_configs":       slices.Contains(d.FileSDConfigs, nil),
		"http_sd_configs":       slices.Contains(d.HTTPSDConfigs, nil),
		"dns_sd_configs":        slices.Contains(d.DNSSDConfigs, nil),
		"docker_sd_configs":     slices.Contains(d.DockerSDConfigs, nil),
		"kubernetes_sd_configs": slices.Contains(d.KubernetesSDConfigs, nil),
	} {
		if empty {
			return wrong(key, "has an empty entry")
		}
	}
	return nil
}

func (d *Discovery) setDirectory(dir string) {
	for _, m := range d.mechanisms() {
		if of, ok := m.(promconfig.DirectorySetter); ok {
			of.SetDirectory(dir)
		}
	}
}

// groups returns the targets of static_configs and those that were discovered, always
// in the same order.
func (d *Discovery) groups(discovered []*targetgroup.Group) []*targetgroup.Group {
	out := make([]*targetgroup.Group, 0, len(d.StaticConfigs)+len(discovered))
	for i, g := range d.StaticConfigs {
		out = append(out, &targetgroup.Group{Targets: g.Targets, Labels: g.Labels, Source: "static_configs[" + strconv.Itoa(i) + "]"})
	}
	discovered = slices.Clone(discovered)
	slices.SortStableFunc(discovered, func(a, b *targetgroup.Group) int { return cmp.Compare(a.Source, b.Source) })
	return append(out, discovered...)
}

// discover makes the mechanisms of all jobs run, and those of former ones end. They are
// prepared when the first job has one, so that a service without them has none of their
// metrics. The caller holds mu.
func (m *Manager) discover() error {
	all := map[string]discovery.Configs{}
	for _, c := range m.configs {
		if found := c.mechanisms(); len(found) > 0 {
			all[c.JobName] = found
		}
	}
	if m.discovery == nil {
		if len(all) == 0 {
			return nil
		}
		reg := m.o.Registerer
		if reg == nil {
			reg = prometheus.NewRegistry()
		}
		metrics, err := discovery.CreateAndRegisterSDMetrics(reg)
		if err != nil {
			return fmt.Errorf("register metrics of service discovery: %w", err)
		}
		m.discovery = discovery.NewManager(m.ctx, m.log, reg, metrics)
		if m.discovery == nil { // it logs the reason
			return errors.New("service discovery: its metrics cannot be registered")
		}
		m.background.Go(func() { _ = m.discovery.Run() }) // returns the context's error
		m.background.Go(func() { m.follow(m.ctx, m.discovery.SyncCh()) })
	}
	return m.discovery.ApplyConfig(all)
}

// follow applies what is discovered to the jobs until ctx ends.
func (m *Manager) follow(ctx context.Context, found <-chan map[string][]*targetgroup.Group) {
	for {
		select {
		case <-ctx.Done():
			return
		case groups, ok := <-found:
			if !ok {
				return
			}
			m.mu.Lock()
			for name, j := range m.jobs {
				if len(j.config.mechanisms()) > 0 {
					j.sync(groups[name])
				}
			}
			m.mu.Unlock()
		}
	}
}
