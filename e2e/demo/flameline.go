package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"go.yaml.in/yaml/v4"

	"github.com/flameline/flameline/e2e/proc"
)

// frequency is the demo's samples per second: higher than the default, so that
// shares are exact after a minute already.
const frequency = 99

// startFlameline starts the service. If eBPF is not permitted, it restarts the service
// so that it pulls the order service's own Go profiles.
func (d *demo) startFlameline(ctx context.Context) error {
	address, err := d.address("flameline", "127.0.0.1:4040")
	if err != nil {
		return err
	}
	d.flamelineURL = "http://" + address
	config := map[string]any{
		"web":     map[string]any{"listen_address": address},
		"storage": map[string]any{"path": filepath.Join(d.dir, "data")},
		"ebpf": map[string]any{
			"enabled": "auto", "frequency": frequency,
			"off_cpu": map[string]any{"enabled": true}, "page_faults": map[string]any{"enabled": true},
		},
	}
	// The memory of a Go program has no other way.
	if scrape := d.scrapeConfig("memory"); scrape != nil {
		config["scrape_configs"] = scrape
	}
	process, err := d.serve(ctx, config)
	if err != nil {
		return err
	}
	ebpf, err := d.ebpfStatus(ctx)
	if err != nil {
		return err
	}
	d.sampled = ebpf.State == "on"
	if d.sampled {
		d.say("flameline samples every process of this machine, %d times a second and CPU", frequency)
		return nil
	}
	d.say("flameline cannot sample with eBPF here: %s", ebpf.Reason)
	scrape := d.scrapeConfig("process_cpu", "memory")
	if scrape == nil {
		return fmt.Errorf("nothing to profile: eBPF is not permitted and the order service does not run")
	}
	d.forget(process)
	config["ebpf"] = map[string]any{"enabled": "false"}
	config["scrape_configs"] = scrape
	if _, err := d.serve(ctx, config); err != nil {
		return err
	}
	d.say("flameline pulls the Go profiles of the order service instead; the other programs have no profile")
	return nil
}

// scrapeConfig returns the configuration for pulling profiles of the order service, nil if
// that does not run.
func (d *demo) scrapeConfig(profiles ...string) []any {
	pprof := map[string]any{"process_cpu": map[string]any{"enabled": false}}
	for _, name := range profiles {
		pprof[name] = map[string]any{"enabled": true}
	}
	for _, p := range d.programs {
		if p.Service != "order" {
			continue
		}
		return []any{map[string]any{
			"job_name":         "load",
			"scrape_interval":  "10s",
			"profiling_config": map[string]any{"pprof_config": pprof},
			"static_configs": []any{map[string]any{
				"targets": []string{p.Address},
				"labels":  map[string]string{"service_name": p.Service},
			}},
		}}
	}
	return nil
}

// serve starts flameline with a configuration and waits until it is ready.
func (d *demo) serve(ctx context.Context, config map[string]any) (*proc.Process, error) {
	text, err := yaml.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	file := filepath.Join(d.dir, "flameline.yaml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	p, err := d.start(proc.Spec{
		Name: "flameline",
		Args: []string{d.flameline, "serve", "--config.file", file},
		Log:  filepath.Join(d.dir, "flameline.log"),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return p, p.Await(ctx, proc.Answers(d.flamelineURL+"/ready"))
}

// ebpfStatus reads the service's state of its eBPF source.
func (d *demo) ebpfStatus(ctx context.Context) (status struct{ State, Reason string }, err error) {
	var body struct {
		EBPF *struct{ State, Reason string } `json:"ebpf"`
	}
	body.EBPF = &status
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.flamelineURL+"/api/v1/status", nil)
	if err != nil {
		return status, fmt.Errorf("read status: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return status, fmt.Errorf("read status: %w", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return status, fmt.Errorf("read status: %w", err)
	}
	return status, nil
}

// awaitProfiles waits until the store has profiles of every profiled program.
func (d *demo) awaitProfiles(ctx context.Context) error {
	client := querierv1connect.NewQuerierServiceClient(http.DefaultClient, d.flamelineURL)
	want := map[string]bool{}
	for _, p := range d.programs {
		if d.sampled || p.Service == "order" {
			want[p.Service] = true
		}
	}
	d.say("waiting for the first profiles")
	limit := time.NewTimer(2 * time.Minute)
	defer limit.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for len(want) > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p := <-d.ended:
			return fmt.Errorf("%s stopped by itself: %w", p.Name(), p.Err())
		case <-limit.C:
			d.say("no profile yet of %v; flameline's log is %s", keys(want), filepath.Join(d.dir, "flameline.log"))
			return nil
		case <-tick.C:
		}
		resp, err := client.LabelValues(ctx, connect.NewRequest(&typesv1.LabelValuesRequest{
			Name:  "service_name",
			Start: d.began.UnixMilli(),
			End:   time.Now().UnixMilli(),
		}))
		if err != nil {
			continue // the next try tells; the limit ends it
		}
		for _, service := range resp.Msg.Names {
			if want[service] {
				delete(want, service)
				d.say("profiles of %s can be queried", service)
			}
		}
	}
	if _, err := client.ProfileTypes(ctx, connect.NewRequest(&querierv1.ProfileTypesRequest{
		Start: d.began.UnixMilli(),
		End:   time.Now().UnixMilli(),
	})); err != nil {
		return fmt.Errorf("list profile types: %w", err)
	}
	return nil
}
