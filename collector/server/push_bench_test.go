package server_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	"github.com/stretchr/testify/require"
)

// BenchmarkPush pushes profiles of the size that a Go service gives in ten seconds, one
// after the other. The client's work is in the figures.
func BenchmarkPush(b *testing.B) {
	url, _ := start(b, defaults)
	client := pushv1connect.NewPusherServiceClient(http.DefaultClient, url)
	requests := make([]*pushv1.PushRequest, 32)
	for n := range requests {
		p := &googlev1.Profile{
			StringTable: []string{"", "cpu", "nanoseconds", "samples", "count"},
			SampleType:  []*googlev1.ValueType{{Type: 3, Unit: 4}, {Type: 1, Unit: 2}},
			PeriodType:  &googlev1.ValueType{Type: 1, Unit: 2},
			Mapping:     []*googlev1.Mapping{{Id: 1}},
			TimeNanos:   time.Now().Add(-time.Duration(n) * 10 * time.Second).UnixNano(), DurationNanos: 10e9,
		}
		for i := range uint64(1200) {
			p.StringTable = append(p.StringTable, fmt.Sprintf("example.org/service/package%d.(*Type%d).Method%d", i%40, i%300, i))
			p.Function = append(p.Function, &googlev1.Function{Id: i + 1, Name: int64(i + 5), SystemName: int64(i + 5), Filename: int64(i%40 + 5), StartLine: int64(i)})
			p.Location = append(p.Location, &googlev1.Location{Id: i + 1, MappingId: 1, Address: 0x400000 + i*64, Line: []*googlev1.Line{{FunctionId: i + 1, Line: int64(i)}}})
		}
		for i := range uint64(450) {
			s := &googlev1.Sample{Value: []int64{int64(i%7 + 1), int64(i%7+1) * 1e7}}
			for j := range 20 + i%20 {
				s.LocationId = append(s.LocationId, (i*i+j*7+uint64(n))%1200+1)
			}
			p.Sample = append(p.Sample, s)
		}
		raw, err := p.MarshalVT()
		require.NoError(b, err)
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, err = z.Write(raw)
		require.NoError(b, err)
		require.NoError(b, z.Close())
		requests[n] = &pushv1.PushRequest{Series: []*pushv1.RawProfileSeries{{
			Labels: pairs("__name__", "process_cpu", "service_name", "bench"), Samples: []*pushv1.RawSample{{RawProfile: packed.Bytes()}},
		}}}
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		_, err := client.Push(b.Context(), connect.NewRequest(requests[n%len(requests)]))
		require.NoError(b, err)
		n++
	}
}
