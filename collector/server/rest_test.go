package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/dataframe"
	"github.com/flameline/flameline/pkg/profile"
)

// A rested server has a profile in which mallocgc is called from 3,000 handlers, and
// does all the work but that of a function called other.
type rested struct {
	url   string
	begin time.Time
}

const (
	restedMallocs = 3000 * 2 * 1e7 // ns
	restedOther   = 400 * 1e7
)

func startRested(t *testing.T) rested {
	t.Helper()
	s := rested{begin: time.Now().Add(-10 * time.Minute).Truncate(time.Second)}
	s.url, _ = start(t, defaults)
	var b strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&b, "main;handler%d;json;mallocgc 2\n", i)
	}
	b.WriteString("main;other 400\n")
	status, _, answer := post(t, s.url+"/ingest?"+url.Values{
		"name": {"rested"}, "format": {"folded"}, "sampleRate": {"100"},
		"from": {strconv.FormatInt(s.begin.Unix(), 10)}, "until": {strconv.FormatInt(s.begin.Unix()+10, 10)},
	}.Encode(), []byte(b.String()))
	require.Equal(t, http.StatusOK, status, string(answer))
	return s
}

func (s rested) request(nodes int64) *querierv1.SelectMergeStacktracesRequest {
	return &querierv1.SelectMergeStacktracesRequest{
		ProfileTypeID: cpu, LabelSelector: "{}", Start: s.begin.UnixMilli() - 60_000, End: s.begin.UnixMilli() + 60_000, MaxNodes: &nodes,
	}
}

func TestFlameGraphsByFunctions(t *testing.T) {
	s := startRested(t)
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, s.url)
	ask := func(value string) (*profile.Tree, http.Header) {
		req := connect.NewRequest(s.request(1000))
		if value != "" {
			req.Header().Set(profile.HeaderRest, value)
		}
		resp, err := q.SelectMergeStacktraces(t.Context(), req)
		require.NoError(t, err)
		f := profile.Flamegraph{Names: resp.Msg.Flamegraph.Names}
		for _, l := range resp.Msg.Flamegraph.Levels {
			f.Levels = append(f.Levels, l.Values)
		}
		tree, err := profile.ParseFlamegraph(f)
		require.NoError(t, err)
		require.LessOrEqual(t, len(tree.Nodes), 1100)
		return tree, resp.Header()
	}
	own := func(tree *profile.Tree, name string) (sum int64) {
		for _, n := range tree.Nodes {
			if tree.Names[n.Name] == name {
				sum += n.Self
			}
		}
		return sum
	}
	plain, header := ask("")
	require.Equal(t, "(other)", header.Get("Flameline-Rest-Name"))
	require.Empty(t, header.Get("Flameline-Rest"))
	require.EqualValues(t, restedOther, own(plain, "other"), "a function keeps its name")
	require.Less(t, own(plain, "mallocgc"), int64(restedMallocs)/2)

	whole, header := ask("functions")
	require.Equal(t, "(other)", header.Get("Flameline-Rest-Name"))
	require.Equal(t, "functions", header.Get("Flameline-Rest"))
	require.EqualValues(t, restedMallocs, own(whole, "mallocgc"))
	require.EqualValues(t, restedOther, own(whole, "other"))

	// A comparison, and the samples of spans.
	diff := connect.NewRequest(&querierv1.DiffRequest{Left: s.request(1000), Right: s.request(1000)})
	diff.Header().Set(profile.HeaderRest, "functions")
	compared, err := q.Diff(t.Context(), diff)
	require.NoError(t, err)
	require.Equal(t, "functions", compared.Header().Get("Flameline-Rest"))
	require.Equal(t, "(other)", compared.Header().Get("Flameline-Rest-Name"))
	spans := connect.NewRequest(&querierv1.SelectMergeSpanProfileRequest{
		ProfileTypeID: cpu, LabelSelector: "{}", Start: s.begin.UnixMilli() - 60_000, End: s.begin.UnixMilli() + 60_000,
		SpanSelector: []string{"9a517183f26a089d"},
	})
	spans.Header().Set(profile.HeaderRest, "functions")
	of, err := q.SelectMergeSpanProfile(t.Context(), spans)
	require.NoError(t, err)
	require.Equal(t, "functions", of.Header().Get("Flameline-Rest"))
	require.Empty(t, of.Header().Get("Flameline-Rest-Name"))

	diff.Header().Set(profile.HeaderRest, "everything")
	_, err = q.Diff(t.Context(), diff)
	require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
	require.ErrorContains(t, err, `header Flameline-Rest: "everything" is not functions`)
}

// The frame of a panel has each function's own time, and no function for the rest.
func TestFrameByFunctions(t *testing.T) {
	s := startRested(t)
	ty, err := profile.ParseType(cpu)
	require.NoError(t, err)
	nodes := int64(500)
	tree, err := client.New(http.DefaultClient, s.url).Tree(t.Context(), client.Selection{
		Type: ty, Selector: "{}", Start: s.begin.UnixMilli() - 60_000, End: s.begin.UnixMilli() + 60_000,
	}, &nodes, client.Only{})
	require.NoError(t, err)
	require.True(t, tree.Functions)
	raw, err := json.Marshal(dataframe.Flamegraph(tree, dataframe.Unit{ID: "ns", Divisor: 1}))
	require.NoError(t, err)
	var frame struct {
		Schema struct {
			Fields []struct {
				Config struct {
					Type struct{ Enum struct{ Text []string } }
				}
			}
		}
		Data struct{ Values [][]int64 }
	}
	require.NoError(t, json.Unmarshal(raw, &frame))
	table := map[string]int64{}
	for i, label := range frame.Data.Values[3] {
		table[frame.Schema.Fields[3].Config.Type.Enum.Text[label]] += frame.Data.Values[2][i]
	}
	require.LessOrEqual(t, len(frame.Data.Values[3]), 550)
	require.EqualValues(t, restedMallocs, table["mallocgc"])
	require.EqualValues(t, restedOther, table["other"])
	require.Contains(t, table, dataframe.Rest)
	require.Zero(t, table[dataframe.Rest])
}

// Exports are whole unless max-nodes says otherwise, and then say what is cut off.
func TestExportsNameTheRest(t *testing.T) {
	s := startRested(t)
	get := func(format string, more ...string) string {
		args := append([]string{"query", "{}", "from", strconv.FormatInt(s.begin.Unix()-60, 10), "until", strconv.FormatInt(s.begin.Unix()+60, 10), "format", format}, more...)
		args[1] = cpu + "{}"
		return ok(t, s.url, "/render", args...)
	}
	require.Equal(t, 3001, strings.Count(get("collapsed"), "\n"))
	require.Contains(t, get("collapsed"), "main;other 4000000000\n")
	require.NotContains(t, get("collapsed"), "(other)")
	cut := get("collapsed", "max-nodes", "50")
	require.Contains(t, cut, "main;other 4000000000\n")
	require.Contains(t, cut, "main;(other) ")
	require.LessOrEqual(t, strings.Count(cut, "\n"), 60)
	require.Contains(t, get("speedscope", "max-nodes", "50"), `{"name":"(other)"}`)
	require.Contains(t, get("svg", "max-nodes", "50"), "(other): calls that are too small to be shown")
	require.Contains(t, get("json", "max-nodes", "50"), `"(other)"`)
	require.Contains(t, get("dot", "max-nodes", "5"), `mallocgc\n60000000000 `)
}
