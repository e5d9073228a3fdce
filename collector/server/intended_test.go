package server_test

// A difference is one that we intend: why is in docs/compatibility.md.
type difference struct {
	code  string   // our code, "" for success
	names string   // part of our message: the field at fault
	lines []string // our answer, where it is short
}

// intended are the differences from the recorded Pyroscope server, by the name
// of the call.
var intended = map[string]difference{
	// Frames without a symbol stay visible.
	"flame graph, addresses without a function": {lines: []string{
		"total 24000000, max self 16000000",
		"level 0 at 0: total total 24000000 self 0",
		"level 1 at 0: main total 24000000 self 0",
		"level 2 at 0: app+0xbeef total 16000000 self 16000000",
		"level 2 at 16000000: lock total 8000000 self 8000000",
	}},
	"pprof, addresses without a function": {lines: []string{
		"period   1",
		"sample type delay nanoseconds",
		"time +120000 ms",
		"main (file1.go:4); 0xbeef: [16000000]",
		"main (file1.go:4); lock (file2.go:5): [8000000]",
	}},

	// No selector is one that matches everything.
	"flame graph, selector ":             {},
	"label names, no range":              {},
	"profile stats":                      {lines: []string{"data ingested: true"}},
	"series, average":                    {},
	"series, average over longer steps":  {},
	"series, under main.main, main.work": {},

	// What is not kept is not invented.
	"heatmap":           {code: "unimplemented", names: "SelectHeatmap"},
	"series, exemplars": {code: "unimplemented", names: "exemplar_type"},

	// Mistakes of clients are named.
	"flame graph, wrong: format":    {code: "invalid_argument", names: "format"},
	"flame graph, wrong: span":      {code: "invalid_argument", names: "span_selector[0]"},
	"series, wrong: aggregation":    {code: "invalid_argument", names: "aggregation"},
	"series, wrong: negative limit": {code: "invalid_argument", names: "limit"},
	"push, wrong: no bytes":         {code: "invalid_argument", names: "series[0].samples[0].raw_profile"},
	"push, wrong: text":             {code: "invalid_argument", names: "series[0].samples[0].raw_profile"},
	"push, wrong: cut":              {code: "invalid_argument", names: "period: unexpected EOF, at byte"},
	"push, wrong: cut gzip":         {code: "invalid_argument", names: "gzip: unexpected EOF"},
}
