package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/flameline/flameline/e2e/load"
)

const provisioning = "../provisioning"

func readProvisioned(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(provisioning, path))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// dataSources returns the provisioned data sources' types by UID.
func dataSources(t *testing.T) map[string]string {
	t.Helper()
	var file struct {
		Datasources []struct {
			UID, Type string
			JSONData  struct {
				PrometheusType string `yaml:"prometheusType"`
			} `yaml:"jsonData"`
		}
	}
	if err := yaml.Unmarshal(readProvisioned(t, "grafana/datasources/datasources.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	types := map[string]string{}
	for _, s := range file.Datasources {
		types[s.UID] = s.Type
		if s.Type == "prometheus" && s.JSONData.PrometheusType != "Prometheus" {
			t.Errorf("%s has the type %q: Grafana would write recording rules to the path of Mimir", s.UID, s.JSONData.PrometheusType)
		}
	}
	return types
}

// TestRules lets Prometheus check the configuration, the rules and what they
// do, the alert's link included.
func TestRules(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is not on PATH; it comes with Prometheus")
	}
	for _, args := range [][]string{
		{"check", "config", filepath.Join(provisioning, "prometheus", "prometheus.yaml")},
		{"test", "rules", filepath.Join(provisioning, "prometheus", "rules_test.yaml")},
	} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestScrapeConfig checks that Prometheus scrapes each load program where it
// listens, often enough for the dashboard's step, under the name by which its
// profiles go.
func TestScrapeConfig(t *testing.T) {
	var file struct {
		Global struct {
			ScrapeInterval string `yaml:"scrape_interval"`
		}
		ScrapeConfigs []struct {
			StaticConfigs []struct {
				Targets []string
				Labels  map[string]string
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(readProvisioned(t, "prometheus/prometheus.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	services := map[string]string{}
	for _, s := range file.ScrapeConfigs {
		for _, c := range s.StaticConfigs {
			services[c.Labels["service_name"]] = c.Targets[0]
		}
	}
	for _, p := range load.Programs() {
		if services[p.Service] != p.Address {
			t.Errorf("Prometheus scrapes %s at %q, it listens on %s", p.Service, services[p.Service], p.Address)
		}
	}
	scrape, err := time.ParseDuration(file.Global.ScrapeInterval)
	if err != nil {
		t.Fatal(err)
	}
	smallest, _ := dashboards(t)["cpu.json"].variable("step").Current.Value.(string)
	step, err := time.ParseDuration(smallest)
	if err != nil {
		t.Fatal(err)
	}
	if step < 2*scrape {
		t.Errorf("a step of %s holds less than two scrapes, one every %s", step, scrape)
	}
}
