package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/prometheus/common/model"

	"github.com/flameline/flameline/pkg/client"
)

// healthRange is how far back the health check looks for profile types.
const healthRange = time.Hour

// healthDetails are the details of a health check, as JSON.
type healthDetails struct {
	Server       string             `json:"server"` // Flameline or Pyroscope-compatible
	Version      string             `json:"version,omitempty"`
	ProfileTypes []string           `json:"profileTypes"` // seen in the last hour
	EBPF         *client.EBPFStatus `json:"ebpf,omitempty"`
	Problems     []string           `json:"problems"`
	// VerboseMessage is what Grafana shows below the message.
	VerboseMessage string `json:"verboseMessage,omitempty"`
}

// CheckHealth reports the server's kind and version, its profile types and its problems:
// an error if queries cannot work, else a note.
func (d *Datasource) CheckHealth(ctx context.Context, _ *backend.CheckHealthRequest) (*backend.CheckHealthResult, error) {
	details := healthDetails{Server: "Pyroscope-compatible server", ProfileTypes: []string{}, Problems: []string{}}
	status, err := d.client.Status(ctx)
	if err != nil {
		return unhealthy(details, err)
	}
	details.Version = status.Version
	if status.Flameline {
		details.Server, details.EBPF = "Flameline", &status.EBPF
	}
	now := time.Now()
	types, err := d.client.ProfileTypes(ctx, now.Add(-healthRange).UnixMilli(), now.UnixMilli())
	if err != nil {
		if status.NotReady != "" {
			err = fmt.Errorf("%s is not ready: %s", d.client.URL(), status.NotReady)
		}
		return unhealthy(details, err)
	}
	for _, t := range types {
		details.ProfileTypes = append(details.ProfileTypes, t.String())
	}
	slices.Sort(details.ProfileTypes)
	if status.Flameline && status.EBPF.State != "on" {
		state := "is " + status.EBPF.State
		if status.EBPF.State == "failed" {
			state = "has stopped by itself, so profiles of the server's machine are missing"
		}
		details.Problems = append(details.Problems, strings.TrimSuffix("eBPF sampling "+state+": "+status.EBPF.Reason, ": "))
	}
	if len(types) == 0 {
		details.Problems = append(details.Problems, d.whyNoProfiles(ctx, now))
	}
	return result(backend.HealthStatusOk, details.message(), details)
}

// whyNoProfiles distinguishes a server that never had profiles from one whose sources
// have stopped sending.
func (d *Datasource) whyNoProfiles(ctx context.Context, now time.Time) string {
	newest, err := d.client.Newest(ctx)
	switch {
	case err != nil || newest < 0:
		return "there are no profiles of the last hour"
	case newest == 0:
		return "there are no profiles yet; they come from eBPF sampling, scraping or a push"
	default:
		t := time.UnixMilli(newest).UTC()
		return fmt.Sprintf("there are no profiles of the last hour; the newest is of %s (%s ago)",
			t.Format(time.RFC3339), model.Duration(now.Sub(t).Truncate(time.Minute)))
	}
}

// message returns the health check's result in one or two sentences.
func (h healthDetails) message() string {
	var b strings.Builder
	b.WriteString("Connected to " + h.Server)
	if h.Version != "" {
		b.WriteString(" " + h.Version)
	}
	switch n := len(h.ProfileTypes); {
	case n == 1:
		b.WriteString(", 1 profile type: ")
	case n > 1:
		fmt.Fprintf(&b, ", %d profile types: ", n)
	}
	names := make([]string, len(h.ProfileTypes))
	for i, id := range h.ProfileTypes {
		names[i] = strings.Join(strings.SplitN(id, ":", 3)[:2], ":")
	}
	b.WriteString(strings.Join(names, ", ") + ".")
	for _, p := range h.Problems {
		b.WriteString(" Note: " + strings.TrimSuffix(p, ".") + ".")
	}
	return b.String()
}

func unhealthy(details healthDetails, err error) (*backend.CheckHealthResult, error) {
	details.Problems = append(details.Problems, err.Error())
	details.VerboseMessage = err.Error()
	return result(backend.HealthStatusError, err.Error(), details)
}

func result(status backend.HealthStatus, message string, details healthDetails) (*backend.CheckHealthResult, error) {
	raw, err := json.Marshal(details)
	if err != nil {
		return nil, fmt.Errorf("encode health details: %w", err)
	}
	return &backend.CheckHealthResult{Status: status, Message: message, JSONDetails: raw}, nil
}
