package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What the tests install, of Maven's repository.
const (
	javaAgent     = "io.pyroscope:agent:2.9.2"
	asyncProfiler = "tools.profiler:async-profiler:4.6"
	jfrConverter  = "tools.profiler:jfr-converter:4.5"
	mavenCopy     = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
)

// The stack of the JVM's hot functions, from the thread on.
var shopWork = []string{"java/lang/Thread.run", "Shop.work", "Shop.checkout"}

// A jvm holds what profiles Shop: the classes and the jars.
type jvm struct{ dir, classes, agent, profiler, converter string }

// newJVM installs the jars and compiles the programs.
func newJVM(t *testing.T) jvm {
	t.Helper()
	dir := t.TempDir()
	jar := func(artifact string) string {
		parts := strings.Split(artifact, ":")
		output(t, exec.Command("mvn", "--quiet", "--batch-mode", mavenCopy, "-Dartifact="+artifact, "-DoutputDirectory="+dir))
		return filepath.Join(dir, parts[1]+"-"+parts[2]+".jar")
	}
	j := jvm{dir: dir, classes: filepath.Join(dir, "classes"), agent: jar(javaAgent), converter: jar(jfrConverter)}
	output(t, exec.Command("javac", "-d", j.classes, "-cp", j.agent,
		filepath.Join("senders", "java", "Shop.java"), filepath.Join("senders", "java", "Labelled.java")))
	platform := map[string]string{"amd64": "linux-x64", "arm64": "linux-arm64"}[runtime.GOARCH]
	unpack := exec.Command("jar", "--extract", "--file", jar(asyncProfiler), platform+"/libasyncProfiler.so")
	unpack.Dir = dir
	output(t, unpack)
	j.profiler = filepath.Join(dir, platform, "libasyncProfiler.so")
	return j
}

