package server_test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/server/conformance"
)

// profilecliTransport adds the headers that profilecli sends.
type profilecliTransport struct{ http.RoundTripper }

func (t profilecliTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Accept", "*/*;allow-utf8-labelnames=true")
	r.Header.Set("User-Agent", "pyroscope/1.18.0")
	r.Header.Set("X-Scope-OrgID", "anonymous")
	r.Header.Set("X-Pyroscope-Collect-Diagnostics", "true")
	return t.RoundTripper.RoundTrip(r)
}

// The calls of Pyroscope's profilecli (cmd/profilecli), over each of its
// protocols.
func TestProfilecli(t *testing.T) {
	for protocol, o := range map[string]struct {
		transport http.RoundTripper
		option    connect.ClientOption
	}{
		"connect":  {http.DefaultTransport, connect.WithClientOptions()},
		"grpc":     {h2c().Transport, connect.WithGRPC()},
		"grpc-web": {http.DefaultTransport, connect.WithGRPCWeb()},
	} {
		t.Run(protocol, func(t *testing.T) {
			ctx := t.Context()
			url, _ := start(t, defaults)
			client := &http.Client{Transport: profilecliTransport{o.transport}}
			q := querierv1connect.NewQuerierServiceClient(client, url, o.option)

			// upload: the file as it is, with a random ID, under a name that it
			// guesses.
			var ids int
			upload := func(raw []byte, kv ...string) {
				ids++
				_, err := pushv1connect.NewPusherServiceClient(client, url, o.option).Push(ctx, connect.NewRequest(&pushv1.PushRequest{
					Series: []*pushv1.RawProfileSeries{{Labels: pairs(kv...), Samples: []*pushv1.RawSample{{
						ID: "7c9e6679-7425-40de-944b-e07fc1f90ae" + string(rune('0'+ids)), RawProfile: raw,
					}}}},
				}))
				require.NoError(t, err)
			}
			upload(raw(t), "__name__", "unknown", "service_name", "profilecli-upload")
			base := corpusBase()
			require.NoError(t, conformance.Push(ctx, url, base))
			from, to := time.Now().Add(-time.Hour).UnixMilli(), time.Now().UnixMilli()

			// query series, label-values-cardinality, top
			series, err := q.Series(ctx, connect.NewRequest(&querierv1.SeriesRequest{Start: from, End: to, Matchers: []string{"{}"}, LabelNames: []string{"service_name"}}))
			require.NoError(t, err)
			require.Len(t, series.Msg.LabelsSet, 6)
			names, err := q.LabelNames(ctx, connect.NewRequest(&typesv1.LabelNamesRequest{Start: from, End: to, Matchers: []string{"{}"}}))
			require.NoError(t, err)
			for _, n := range names.Msg.Names {
				values, err := q.LabelValues(ctx, connect.NewRequest(&typesv1.LabelValuesRequest{Name: n, Start: from, End: to, Matchers: []string{"{}"}}))
				require.NoError(t, err)
				require.NotEmpty(t, values.Msg.Names, n)
			}
			top, err := q.SelectSeries(ctx, connect.NewRequest(&querierv1.SelectSeriesRequest{
				ProfileTypeID: cpu, LabelSelector: "{}", Start: from, End: to, Step: float64(to-from) / 1000, GroupBy: []string{"service_name"},
			}))
			require.NoError(t, err)
			totals := map[string]float64{}
			for _, s := range top.Msg.Series {
				for _, p := range s.Points {
					totals[s.Labels[0].Value] += p.Value
				}
			}
			require.Equal(t, map[string]float64{"cart": 4_240_000_000, "ledger": 83_000_000}, totals)

			// query profile, which reads the answer with pprof's own package
			export := func(edit func(*querierv1.SelectMergeStacktracesRequest)) *profile.Profile {
				r := &querierv1.SelectMergeStacktracesRequest{
					ProfileTypeID: cpu, LabelSelector: "{}", Start: from, End: to, Format: querierv1.ProfileFormat_PROFILE_FORMAT_PPROF,
				}
				edit(r)
				resp, err := q.SelectMergeStacktraces(ctx, connect.NewRequest(r))
				require.NoError(t, err)
				return parsePprof(t, resp.Msg.Pprof.GetProfile())
			}
			require.Len(t, export(func(*querierv1.SelectMergeStacktracesRequest) {}).Sample, 8)
			require.Len(t, export(func(r *querierv1.SelectMergeStacktracesRequest) {
				r.StackTraceSelector = &typesv1.StackTraceSelector{CallSite: []*typesv1.Location{{Name: "main.main"}, {Name: "main.work"}}}
			}).Sample, 3)
			none := export(func(r *querierv1.SelectMergeStacktracesRequest) { r.SpanSelector = []string{"9a517183f26a089d"} })
			require.Empty(t, none.Sample)
			require.Len(t, none.SampleType, 1)

			// query profile with IDs: those of exemplars, and its own
			own := export(func(r *querierv1.SelectMergeStacktracesRequest) {
				r.ProfileTypeID, r.ProfileIdSelector = uploaded, []string{"7c9e6679-7425-40de-944b-e07fc1f90ae1"}
			})
			require.NotEmpty(t, own.Sample)
			for query, edit := range map[string]func(*querierv1.SelectMergeStacktracesRequest, []*typesv1.Exemplar){
				"profile": func(r *querierv1.SelectMergeStacktracesRequest, es []*typesv1.Exemplar) {
					r.ProfileIdSelector = []string{es[0].ProfileId}
				},
				"span": func(r *querierv1.SelectMergeStacktracesRequest, es []*typesv1.Exemplar) {
					r.SpanSelector, r.Start, r.End = []string{es[0].SpanId}, es[0].Timestamp, es[0].Timestamp+1
				},
			} {
				es := exemplars(t, q, query, from, to)
				require.NotEmpty(t, es)
				p := export(func(r *querierv1.SelectMergeStacktracesRequest) {
					r.LabelSelector = `{pod="cart-0"}`
					edit(r, es)
				})
				total := int64(0)
				for _, s := range p.Sample {
					total += s.Value[0]
				}
				require.Equal(t, es[0].Value, total, query)
			}
			tree, err := q.SelectMergeStacktraces(ctx, connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
				ProfileTypeID: cpu, LabelSelector: "{}", Start: from, End: to, Format: querierv1.ProfileFormat_PROFILE_FORMAT_TREE,
			}))
			require.NoError(t, err)
			require.NotEmpty(t, tree.Msg.Tree)

			// query profile --async asks whether the server can, and says that it
			// cannot where it answers so.
			_, err = q.SelectMergeStacktraces(ctx, connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
				ProfileTypeID: cpu, LabelSelector: "{}", Start: from, End: to, Format: querierv1.ProfileFormat_PROFILE_FORMAT_TREE,
				Async: &querierv1.AsyncQueryRequest{Type: querierv1.AsyncQueryType_ASYNC_QUERY_TYPE_FORCE},
			}))
			require.Equal(t, connect.CodeUnimplemented, connect.CodeOf(err))

			// query go-pgo
			pgo := export(func(r *querierv1.SelectMergeStacktracesRequest) {
				r.StackTraceSelector = &typesv1.StackTraceSelector{GoPgo: &typesv1.GoPGO{KeepLocations: 5, AggregateCallees: true}}
			})
			whole := export(func(*querierv1.SelectMergeStacktracesRequest) {})
			// It has the calls of the whole profile, and that of fib by itself,
			// which there hides behind the equal lines of caller and leaf.
			want := append(edges(t, whole), "main.fib main.fib 3 480000000")
			require.ElementsMatch(t, want, edges(t, pgo))
		})
	}
}

// uploaded is the type of the file of raw, under the name that profilecli
// guesses.
const uploaded = "unknown:goroutine:count:goroutine:count"

// exemplars are what "profilecli query exemplars profile" and "… span" list.
func exemplars(t *testing.T, q querierv1connect.QuerierServiceClient, query string, from, to int64) (out []*typesv1.Exemplar) {
	t.Helper()
	if query == "profile" {
		resp, err := q.SelectSeries(t.Context(), connect.NewRequest(&querierv1.SelectSeriesRequest{
			ProfileTypeID: cpu, LabelSelector: `{pod="cart-0"}`, Start: from, End: to, Step: 15, ExemplarType: typesv1.ExemplarType_EXEMPLAR_TYPE_INDIVIDUAL,
		}))
		require.NoError(t, err)
		for _, p := range resp.Msg.Series[0].Points {
			out = append(out, p.Exemplars...)
		}
		return out
	}
	resp, err := q.SelectHeatmap(t.Context(), connect.NewRequest(&querierv1.SelectHeatmapRequest{
		ProfileTypeID: cpu, LabelSelector: `{pod="cart-0"}`, Start: from, End: to, Step: 15,
		QueryType: querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_SPAN, ExemplarType: typesv1.ExemplarType_EXEMPLAR_TYPE_SPAN,
	}))
	require.NoError(t, err)
	for _, s := range resp.Msg.Series[0].Slots {
		out = append(out, s.Exemplars...)
	}
	return out
}

func parsePprof(t *testing.T, p *googlev1.Profile) *profile.Profile {
	t.Helper()
	b, err := p.MarshalVT()
	require.NoError(t, err)
	out, err := profile.ParseData(b)
	require.NoError(t, err)
	return out
}

// edges are the calls that the Go toolchain finds in a profile: caller, callee,
// line of the call after the caller's first, weight.
func edges(t *testing.T, p *profile.Profile) (out []string) {
	t.Helper()
	in := filepath.Join(t.TempDir(), "default.pgo")
	var b bytes.Buffer
	require.NoError(t, p.Write(&b))
	require.NoError(t, os.WriteFile(in, b.Bytes(), 0o600))
	text, err := exec.Command("go", "tool", "preprofile", "-i", in).Output()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")[1:] // after the version
	for edge := range slices.Chunk(lines, 3) {
		out = append(out, strings.Join(edge, " "))
	}
	require.NotEmpty(t, out)
	return out
}
