package e2e

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"testing"
	"time"

	"connectrpc.com/connect"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	"golang.org/x/sync/errgroup"

	"github.com/flameline/flameline/e2e/compare/dataset"
)

// BenchmarkQueryTypes measures each query type of the data source as Grafana sees it: over
// gRPC from the plugin's process, which asks a service over HTTP. The profiles are an hour
// of 20 services with 3 pods each, one of 10 s after the other, as in e2e/compare.
func BenchmarkQueryTypes(b *testing.B) {
	set, err := dataset.Generate(dataset.Options{Services: 20, Pods: 3, Minutes: 60})
	if err != nil {
		b.Fatal(err)
	}
	_, address := startCollector(b, "--ebpf.enabled=false")
	start := time.Now().Add(-set.Length - 5*time.Minute).Truncate(time.Hour / 60)
	pushSet(b, address, set, start)
	awaitMerged(b, address)
	ds := startPlugin(b, address, "15s")
	baseline := map[string]any{"kind": "previous"}
	for _, query := range []struct {
		name  string
		model map[string]any
	}{
		{"profile", map[string]any{"queryType": "profile"}},
		{"profile by pod", map[string]any{"queryType": "profile", "groupBy": []string{"pod"}}},
		{"profile with focus", map[string]any{"queryType": "profile", "view": map[string]any{"focus": `^encoding/json\.`}}},
		{"series", map[string]any{"queryType": "metrics", "groupBy": []string{"service_name"}}},
		{"comparison", map[string]any{"queryType": "comparison", "baseline": baseline}},
		{"functions", map[string]any{"queryType": "functions"}},
		{"functions with baseline", map[string]any{"queryType": "functions", "baseline": baseline}},
		{"function series", map[string]any{"queryType": "functionSeries"}},
		{"explain", map[string]any{"queryType": "explain", "baseline": baseline}},
		{"heat map by label", map[string]any{"queryType": "heatmap", "heatmap": "label", "groupBy": []string{"pod"}}},
	} {
		for services, selector := range map[string]string{"one": `{service_name="` + set.Services()[0] + `"}`, "all": `{}`} {
			length := time.Hour
			if query.model["baseline"] != nil {
				length /= 2 // with the half before
			}
			b.Run(fmt.Sprintf("type=%s/services=%s", query.name, services), func(b *testing.B) {
				query.model["profileTypeId"], query.model["labelSelector"] = dataset.ProfileType, selector
				end := start.Add(set.Length)
				for b.Loop() {
					end = end.Add(-time.Second) // so that no answer is one of before
					resp, err := ds.query(b.Context(), panelQuery{refID: "A", from: end.Add(-length), to: end, interval: 15 * time.Second, model: query.model})
					if err != nil {
						b.Fatal(err)
					}
					if a := resp.Responses["A"]; a.Error != nil || len(a.Frames) == 0 {
						b.Fatalf("%d frames, error %v", len(a.Frames), a.Error)
					}
				}
			})
		}
	}
}

// pushSet pushes a data set whose first profile begins at a time.
func pushSet(b *testing.B, address string, set *dataset.Set, start time.Time) {
	b.Helper()
	client := pushv1connect.NewPusherServiceClient(http.DefaultClient, address)
	var group errgroup.Group
	group.SetLimit(4 * runtime.GOMAXPROCS(0))
	for _, p := range set.Profiles {
		group.Go(func() error {
			raw, err := p.At(start.Add(p.Offset))
			if err == nil {
				_, err = client.Push(b.Context(), connect.NewRequest(&pushv1.PushRequest{Series: []*pushv1.RawProfileSeries{{
					Labels: p.Labels, Samples: []*pushv1.RawSample{{RawProfile: raw}},
				}}}))
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

// awaitMerged waits until a service has merged its closed windows, as it has of profiles
// that come in time: none was merged for longer than between two runs of maintenance.
func awaitMerged(b *testing.B, address string) {
	b.Helper()
	line := regexp.MustCompile(`(?m)^flameline_store_merged_windows_total (.+)$`)
	before, since := "0", time.Now()
	for {
		resp, err := http.Get(address + "/metrics")
		if err != nil {
			b.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			b.Fatal(err)
		}
		m := line.FindSubmatch(text)
		if m == nil {
			b.Fatalf("no number of merged windows in %s/metrics", address)
		}
		if n := string(m[1]); n != before {
			before, since = n, time.Now()
		} else if n != "0" && time.Since(since) > 25*time.Second {
			return
		}
		time.Sleep(time.Second)
	}
}