// record runs Shop for some seconds of CPU time with a flag for the JVM, which
// writes a recording.
func (j jvm) record(t *testing.T, seconds, flag, file string) []byte {
	t.Helper()
	output(t, exec.Command("java", flag, "-cp", j.classes, "Shop", seconds))
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestJVMSenders has Pyroscope's Java agent push, and posts recordings of
// async-profiler and of the JDK. What is stored has to be all that those tools
// themselves find in the same recordings.
func TestJVMSenders(t *testing.T) {
	t.Parallel()
	address, since := startServer(t), time.Now()
	j := newJVM(t)
	t.Run("agent", func(t *testing.T) { j.testAgent(t, address) })
	t.Run("async-profiler", func(t *testing.T) { j.testAsyncProfiler(t, address) })
	t.Run("JDK", func(t *testing.T) { j.testFlightRecorder(t, address) })
	t.Run("JDK 25", func(t *testing.T) { j.testFlightRecorder25(t, address) })
	refusedNothing(t, address)
	agrees(t, address, since, "sender-java", "sender-asprof", "sender-jdk", "sender-jdk25", "unknown_service")
}

func (j jvm) testAgent(t *testing.T, address string) {
	cmd := exec.Command("java", "-javaagent:"+j.agent, "-cp", j.classes+":"+j.agent, "Labelled", "12")
	cmd.Env = append(os.Environ(),
		"PYROSCOPE_APPLICATION_NAME=sender-java", "PYROSCOPE_SERVER_ADDRESS="+address, "PYROSCOPE_LABELS=region=eu",
		"PYROSCOPE_FORMAT=jfr", "PYROSCOPE_PROFILER_EVENT=itimer",
		"PYROSCOPE_PROFILER_ALLOC=256k", "PYROSCOPE_PROFILER_LOCK=1ms", "PYROSCOPE_LOG_LEVEL=warn")
	if out := output(t, cmd); len(out) > 0 {
		t.Logf("the agent said:\n%s", out)
	}
	s := sender{service: "sender-java"}
	price := append(shopWork[:3:3], "Shop.price")
	for _, c := range []senderCheck{
		{"process_cpu:cpu:nanoseconds", `, region="eu", jfr_event="itimer"`, price, 0.3, ""},
		{"process_cpu:cpu:nanoseconds", `, region="eu", endpoint="/checkout"`, price, 0.5, ""},
		{"memory:alloc_in_new_tlab_bytes:bytes", `, endpoint="/checkout"`, append(shopWork[:3:3], "Shop.receipt"), 0.9, ""},
		{"memory:alloc_in_new_tlab_objects:count", `, endpoint="/checkout"`, append(shopWork[:3:3], "Shop.receipt"), 0.9, ""},
		{"mutex:contentions:count", "", []string{"java/lang/Thread.run", "Shop.queue"}, 0.5, ""},
		{"mutex:delay:nanoseconds", "", []string{"java/lang/Thread.run", "Shop.queue"}, 0.5, ""},
		{"block:delay:nanoseconds", "", []string{"java/lang/Thread.run", "Shop.count", "java/util/concurrent/locks/ReentrantLock.lock"}, 0.3, ""},
	} {
		s.check(t, address, c)
	}
}

func (j jvm) testAsyncProfiler(t *testing.T, address string) {
	file := filepath.Join(j.dir, "asprof.jfr")
	body := j.record(t, "3", "-agentpath:"+j.profiler+"=start,event=cpu,interval=5ms,wall=20ms,alloc=256k,lock=1ms,jfr,file="+file, file)
	post(t, address+"/ingest?format=jfr&name=sender-asprof", "application/octet-stream", body)

	sums := jfrPrint(t, file)
	compare(t, address, "sender-asprof", map[string]int64{
		"process_cpu:cpu:nanoseconds":            sums["jdk.ExecutionSample"].events * 5e6,
		"wall:wall:nanoseconds":                  sums["profiler.WallClockSample"].sum * 20e6,
		"memory:alloc_in_new_tlab_objects:count": sums["jdk.ObjectAllocationInNewTLAB"].events,
		"memory:alloc_in_new_tlab_bytes:bytes":   sums["jdk.ObjectAllocationInNewTLAB"].sum,
		"mutex:contentions:count":                sums["jdk.JavaMonitorEnter"].events,
		"mutex:delay:nanoseconds":                sums["jdk.JavaMonitorEnter"].sum,
		"block:contentions:count":                sums["jdk.ThreadPark"].events,
		"block:delay:nanoseconds":                sums["jdk.ThreadPark"].sum,
	})
	// And so says async-profiler's own converter, in other words.
	compare(t, address, "sender-asprof", map[string]int64{
		"process_cpu:cpu:nanoseconds":            j.convert(t, file, "--cpu") * 5e6,
		"wall:wall:nanoseconds":                  j.convert(t, file, "--wall") * 20e6,
		"memory:alloc_in_new_tlab_objects:count": j.convert(t, file, "--alloc"),
		"memory:alloc_in_new_tlab_bytes:bytes":   j.convert(t, file, "--alloc", "--total"),
	})
	j.testConverter(t, address, file, sums["jdk.ExecutionSample"].events*5e6)
	s := sender{service: "sender-asprof"}
	s.check(t, address, senderCheck{"process_cpu:cpu:nanoseconds", `, jfr_event="cpu"`, append(shopWork[:3:3], "Shop.price"), 0.3, ""})
	s.check(t, address, senderCheck{"wall:wall:nanoseconds", "", []string{"java/lang/Thread.run", "Shop.listen"}, 0.01, ""})
}

func (j jvm) testFlightRecorder(t *testing.T, address string) {
	file := filepath.Join(j.dir, "jdk.jfr")
	settings := filepath.Join("senders", "java", "shop.jfc")
	body := j.record(t, "3", "-XX:StartFlightRecording=filename="+file+",settings="+settings, file)
	post(t, address+"/ingest?format=jfr&name=sender-jdk", "application/octet-stream", body)

	sums := jfrPrint(t, file)
	compare(t, address, "sender-jdk", map[string]int64{
		"process_cpu:cpu:nanoseconds":             sums["jdk.ExecutionSample"].events * 10e6,
		"wall:wall:nanoseconds":                   sums["jdk.NativeMethodSample"].events * 20e6,
		"memory:alloc_sample_objects:count":       sums["jdk.ObjectAllocationSample"].events,
		"memory:alloc_sample_bytes:bytes":         sums["jdk.ObjectAllocationSample"].sum,
		"memory:alloc_in_new_tlab_bytes:bytes":    sums["jdk.ObjectAllocationInNewTLAB"].sum,
		"memory:alloc_outside_tlab_objects:count": sums["jdk.ObjectAllocationOutsideTLAB"].events,
		"memory:alloc_outside_tlab_bytes:bytes":   sums["jdk.ObjectAllocationOutsideTLAB"].sum,
		"mutex:delay:nanoseconds":                 sums["jdk.JavaMonitorEnter"].sum,
		"block:delay:nanoseconds":                 sums["jdk.ThreadPark"].sum,
	})
	s := sender{service: "sender-jdk"}
	s.check(t, address, senderCheck{"process_cpu:cpu:nanoseconds", "", append(shopWork[:3:3], "Shop.price"), 0.3, ""})
	s.check(t, address, senderCheck{"wall:wall:nanoseconds", "", []string{"java/lang/Thread.run", "Shop.listen", "java/net/ServerSocket.accept"}, 0.2, ""})
}

// testConverter has async-profiler make OTLP of the recording. It rounds the
// time between samples.
func (j jvm) testConverter(t *testing.T, address, file string, want int64) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "otlp")
	output(t, exec.Command("java", "-jar", j.converter, "--cpu", "--output", "otlp", file, out))
	body, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	post(t, address+"/v1development/profiles", "application/x-protobuf", body)
	tree, err := senderTree(t.Context(), address, "process_cpu:cpu:nanoseconds", `{service_name="unknown_service"}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := tree.Nodes[0].Total; math.Abs(float64(got-want)) > 0.001*float64(want) {
		t.Errorf("CPU time by OTLP: %d ns, want %d", got, want)
	}
}

// post sends a body, which has to be taken.
func post(t *testing.T, url, contentType string, body []byte) {
	t.Helper()
	resp, err := http.Post(url, contentType, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var text bytes.Buffer
		_, _ = text.ReadFrom(resp.Body) // the status says enough without it
		t.Fatalf("POST %s of %d bytes: %s: %s", url, len(body), resp.Status, text.String())
	}
}

// compare checks the sums of a service's profiles.
func compare(t *testing.T, address, service string, want map[string]int64) {
	t.Helper()
	for typ, want := range want {
		tree, err := senderTree(t.Context(), address, typ, fmt.Sprintf("{service_name=%q}", service))
		switch {
		case err != nil:
			t.Errorf("%s of %s: %v", typ, service, err)
		case want == 0:
			t.Errorf("%s of %s: the recording has nothing to compare", typ, service)
		case tree.Nodes[0].Total != want:
			t.Errorf("%s of %s: %d, want %d", typ, service, tree.Nodes[0].Total, want)
		}
	}
}

// A jfrSum is how many events of a type a recording has, and what those that
// say how much say together: bytes, nanoseconds, or samples.
type jfrSum struct{ events, sum int64 }

// jfrPrint asks the JDK's own tool.
func jfrPrint(t *testing.T, file string) map[string]jfrSum {
	t.Helper()
	cmd := exec.Command("jfr", "print", "--json", "--stack-depth", "1", "--events",
		"jdk.ExecutionSample,jdk.CPUTimeSample,jdk.CPUTimeSamplesLost,jdk.NativeMethodSample,profiler.WallClockSample,jdk.ObjectAllocation*,jdk.JavaMonitorEnter,jdk.ThreadPark", file)
	var recording struct {
		Recording struct {
			Events []struct {
				Type   string
				Values struct {
					TLABSize, AllocationSize, Weight, Samples, LostSamples int64
					Duration, SamplingPeriod                               string
				}
			}
		}
	}
	if err := json.Unmarshal(output(t, cmd), &recording); err != nil {
		t.Fatalf("read what jfr prints: %v", err)
	}
	sums := map[string]jfrSum{}
	for _, e := range recording.Recording.Events {
		s, v := sums[e.Type], e.Values
		s.events++
		switch e.Type {
		case "jdk.ObjectAllocationInNewTLAB":
			s.sum += v.TLABSize
		case "jdk.ObjectAllocationOutsideTLAB":
			s.sum += v.AllocationSize
		case "jdk.ObjectAllocationSample":
			s.sum += v.Weight
		case "profiler.WallClockSample":
			s.sum += v.Samples
		case "jdk.CPUTimeSamplesLost":
			s.sum += v.LostSamples
		case "jdk.CPUTimeSample", "jdk.JavaMonitorEnter", "jdk.ThreadPark":
			d, err := time.ParseDuration(strings.ToLower(strings.TrimPrefix(v.Duration+v.SamplingPeriod, "PT"))) // ISO 8601
			if err != nil {
				t.Fatalf("duration of %s: %v", e.Type, err)
			}
			s.sum += int64(d)
		}
		sums[e.Type] = s
	}
	return sums
}

// convert asks async-profiler's converter for the sum of all stacks.
func (j jvm) convert(t *testing.T, file string, options ...string) int64 {
	t.Helper()
	out := filepath.Join(t.TempDir(), "collapsed")
	args := append([]string{"-jar", j.converter, "--output", "collapsed"}, options...)
	output(t, exec.Command("java", append(args, file, out)...))
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := int64(0)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		n, err := strconv.ParseInt(line[strings.LastIndexByte(line, ' ')+1:], 10, 64)
		if err != nil {
			t.Fatalf("collapsed stack %q: %v", line, err)
		}
		sum += n
	}
	return sum
}
