package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/target"
)

// TestServeRecordsJVMs has the service record a running JVM, ends the service without a
// chance to clean up, and has another one take over, which leaves nothing behind.
func TestServeRecordsJVMs(t *testing.T) {
	if testing.Short() {
		t.Skip("left out by -short: it records a JVM")
	}
	dir := t.TempDir()
	runBuild(t, requireTool(t, "javac", "default-jdk-headless"), "-d", dir, "java/testdata/Alloc.java")
	jvm := exec.Command(requireTool(t, "java", "default-jdk-headless"), "-Xmx256m", "-cp", dir, "Alloc", "1000")
	service := fmt.Sprintf("alloc-%d", os.Getpid())
	jvm.Env = append(os.Environ(), "OTEL_SERVICE_NAME="+service)
	require.NoError(t, jvm.Start())
	t.Cleanup(func() { _ = jvm.Process.Kill(); _ = jvm.Wait() })

	file := filepath.Join(dir, "flameline.yml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil,
		"storage: {path: %s}\nebpf: {enabled: false}\njava: {enabled: true, interval: 5s, selector: '{service_name=%q}'}\n", filepath.Join(dir, "store"), service), 0o600))
	p := launch(t, nil, "--config.file", file)
	p.waitReady(t)
	attached := func(p *process) func() bool {
		return func() bool {
			_, text := p.get("/metrics")
			return strings.Contains(text, "\nflameline_java_attached 1\n")
		}
	}
	require.Eventually(t, attached(p), time.Minute, 50*time.Millisecond)
	p.end(syscall.SIGKILL)

	p = launch(t, nil, "--config.file", file)
	p.waitReady(t)
	require.Eventually(t, attached(p), time.Minute, 50*time.Millisecond)
	// The labels are those of the same process' CPU profiles.
	ls := target.New(target.Options{}).Labels(jvm.Process.Pid, target.Hint{})
	var matchers []string
	ls.Range(func(l labels.Label) { matchers = append(matchers, fmt.Sprintf("%s=%q", l.Name, l.Value)) })
	query := url.Values{"format": {"collapsed"}, "from": {"now-10m"}, "until": {"now"},
		"query": {"memory:alloc_sample_bytes:bytes:space:bytes{" + strings.Join(matchers, ",") + "}"}}.Encode()
	var seven, three float64
	require.Eventually(t, func() bool {
		status, text := p.get("/render?" + query)
		if status != http.StatusOK {
			return false
		}
		seven, three = 0, 0
		for stack, value := range parseFolded(t, text) {
			if strings.HasSuffix(stack, "Alloc.seven") {
				seven += value
			} else if strings.HasSuffix(stack, "Alloc.three") {
				three += value
			}
		}
		return seven > 0 && three > 0
	}, 2*time.Minute, 200*time.Millisecond)
	require.Greater(t, seven, three)
	p.end(syscall.SIGTERM)
	require.True(t, p.cmd.ProcessState.Success(), p.log)
	require.NotContains(t, p.log.String(), "level=WARN")
	out, err := exec.Command(requireTool(t, "jcmd", "default-jdk-headless"), fmt.Sprint(jvm.Process.Pid), "JFR.check").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "No available recordings")
	require.NoDirExists(t, fmt.Sprintf("/tmp/.flameline-java-%d", jvm.Process.Pid))
}
