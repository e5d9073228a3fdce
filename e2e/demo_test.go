package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flameline/flameline/e2e/load"
	"github.com/flameline/flameline/e2e/proc"
)

// How long the demo is measured: long enough for shares within a point, and a
// multiple of the interval at which profiles are cut.
const (
	measured = 2 * time.Minute
	interval = 5 * time.Second
)

// TestDemo runs the demo as people do. Each load program's hot functions must
// stand under their callers with the share that the program's own clocks give,
// the alert's link must lead to the line at fault, and Ctrl-C must leave
// nothing behind.
func TestDemo(t *testing.T) {
	d := startDemo(t)
	d.requireEBPF(t)

	from := time.Now().Truncate(interval).Add(interval)
	before := d.usageAt(t, from)
	to := from.Add(measured)
	after := d.usageAt(t, to)
	for _, p := range load.Programs() {
		t.Run(p.Service, func(t *testing.T) {
			used := after[p.Service].Since(before[p.Service])
			tree := awaitTree(t, d.process, d.page, p.Service, from, to)
			checkFunctions(t, p, tree, used)
		})
	}
	t.Run("alert", func(t *testing.T) {
		link := d.awaitAlert(t, "order")
		target := follow(t, link)
		tree := drilldownTree(t, d.page, target)
		path := widestPath(tree)
		if !inOrder(path, "main.validateOrder", "regexp.Compile") {
			t.Errorf("%s led to %s, whose widest path is\n\t%s\nwant validateOrder over regexp.Compile",
				link, target, strings.Join(path, "\n\t"))
		}
	})
	d.interrupt(t)
}

// A runningDemo is the demo under test.
type runningDemo struct {
	process *proc.Process
	log     string
	page    string            // address of the built-in page
	metrics string            // address of Prometheus
	loads   map[string]string // host:port by service
}

