package server_test

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"connectrpc.com/connect"
	pprof "github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
	"github.com/flameline/flameline/pkg/profile"
)

// Samples of a pushed profile that have times are found at their offset in the second.
// Profiles without times are counted.
func TestOffsets(t *testing.T) {
	server, _ := start(t, defaults)
	begin := time.Now().Add(-10 * time.Minute).Truncate(10 * time.Second)
	f := &pprof.Function{ID: 1, Name: "work"}
	l := &pprof.Location{ID: 1, Line: []pprof.Line{{Function: f}}}
	p := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: period,
		TimeNanos: begin.UnixNano(), DurationNanos: 1e10, Function: []*pprof.Function{f}, Location: []*pprof.Location{l},
	}
	for i, at := range []time.Duration{30 * time.Millisecond, 31 * time.Millisecond, time.Second + 990*time.Millisecond, 3 * time.Second} {
		n := int64(i + 1)
		p.Sample = append(p.Sample, &pprof.Sample{
			Location: []*pprof.Location{l}, Value: []int64{n, n * period},
			NumLabel: map[string][]int64{profile.LabelSampleTime: {begin.Add(at).UnixNano()}},
		})
	}
	var b bytes.Buffer
	require.NoError(t, p.Write(&b))
	status, _, answer := post(t, server+"/ingest?"+url.Values{
		"name": {"timed"}, "format": {"pprof"}, "from": {strconv.FormatInt(begin.Unix(), 10)}, "until": {strconv.FormatInt(begin.Unix()+10, 10)},
	}.Encode(), b.Bytes())
	require.Equal(t, http.StatusOK, status, string(answer))
	pushSampled(t, server, "untimed", begin, map[string]int64{"work": 5})

	q := flamelinev1connect.NewQueryServiceClient(http.DefaultClient, server)
	ask := func(change func(*flamelinev1.OffsetsRequest)) (*flamelinev1.OffsetsResponse, error) {
		r := &flamelinev1.OffsetsRequest{
			Selection: &flamelinev1.Selection{ProfileTypeID: cpu, LabelSelector: "{}", Start: begin.UnixMilli(), End: begin.Add(time.Minute).UnixMilli()},
			Step:      1, Rows: 50,
		}
		change(r)
		resp, err := q.Offsets(t.Context(), connect.NewRequest(r))
		if err != nil {
			return nil, err
		}
		return resp.Msg, nil
	}
	got, err := ask(func(*flamelinev1.OffsetsRequest) {})
	require.NoError(t, err)
	cells := map[string]int64{}
	for _, c := range got.Columns {
		require.Len(t, c.Values, 50)
		for row, v := range c.Values {
			if v != 0 {
				cells[time.Duration((c.Time-begin.UnixMilli())*1e6).String()+" "+strconv.Itoa(row)] = v
			}
		}
	}
	require.Equal(t, map[string]int64{"1s 1": 3 * period, "2s 49": 3 * period, "3s 49": 4 * period}, cells)
	require.EqualValues(t, 1, got.Timed)
	require.EqualValues(t, 1, got.Untimed)
	require.Zero(t, got.Since)

	for want, change := range map[string]func(*flamelinev1.OffsetsRequest){
		"rows":                     func(r *flamelinev1.OffsetsRequest) { r.Rows = 20 },
		"step":                     func(r *flamelinev1.OffsetsRequest) { r.Step = 0 },
		"start":                    func(r *flamelinev1.OffsetsRequest) { r.Selection.Start++ },
		"selection":                func(r *flamelinev1.OffsetsRequest) { r.Selection = nil },
		"selection.profile_typeID": func(r *flamelinev1.OffsetsRequest) { r.Selection.ProfileTypeID = "none:none:count::" },
	} {
		_, err := ask(change)
		require.ErrorContains(t, err, want)
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), want)
	}
}
