package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/forward"
	"github.com/flameline/flameline/pkg/profile"
)

// An exchange is a request of the plugin and what Pyroscope answered.
type exchange struct {
	Path, ContentType, Encoding string // of the answer, but for the path
	Request, Response           []byte
	Status                      int
}

// A recording is of a Pyroscope server to which profiles were pushed.
type recording struct {
	Server    string
	End       time.Time  // of the last profile's step
	Exchanges []exchange // of queries, each for one request
	Health    []exchange // of the health check, whose requests hold the time of the check
}

// A peer is a Pyroscope server: a live one, whose answers are recorded as they
// pass, or a recording.
type peer struct {
	t    *testing.T
	live string // its URL, "" for a recording

	mu     sync.Mutex
	health bool // whether the health check runs
	rec    recording
}

const peerRecording = "testdata/pyroscope.json"

func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Error(err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.answer(r, body)
	if !ok {
		p.t.Errorf("%s has no answer to this request for %s; record it anew (FLAMELINE_PYROSCOPE_RECORD)", peerRecording, r.URL.Path)
		http.Error(w, "not recorded", http.StatusTeapot)
		return
	}
	w.Header().Set("Content-Type", e.ContentType)
	if e.Encoding != "" {
		w.Header().Set("Content-Encoding", e.Encoding)
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(e.Response)
}

func (p *peer) answer(r *http.Request, body []byte) (exchange, bool) {
	known := &p.rec.Exchanges
	if p.health {
		known = &p.rec.Health
	}
	for _, e := range *known {
		if e.Path == r.URL.Path && (p.health && p.live == "" || bytes.Equal(e.Request, body)) {
			return e, true
		}
	}
	if p.live == "" {
		return exchange{}, false
	}
	req, err := http.NewRequestWithContext(r.Context(), r.Method, p.live+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		p.t.Error(err)
		return exchange{}, false
	}
	req.Header = r.Header.Clone()
	resp, err := (&http.Transport{DisableCompression: true}).RoundTrip(req)
	if err != nil {
		p.t.Error(err)
		return exchange{}, false
	}
	defer resp.Body.Close()
	e := exchange{Path: r.URL.Path, Request: body, Status: resp.StatusCode, ContentType: resp.Header.Get("Content-Type"), Encoding: resp.Header.Get("Content-Encoding")}
	if e.Response, err = io.ReadAll(resp.Body); err != nil {
		p.t.Error(err)
		return exchange{}, false
	}
	*known = append(*known, e)
	return e, true
}

// TestPyroscopeAsPeer has the collector's agent push to a Pyroscope server, and
// the plugin read from it: the one at FLAMELINE_PYROSCOPE_URL, which must hold
// nothing else, or what such a server answered when
// FLAMELINE_PYROSCOPE_RECORD named the file to write.
func TestPyroscopeAsPeer(t *testing.T) {
	const steps = 8
	p := &peer{t: t, live: os.Getenv("FLAMELINE_PYROSCOPE_URL")}
	if p.live == "" {
		raw, err := os.ReadFile(peerRecording)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &p.rec); err != nil {
			t.Fatal(err)
		}
	} else {
		p.rec = recording{Server: os.Getenv("FLAMELINE_PYROSCOPE_NAME"), End: time.Now().UTC().Truncate(15 * time.Second).Add(-time.Minute)}
		f, err := forward.New(forward.Options{URL: p.live})
		if err != nil {
			t.Fatal(err)
		}
		for i := range steps {
			at := p.rec.End.Add(time.Duration(i+1-steps) * 15 * time.Second) // at whole steps, as SDKs send
			if err := f.Append(t.Context(), []profile.Profile{agentCPU("shop", at, pushed), agentCPU("cart", at, pushed/2), agentMemory("shop", at)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(12 * time.Second) // until its segments are flushed
	}
	server := httptest.NewServer(p)
	defer server.Close()
	ds := startPlugin(t, server.URL, "15s")
	end := p.rec.End
	from := end.Add(-steps * 15 * time.Second)
	ask := func(queryType, profileType, selector string, groupBy ...string) panelQuery {
		return panelQuery{refID: "A", from: from, to: end, interval: 5 * time.Second, model: map[string]any{
			"queryType": queryType, "profileTypeId": profileType, "labelSelector": selector, "groupBy": groupBy,
		}}
	}

	t.Run("flame graph", func(t *testing.T) {
		frame := onlyFrame(t, ds, ask("profile", cpuType, `{service_name="shop"}`))
		value, self, label := column(t, frame, "value"), column(t, frame, "self"), column(t, frame, "label")
		got := map[string][2]int64{}
		for i := range value.Len() {
			name := label.Config.TypeConfig.Enum.Text[label.At(i).(data.EnumItemIndex)]
			got[name] = [2]int64{value.At(i).(int64), self.At(i).(int64)}
		}
		const all = steps * pushed
		for name, want := range map[string][2]int64{"total": {all, 0}, "main": {all, 0}, "checkout": {all, all / 5}, "price": {all - all/5, all - all/5}} {
			if got[name] != want {
				t.Errorf("%s has %v, want %v; all are %v", name, got[name], want, got)
			}
		}
	})

	t.Run("cores", func(t *testing.T) {
		resp, err := ds.query(t.Context(), ask("metrics", cpuType, "{}", "service_name"))
		if err != nil {
			t.Fatal(err)
		}
		a := resp.Responses["A"]
		if a.Error != nil || len(a.Frames) != 2 {
			t.Fatalf("%d frames, error %v", len(a.Frames), a.Error)
		}
		for _, frame := range a.Frames {
			want := map[string]float64{"shop": 0.5, "cart": 0.25}[frame.Fields[1].Labels["service_name"]]
			points := pointsOf(frame)
			for i := 1; i <= steps; i++ {
				if got := points[from.Add(time.Duration(i)*15*time.Second).Unix()]; got != want || got == 0 {
					t.Errorf("%v in step %d: %v cores, want %v", frame.Fields[1].Labels, i, got, want)
				}
			}
		}
	})

	t.Run("memory is what was allocated", func(t *testing.T) {
		frame := onlyFrame(t, ds, ask("profile", memoryType, `{service_name="shop"}`))
		if got := column(t, frame, "value").At(0).(int64); got != steps*1000 {
			t.Errorf("%d bytes, want %d: the growth of each profile, and not the growth of growth", got, steps*1000)
		}
	})

	t.Run("query types", func(t *testing.T) { askPeer(t, ds, ask) })

	t.Run("look-ups", func(t *testing.T) {
		window := url.Values{"start": {millis(from)}, "end": {millis(end)}}.Encode()
		for path, want := range map[string]string{
			"profileTypes?" + window:                   cpuType,
			"labelNames?" + window:                     "service_name",
			"labelValues?label=service_name&" + window: "shop",
		} {
			name, query, _ := strings.Cut(path, "?")
			if resp := ds.get(t, name, query); resp.Status != http.StatusOK || !strings.Contains(string(resp.Body), `"`+want+`"`) {
				t.Errorf("%s: status %d, %s; want %s in it", path, resp.Status, resp.Body, want)
			}
		}
	})

	t.Run("a mistake", func(t *testing.T) {
		resp, err := ds.query(t.Context(), ask("profile", cpuType, `{pod=}`))
		if err != nil {
			t.Fatal(err)
		}
		if a := resp.Responses["A"]; a.Error == nil || a.Status != http.StatusBadRequest {
			t.Errorf("status %d, error %v, want 400", a.Status, a.Error)
		}
	})

	t.Run("health", func(t *testing.T) {
		p.mu.Lock()
		p.health = true
		p.mu.Unlock()
		h := ds.health(t)
		if h.Status.String() != "OK" || !strings.Contains(h.Message, "Pyroscope") {
			t.Errorf("health is %s %q", h.Status, h.Message)
		}
	})

	if file := os.Getenv("FLAMELINE_PYROSCOPE_RECORD"); file != "" && p.live != "" {
		raw, err := json.MarshalIndent(p.rec, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(raw, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const memoryType = "memory:alloc_space:bytes:space:bytes"

// agentCPU is a profile of main -> checkout -> price, as a source of the
// collector gives it.
func agentCPU(service string, at time.Time, ns int64) profile.Profile {
	return agentProfile(at, []string{"", "cpu", "nanoseconds", "cpu", "nanoseconds"}, ns,
		labels.FromStrings("__name__", "process_cpu", "region", "eu", "service_name", service))
}

// agentMemory is one in which 1,000 bytes were allocated, as the scraper gives
// it.
func agentMemory(service string, at time.Time) profile.Profile {
	return agentProfile(at, []string{"", "alloc_space", "bytes", "space", "bytes"}, 1000,
		labels.FromStrings("__name__", "memory", "region", "eu", "service_name", service))
}

// agentProfile has the sample type and the period type that texts begin with.
func agentProfile(at time.Time, texts []string, v int64, ls labels.Labels) profile.Profile {
	p := &googlev1.Profile{
		StringTable: append(texts, "price", "checkout", "main"),
		SampleType:  []*googlev1.ValueType{{Type: 1, Unit: 2}}, PeriodType: &googlev1.ValueType{Type: 3, Unit: 4}, Period: 1e7,
		TimeNanos: at.UnixNano(), DurationNanos: int64(15 * time.Second),
		Sample: []*googlev1.Sample{{LocationId: []uint64{1, 2, 3}, Value: []int64{v - v/5}}, {LocationId: []uint64{2, 3}, Value: []int64{v / 5}}},
	}
	for id := range uint64(3) {
		p.Function = append(p.Function, &googlev1.Function{Id: id + 1, Name: int64(5 + id)})
		p.Location = append(p.Location, &googlev1.Location{Id: id + 1, Line: []*googlev1.Line{{FunctionId: id + 1, Line: int64(id + 10)}}})
	}
	return profile.Profile{ID: ls.Get("__name__") + ls.Get("service_name") + at.Format(time.RFC3339Nano), Labels: ls, Pprof: p}
}
