package server

import (
	"bytes"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/flameline/flameline/collector/ingest"
)

// TestManyPartsAreRefusedUndecoded has pushes whose parts take much more memory than their
// bytes, at the limits and beyond.
func TestManyPartsAreRefusedUndecoded(t *testing.T) {
	field := func(number protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), b)
	}
	repeat := func(number protowire.Number, n int) []byte { return bytes.Repeat(field(number, nil), n) }
	// A field's number that generated code reads, and that protobuf does not allow.
	odd := append(protowire.AppendVarint(nil, 1<<35|2), 0)
	limits := Limits{MaxSeriesPerPush: 10, Ingest: ingest.Limits{MaxSymbols: 1000}}
	for name, tc := range map[string]struct {
		message []byte
		json    bool
		parts   int64
		want    string
	}{
		"empty":              {nil, false, 0, ""},
		"series":             {repeat(1, 10), false, 10, ""},
		"more series":        {repeat(1, 11), false, 0, "message: series: 11 series are more than 10 (limits.max_series_per_push)"},
		"profiles":           {bytes.Repeat(field(1, repeat(2, 20)), 10), false, 210, ""},
		"more profiles":      {append(field(1, repeat(2, 101)), field(1, repeat(2, 100))...), false, 0, "message: series: 201 profiles are more than 200 (20 times limits.max_series_per_push)"},
		"labels":             {field(1, repeat(1, 1000)), false, 1001, ""},
		"more labels":        {append(field(1, repeat(1, 900)), field(1, repeat(1, 101))...), false, 0, "series: more than 1000 labels and samples (limits.max_symbols)"},
		"other fields":       {repeat(7, 5000), false, 0, ""},
		"cut":                {[]byte{10, 5, 10}, false, 0, "message: unexpected EOF, at byte 0 of the message"},
		"cut within":         {field(1, []byte{10, 0, 10, 5}), false, 0, "unexpected EOF, at byte 4 of the message"},
		"behind an odd one":  {append(odd, repeat(1, 5000)...), false, 0, "at byte 0 of the message"},
		"JSON objects":       {[]byte(`{"series":[` + strings.Repeat("{},", 999) + "]}"), true, 2000, ""},
		"more JSON objects":  {[]byte(`{"series":[` + strings.Repeat("{},", 1000) + "]}"), true, 0, "message: 1001 objects are more than 1000 (limits.max_symbols)"},
		"JSON within a text": {[]byte(`{"a":"` + strings.Repeat(`{\"[`, 5000) + `"}`), true, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			share, err := newPushMemory(1<<40, "x").enter(t.Context())
			require.NoError(t, err)
			defer share.leave()
			err = limits.checkPush(tc.message, tc.json, share)
			if tc.want != "" {
				require.ErrorContains(t, err, tc.want)
				require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
				require.Zero(t, share.spent)
				return
			}
			require.NoError(t, err)
			require.GreaterOrEqual(t, share.spent, (tc.parts-1000)*pushPartCost)
			if !tc.json {
				require.Equal(t, tc.parts*pushPartCost, share.spent)
			}
		})
	}
}
