package server

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/pkg/profile"
)

// What the codec writes is what protobuf's own code reads.
func TestCodecIsProtobuf(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var names []string
	var levels []*querierv1.Level
	for i := range 60 {
		names = append(names, strings.Repeat("n", r.IntN(300)))
		l := &querierv1.Level{}
		for range i * i {
			l.Values = append(l.Values, r.Int64()>>r.IntN(64)*int64(r.IntN(3)-1))
		}
		levels = append(levels, l)
	}
	flame := &querierv1.FlameGraph{Names: names, Levels: levels, Total: 1 << 40, MaxSelf: -3}
	diff := &querierv1.FlameGraphDiff{Names: names, Levels: levels, Total: 5, MaxSelf: 4, LeftTicks: 3, RightTicks: 2}
	unknown := &querierv1.FlameGraph{Names: names}
	unknown.ProtoReflect().SetUnknown([]byte{0x98, 0x06, 0x01})
	for name, m := range map[string]proto.Message{
		"nothing":       &querierv1.SelectMergeStacktracesResponse{},
		"flame graph":   &querierv1.SelectMergeStacktracesResponse{Flamegraph: flame},
		"empty":         &querierv1.SelectMergeStacktracesResponse{Flamegraph: &querierv1.FlameGraph{}},
		"small":         &querierv1.SelectMergeStacktracesResponse{Flamegraph: &querierv1.FlameGraph{Names: []string{"total"}, Levels: []*querierv1.Level{{Values: []int64{0, 0, 0, 0}}}}},
		"with a tree":   &querierv1.SelectMergeStacktracesResponse{Flamegraph: flame, Tree: []byte{1}},
		"tree":          &querierv1.SelectMergeStacktracesResponse{Tree: []byte{1, 2}},
		"dot":           &querierv1.SelectMergeStacktracesResponse{Dot: "digraph {}"},
		"unknown field": &querierv1.SelectMergeStacktracesResponse{Flamegraph: unknown},
		"no comparison": &querierv1.DiffResponse{},
		"comparison":    &querierv1.DiffResponse{Flamegraph: diff},
		"pprof":         &googlev1.Profile{StringTable: []string{"", "a"}, TimeNanos: 7},
		"without code":  &querierv1.Level{Values: []int64{1, -1}},
	} {
		t.Run(name, func(t *testing.T) {
			want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			require.NoError(t, err)
			for _, before := range [][]byte{nil, []byte("before"), make([]byte, 0, 1<<20)} {
				got, err := vtCodec{}.MarshalAppend(before, m)
				require.NoError(t, err)
				require.Equal(t, string(before), string(got[:len(before)]))
				back := m.ProtoReflect().New().Interface()
				require.NoError(t, vtCodec{}.Unmarshal(got[len(before):], back))
				require.True(t, proto.Equal(m, back))
				require.Len(t, got, len(before)+len(want))
			}
		})
	}
}

// A profile that is encoded already is handed on as it is.
func TestCodecKeepsWhatIsEncoded(t *testing.T) {
	data, err := proto.Marshal(&googlev1.Profile{StringTable: []string{"", "a"}, TimeNanos: 7})
	require.NoError(t, err)
	m := &googlev1.Profile{}
	m.ProtoReflect().SetUnknown(data)
	got, err := vtCodec{}.MarshalAppend(nil, m)
	require.NoError(t, err)
	require.Equal(t, data, got)
	got, err = vtCodec{}.MarshalAppend([]byte("before"), m)
	require.NoError(t, err)
	require.Equal(t, "before"+string(data), string(got))
	m.Period = 3
	got, err = vtCodec{}.MarshalAppend(nil, m)
	require.NoError(t, err)
	back := &googlev1.Profile{}
	require.NoError(t, proto.Unmarshal(got, back))
	require.EqualValues(t, 3, back.Period)
	require.EqualValues(t, 7, back.TimeNanos)
}

// Label sets that are encoded from the store's columns are those that the store has.
func TestCodecOfLabelSets(t *testing.T) {
	db, err := store.Open(t.TempDir(), store.Options{MaintenanceInterval: -1})
	require.NoError(t, err)
	defer db.Close()
	long := strings.Repeat("long ", 100)
	for _, pod := range []string{"a", "b", long, ""} {
		p := &googlev1.Profile{
			StringTable: []string{"", "cpu", "nanoseconds", "main"},
			SampleType:  []*googlev1.ValueType{{Type: 1, Unit: 2}},
			Function:    []*googlev1.Function{{Id: 1, Name: 3}},
			Location:    []*googlev1.Location{{Id: 1, Line: []*googlev1.Line{{FunctionId: 1}}}},
			Sample:      []*googlev1.Sample{{LocationId: []uint64{1}, Value: []int64{5}}},
			TimeNanos:   time.Now().UnixNano(),
		}
		require.NoError(t, db.Append(t.Context(), []profile.Profile{{
			Labels: labels.FromStrings("__name__", "process_cpu", "service_name", "app", "pod", pod), Pprof: p,
		}}))
	}
	for _, names := range [][]string{nil, {"pod"}, {"none"}} {
		sets, err := db.Labels(t.Context(), names, nil, 0, 0)
		require.NoError(t, err)
		want := &querierv1.SeriesResponse{}
		for _, ls := range sets.All() {
			want.LabelsSet = append(want.LabelsSet, &typesv1.Labels{Labels: pairs(ls)})
		}
		got := &querierv1.SeriesResponse{}
		require.NoError(t, proto.Unmarshal(appendLabelSets(nil, sets), got))
		require.True(t, proto.Equal(want, got), got)
	}
}