// startDemo starts the demo and waits until it says that it is ready.
func startDemo(t *testing.T) *runningDemo {
	t.Helper()
	for _, p := range load.Programs() {
		if lacks := p.Missing(); lacks != "" {
			t.Fatalf("%s is not on PATH; the demo's load in %s takes it", lacks, p.Language)
		}
	}
	if _, err := exec.LookPath("prometheus"); err != nil && os.Getenv("PROMETHEUS_BIN") == "" {
		t.Fatal("prometheus is not on PATH and PROMETHEUS_BIN is not set; the demo's alert takes it")
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "demo")
	if out, err := exec.Command("go", "build", "-o", binary, "./demo").CombinedOutput(); err != nil {
		t.Fatalf("build the demo: %v\n%s", err, out)
	}
	d := &runningDemo{log: filepath.Join(dir, "demo.log"), loads: map[string]string{}}
	var err error
	d.process, err = proc.Start(proc.Spec{
		Name: "demo",
		Args: []string{
			binary, "--root", "..", "--flameline", demoCollector(t), "--plugin", filepath.Join("..", "dist"),
			"--dir", filepath.Join(dir, "data"), "--spike.first", "60s",
		},
		Log: d.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.process.Stop(time.Minute)
		if t.Failed() {
			t.Logf("what the demo said:\n%s", d.said(t))
			for _, name := range []string{"flameline.log", "prometheus.log"} {
				if text, err := os.ReadFile(filepath.Join(dir, "data", name)); err == nil {
					t.Logf("the end of %s:\n%s", name, text[max(0, len(text)-4000):])
				}
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := d.process.Await(ctx, func(context.Context) error {
		if !strings.Contains(d.said(t), "Ctrl-C stops everything") {
			return errors.New("the demo has not printed its tour")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	d.readAddresses(t)
	return d
}

// demoCollector returns the collector that FLAMELINE_BIN names, or builds it.
func demoCollector(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("FLAMELINE_BIN"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "flameline")
	cmd := exec.Command("go", "build", "-o", path, "../collector")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the collector: %v\n%s", err, out)
	}
	return path
}

func (d *runningDemo) said(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(d.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// readAddresses reads what the demo says that it listens on.
func (d *runningDemo) readAddresses(t *testing.T) {
	t.Helper()
	said := d.said(t)
	for _, m := range regexp.MustCompile(`load in \w+: (\w+), http://(\S+)/metrics`).FindAllStringSubmatch(said, -1) {
		d.loads[m[1]] = m[2]
	}
	for heading, address := range map[string]*string{
		"Profiles (built-in page)": &d.page,
		"Metrics (Prometheus)":     &d.metrics,
	} {
		m := regexp.MustCompile(regexp.QuoteMeta(heading) + `\s+(http://\S+)`).FindStringSubmatch(said)
		if m == nil {
			t.Fatalf("the demo does not say where to find %s", heading)
		}
		*address = m[1]
	}
	for _, p := range load.Programs() {
		if d.loads[p.Service] == "" {
			t.Fatalf("the demo does not say that %s runs", p.Service)
		}
	}
}

func (d *runningDemo) requireEBPF(t *testing.T) {
	t.Helper()
	if !strings.Contains(d.said(t), "samples every process") {
		t.Fatal("eBPF is not permitted here; this test takes root, or the capabilities BPF, PERFMON and SYS_PTRACE, and a kernel with BTF")
	}
}

// usageAt waits for a moment and reads the CPU time of all load programs.
func (d *runningDemo) usageAt(t *testing.T, at time.Time) map[string]load.Usage {
	t.Helper()
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-d.process.Done():
		t.Fatal("the demo ended: ", d.process.Err())
	}
	usage := map[string]load.Usage{}
	for service, address := range d.loads {
		u, err := load.ReadUsage(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		usage[service] = u
	}
	return usage
}

// awaitAlert waits until Prometheus has the alert HighCPU of a service and
// returns its link to the built-in page.
func (d *runningDemo) awaitAlert(t *testing.T, service string) string {
	t.Helper()
	var link string
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	err := d.process.Await(ctx, func(ctx context.Context) error {
		var answer struct {
			Data struct {
				Alerts []struct {
					State               string
					Labels, Annotations map[string]string
				}
			}
		}
		if err := getJSON(ctx, d.metrics+"/api/v1/alerts", &answer); err != nil {
			return err
		}
		for _, a := range answer.Data.Alerts {
			if a.Labels["alertname"] == "HighCPU" && a.Labels["service_name"] == service && a.State == "firing" {
				link = a.Annotations["profile_page"]
				return nil
			}
		}
		return fmt.Errorf("alert HighCPU of %s does not fire: %+v", service, answer.Data.Alerts)
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(link, d.page) || !strings.Contains(link, "startsAt=2") {
		t.Fatalf("the alert's link is %q, want one to %s with the time", link, d.page)
	}
	return link
}

// interrupt presses Ctrl-C and checks that nothing is left.
func (d *runningDemo) interrupt(t *testing.T) {
	t.Helper()
	children := descendants(t, d.process.PID())
	if len(children) < 6 {
		t.Errorf("the demo has %d programs, want five loads, flameline and Prometheus", len(children))
	}
	if err := d.process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.process.Done():
	case <-time.After(2 * time.Minute):
		t.Fatal("the demo does not end on Ctrl-C")
	}
	if err := d.process.Err(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	for pid, name := range children {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s (process %d) is left behind", name, pid)
		}
	}
}

// descendants returns the processes below pid with their command lines.
func descendants(t *testing.T, pid int) map[int]string {
	t.Helper()
	found := map[int]string{}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread is gone
		}
		for field := range strings.FieldsSeq(string(text)) {
			var child int
			if _, err := fmt.Sscan(field, &child); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child)) // for messages only
			found[child] = string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
			for pid, name := range descendants(t, child) {
				found[pid] = name
			}
		}
	}
	return found
}

// getJSON reads a JSON document over HTTP.
func getJSON(ctx context.Context, address string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", address, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// follow returns where a link redirects to.
func follow(t *testing.T, link string) *url.URL {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(link)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	target, err := resp.Location()
	if err != nil {
		t.Fatalf("%s answers %s: %v", link, resp.Status, err)
	}
	return target
}
