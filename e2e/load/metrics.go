package load

import (
	"context"
	"fmt"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Usage is the CPU time, in seconds, that a load program has used since it
// started, by its own clocks.
type Usage struct {
	Process   float64
	Functions map[string]float64
}

// ReadUsage reads /metrics of the load program at address.
func ReadUsage(ctx context.Context, address string) (Usage, error) {
	var u Usage
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return u, fmt.Errorf("read usage: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return u, fmt.Errorf("read usage: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return u, fmt.Errorf("read usage of %s: %s", address, resp.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return u, fmt.Errorf("read usage of %s: %w", address, err)
	}
	u.Functions = map[string]float64{}
	for _, m := range families["process_cpu_seconds_total"].GetMetric() {
		u.Process += value(m)
	}
	for _, m := range families["load_function_cpu_seconds_total"].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "function" {
				u.Functions[l.GetValue()] = value(m)
			}
		}
	}
	if u.Process == 0 || len(u.Functions) == 0 {
		return u, fmt.Errorf("read usage of %s: no CPU time in its metrics", address)
	}
	return u, nil
}

// value is that of a counter, with or without a type line.
func value(m *dto.Metric) float64 {
	return m.GetCounter().GetValue() + m.GetUntyped().GetValue()
}

// Since returns the CPU time used between before and u.
func (u Usage) Since(before Usage) Usage {
	d := Usage{Process: u.Process - before.Process, Functions: map[string]float64{}}
	for name, seconds := range u.Functions {
		d.Functions[name] = seconds - before.Functions[name]
	}
	return d
}
