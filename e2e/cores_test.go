package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/flameline/flameline/e2e/proc"
)

const (
	// coresStep is the step of both series: the window of the eBPF source.
	coresStep = 5 * time.Second
	// coresSteady is how long each process uses its share, and coresAfter how
	// long it then rests.
	coresSteady = 75 * time.Second
	coresAfter  = 30 * time.Second
	// coresHz is how often is sampled: at 99 Hz the standard deviation of a
	// quarter core's mean would be 2 % in the steady time, at this rate it is 1 %.
	coresHz = 397
)

// TestCoresAgreeWithPrometheus runs processes at 0.25, 0.5 and 1 core, sampled
// by eBPF and scraped by Prometheus. The plugin's series must differ from
// rate(process_cpu_seconds_total) by under 3 % on average, and the moment at
// which the load falls must be the same in both within one step.
func TestCoresAgreeWithPrometheus(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("eBPF takes root here; run this test as root")
	}
	prometheus := prometheusBinary(t)
	_, address := startCollector(t, "--ebpf.enabled", "true", "--ebpf.frequency", strconv.Itoa(coresHz))
	ds := startPlugin(t, address, coresStep.String())

	burn := filepath.Join(t.TempDir(), "burn")
	if out, err := exec.Command("go", "build", "-o", burn, "./burn").CombinedOutput(); err != nil {
		t.Fatalf("build the load: %v\n%s", err, out)
	}
	shares := map[string]float64{"quarter": 0.25, "half": 0.5, "whole": 1}
	begin := time.Now().Truncate(coresStep).Add(2 * coresStep)
	fall := begin.Add(coresSteady).Truncate(coresStep)
	end := fall.Add(coresAfter)
	targets := make(map[string]string)
	for name, share := range shares {
		listen, err := proc.FreeAddress("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		targets[name] = listen
		startProgram(t, proc.Spec{
			Name: name,
			Args: []string{
				burn, "--listen", listen, "--cores", fmt.Sprint(share),
				"--until", strconv.FormatInt(fall.Unix(), 10),
			},
			Env: []string{"OTEL_SERVICE_NAME=burn-" + name},
			Log: filepath.Join(t.TempDir(), name+".log"),
		}, "http://"+listen+"/metrics")
	}
	metrics := startPrometheus(t, prometheus, targets)

	// Both series are whole once their last step is: ours is shown a step later.
	wait(t, end.Add(3*coresStep))
	for name, share := range shares {
		t.Run(name, func(t *testing.T) {
			reference := promRate(t, metrics, name, begin.Add(2*coresStep), end)
			frame := onlyFrame(t, ds, panelQuery{refID: "A", from: begin, to: end, interval: coresStep, model: map[string]any{
				"queryType": "metrics", "profileTypeId": cpuType, "labelSelector": fmt.Sprintf(`{service_name="burn-%s"}`, name),
			}})
			ours := pointsOf(frame)
			var sum, referenceSum, apart float64
			var steps int
			for at, want := range reference {
				if at > fall.Unix() {
					continue
				}
				got, ok := ours[at]
				if !ok {
					t.Fatalf("no point at %s; ours are %v", time.Unix(at, 0).UTC().Format(time.TimeOnly), ours)
				}
				sum, referenceSum, steps = sum+got, referenceSum+want, steps+1
				apart += math.Abs(got - want)
			}
			if steps < int(coresSteady/coresStep)-4 {
				t.Fatalf("Prometheus has only %d points", steps)
			}
			mean, referenceMean := sum/float64(steps), referenceSum/float64(steps)
			deviation := mean/referenceMean - 1
			t.Logf("asked for %.2f cores: %.4f by samples, %.4f by Prometheus (%+.2f %%); single steps are %.2f %% apart",
				share, mean, referenceMean, 100*deviation, 100*apart/referenceSum)
			if referenceMean < share/2 {
				t.Fatalf("this machine is too busy for this test: the process got %.2f of the %.2f cores that it asked for", referenceMean, share)
			}
			if math.Abs(deviation) > 0.03 {
				t.Errorf("the mean differs by %.1f %%, want under 3 %%", 100*deviation)
			}
			shift := edge(t, ours, begin.Add(2*coresStep), end, fall) - edge(t, reference, begin.Add(2*coresStep), end, fall)
			t.Logf("the fall is %+.2f s from where Prometheus shows it", shift)
			if math.Abs(shift) >= coresStep.Seconds() {
				t.Errorf("the fall is shifted by %.1f s, want less than a step of %s", shift, coresStep)
			}
		})
	}
}

