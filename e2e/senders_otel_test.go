package e2e

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/flameline/flameline/e2e/proc"
)

// TestOTelSender has OpenTelemetry's own eBPF profiler sample this machine and
// export to the service over gRPC, and looks for what the JVM of Shop has done.
func TestOTelSender(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("OpenTelemetry's profiler has to run as root")
	}
	dir := t.TempDir()
	launch, profiler, classes := filepath.Join(dir, "launch"), filepath.Join(dir, "ebpf-profiler"), filepath.Join(dir, "classes")
	for _, args := range [][]string{{launch, "."}, {profiler, "go.opentelemetry.io/ebpf-profiler"}} {
		build := exec.Command("go", append([]string{"build", "-o"}, args...)...)
		build.Dir = filepath.Join("senders", "otel")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		output(t, build)
	}
	output(t, exec.Command("javac", "-d", classes, filepath.Join("senders", "java", "Shop.java")))

	address, since := startServer(t), time.Now()
	log := filepath.Join(dir, "ebpf-profiler.log")
	p, err := proc.Start(proc.Spec{
		Name: "OpenTelemetry's profiler", Log: log,
		Args: []string{launch, profiler, "-collection-agent", strings.TrimPrefix(address, "http://"), "-disable-tls",
			"-reporter-interval", "2s", "-env-vars", "SENDER"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop(30 * time.Second)
		if text, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("the end of the profiler's log:\n%s", text[max(0, len(text)-4000):])
		}
	})
	await := func(check func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := p.Await(ctx, check); err != nil {
			t.Fatal(err)
		}
	}
	await(func(context.Context) error {
		text, err := os.ReadFile(log)
		if err == nil && !strings.Contains(string(text), "Attached sched monitor") {
			err = fmt.Errorf("it does not say that it samples")
		}
		return err
	})

	shop := exec.Command("java", "-cp", classes, "Shop", "6")
	shop.Env = append(os.Environ(), "SENDER=otel")
	var priced, printed int64
	if _, err := fmt.Sscan(string(output(t, shop)), &priced, &printed); err != nil {
		t.Fatalf("read what Shop measured: %v", err)
	}

	// Of all processes, the one with this environment.
	selector := `{service_name="unknown_service:java", process_executable_name="java", process_environment_variable_SENDER="otel"}`
	work := []string{"void java.lang.Thread.run()", "void Shop.work(double)", "void Shop.checkout()"}
	var got [2]int64
	var total int64
	var changed time.Time
	await(func(ctx context.Context) error {
		tree, err := senderTree(ctx, address, "process_cpu:cpu:nanoseconds", selector)
		if err != nil {
			return err
		}
		for i, name := range []string{"void Shop.price(long)", "void Shop.receipt(long)"} {
			got[i] = functionTotal(tree, append(work[:3:3], name)...)
		}
		if share := float64(got[0]+got[1]) / float64(priced+printed); share < 0.8 {
			return fmt.Errorf("%.2f s of %.2f s have arrived; the widest path is %s", float64(got[0]+got[1])/1e9, float64(priced+printed)/1e9,
				strings.Join(widestPath(tree), " → "))
		}
		// The profiler leaves native symbols to its receivers.
		if native := regexp.MustCompile(`(?m)^libjvm\.so\+0x[0-9a-f]+$`); !native.MatchString(strings.Join(tree.Names, "\n")) {
			return fmt.Errorf("no frame of libjvm.so is shown by its place: %s", strings.Join(tree.Names, ", "))
		}
		// It reports every 2 s, and what it has of one process may come in two reports.
		if tree.Total() != total {
			total, changed = tree.Total(), time.Now()
		}
		if time.Since(changed) < 6*time.Second {
			return errors.New("samples are arriving still")
		}
		return nil
	})
	t.Logf("price: %.2f s of %.2f s, receipt: %.2f s of %.2f s", float64(got[0])/1e9, float64(priced)/1e9, float64(got[1])/1e9, float64(printed)/1e9)
	// Some 120 samples.
	if share := float64(got[0]) / float64(got[0]+got[1]); math.Abs(share-0.7) > 0.15 {
		t.Errorf("price has %.0f %% of the time, not 70", 100*share)
	}
	if sum := float64(got[0]+got[1]) / float64(priced+printed); sum > 1.2 {
		t.Errorf("%.0f %% of the time that Shop measured", 100*sum)
	}
	refusedNothing(t, address)
	agrees(t, address, since, "unknown_service:java")
}
