package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/flameline/flameline/e2e/load"
	"github.com/flameline/flameline/e2e/proc"
)

// nobody is the user and the group without rights on Debian and elsewhere.
const nobody = 65534

// TestUnprivileged runs the collector without rights: the eBPF source is off,
// the service says so once and in its status, and profiles pulled from the
// order service show its stacks all the same.
func TestUnprivileged(t *testing.T) {
	dir := openDir(t)
	order := load.Programs()[0]
	target, err := proc.FreeAddress("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := order.Build(t.Context(), "..", dir, target, "--spike.first", "0s", "--spike.every", "0s")
	if err != nil {
		t.Fatal(err)
	}
	startProgram(t, spec, "http://"+target+"/metrics")

	listen, err := proc.FreeAddress("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config, err := yaml.Marshal(map[string]any{
		"web":     map[string]any{"listen_address": listen},
		"storage": map[string]any{"path": filepath.Join(dir, "data", "store")},
		"scrape_configs": []any{map[string]any{
			"job_name":        "load",
			"scrape_interval": "5s",
			"static_configs": []any{map[string]any{
				"targets": []string{target},
				"labels":  map[string]string{"service_name": order.Service},
			}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "flameline.yaml")
	if err := os.WriteFile(file, config, 0o644); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "flameline.log")
	serve := proc.Spec{
		Name: "flameline",
		Args: []string{copyProgram(t, demoCollector(t), dir), "serve", "--config.file", file},
		Log:  log,
	}
	if os.Geteuid() == 0 {
		serve.User, serve.Group = nobody, nobody
	}
	begin := time.Now()
	p := startProgram(t, serve, "http://"+listen+"/ready")

	var status json.RawMessage
	if err := getJSON(t.Context(), "http://"+listen+"/api/v1/status", &status); err != nil {
		t.Fatal(err)
	}
	var parsed struct {
		EBPF struct{ State, Reason string }
	}
	if err := json.Unmarshal(status, &parsed); err != nil {
		t.Fatal(err)
	}
	if parsed.EBPF.State != "off" || parsed.EBPF.Reason == "" {
		t.Errorf("status is %s, want eBPF off with a reason", status)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(strings.ToLower(string(text)), "ebpf"); n == 0 {
		t.Errorf("the log does not say that eBPF is off:\n%s", text)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = p.Await(ctx, func(ctx context.Context) error {
		tree, err := mergedTree(ctx, "http://"+listen, cpuType, `{service_name="order"}`, begin.UnixMilli(), time.Now().UnixMilli())
		if err != nil {
			return err
		}
		if len(tree.Nodes) < 2 {
			return errors.New("no profile yet")
		}
		if path := widestPath(tree); !inOrder(path, "net/http.(*conn).serve", "main.(*server).handleOrder", "main.validateOrder", "regexp.Compile") {
			return fmt.Errorf("the widest path is\n\t%s", strings.Join(path, "\n\t"))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// openDir returns a folder that every user may read, with a folder "data" in it
// that nobody owns.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "flameline-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	data := filepath.Join(dir, "data")
	err = errors.Join(os.Chmod(dir, 0o755), os.Mkdir(data, 0o755))
	if os.Geteuid() == 0 {
		err = errors.Join(err, os.Chown(data, nobody, nobody))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyProgram copies a program to where every user may run it.
func copyProgram(t *testing.T, path, dir string) string {
	t.Helper()
	from, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	name := filepath.Join(dir, filepath.Base(path))
	to, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

// startProgram starts a program for the length of a test and waits until the
// address answers.
func startProgram(t testing.TB, s proc.Spec, ready string) *proc.Process {
	t.Helper()
	p, err := proc.Start(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop(30 * time.Second)
		if text, err := os.ReadFile(s.Log); err == nil && t.Failed() {
			t.Logf("the end of the log of %s:\n%s", s.Name, text[max(0, len(text)-4000):])
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := p.Await(ctx, proc.Answers(ready)); err != nil {
		t.Fatal(err)
	}
	return p
}