// edge is the time of the fall as a series shows it, in seconds after begin:
// the area under the series, by the level before the fall. A missing point means no load.
func edge(t *testing.T, points map[int64]float64, begin, end, fall time.Time) float64 {
	t.Helper()
	step := int64(coresStep.Seconds())
	var before, area float64
	for at := begin.Unix() + step; at <= end.Unix(); at += step {
		if at < fall.Unix() { // the step before the fall may miss some of it
			before += points[at]
		}
		area += points[at] * float64(step)
	}
	level := before / float64((fall.Unix()-begin.Unix())/step-1)
	if level <= 0 {
		t.Fatalf("no load before the fall: %v", points)
	}
	return area / level
}

// prometheusBinary finds Prometheus, or fails.
func prometheusBinary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("PROMETHEUS_BIN"); path != "" {
		return path
	}
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("prometheus is not on PATH and PROMETHEUS_BIN is not set; this test compares with its series")
	}
	return path
}

// startPrometheus starts a Prometheus that scrapes the targets every second,
// and returns its address.
func startPrometheus(t *testing.T, binary string, targets map[string]string) string {
	t.Helper()
	listen, err := proc.FreeAddress("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var jobs []any
	for name, target := range targets {
		jobs = append(jobs, map[string]any{
			"job_name": name, "scrape_interval": "1s", "scrape_timeout": "1s",
			"static_configs": []any{map[string]any{"targets": []string{target}}},
		})
	}
	config, err := json.Marshal(map[string]any{"scrape_configs": jobs}) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	startProgram(t, proc.Spec{
		Name: "prometheus",
		Args: []string{
			binary, "--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", listen,
		},
		Log: filepath.Join(dir, "prometheus.log"),
	}, "http://"+listen+"/-/ready")
	return "http://" + listen
}

// promRate is the rate of a job's CPU time over each step, by the Unix time of
// the step's end.
func promRate(t *testing.T, address, job string, start, end time.Time) map[int64]float64 {
	t.Helper()
	var answer struct {
		Data struct {
			Result []struct {
				Values [][2]any
			}
		}
	}
	q := url.Values{
		"query": {fmt.Sprintf("rate(process_cpu_seconds_total{job=%q}[%s])", job, coresStep)},
		"start": {strconv.FormatInt(start.Unix(), 10)}, "end": {strconv.FormatInt(end.Unix(), 10)},
		"step": {fmt.Sprint(coresStep.Seconds())},
	}
	if err := getJSON(t.Context(), address+"/api/v1/query_range?"+q.Encode(), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Data.Result) != 1 {
		t.Fatalf("Prometheus has %d series of %s, want 1", len(answer.Data.Result), job)
	}
	points := make(map[int64]float64)
	for _, v := range answer.Data.Result[0].Values {
		at, ok := v[0].(float64)
		text, isText := v[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if !ok || !isText || err != nil {
			t.Fatal(errors.Join(fmt.Errorf("Prometheus' point %v", v), err))
		}
		points[int64(at)] = value
	}
	return points
}

// wait sleeps until a time, or until the test ends.
func wait(t *testing.T, until time.Time) {
	t.Helper()
	ctx, cancel := context.WithDeadline(t.Context(), until)
	defer cancel()
	<-ctx.Done()
	if err := t.Context().Err(); err != nil {
		t.Fatal(err)
	}
}
