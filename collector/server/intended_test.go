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

	// Flame graphs are cut once, after merging, so that what is shown has its
	// whole value. Pyroscope cuts every part of the data before.
	"flame graph, 5 nodes": {lines: []string{
		"total 4240000000, max self 1760000000",
		"level 0 at 0: total total 4240000000 self 0",
		"level 1 at 0: main.main total 4080000000 self 0",
		"level 1 at 4080000000: other total 160000000 self 160000000",
		"level 2 at 0: main.handle total 1760000000 self 1760000000",
		"level 2 at 1760000000: main.work total 1840000000 self 320000000",
		"level 2 at 3600000000: other total 480000000 self 480000000",
		"level 3 at 2080000000: main.price total 800000000 self 800000000",
		"level 3 at 2880000000: main.save total 720000000 self 0",
		"level 4 at 2880000000: syscall.write total 720000000 self 720000000",
	}},
	"diff, 5 nodes": {lines: []string{
		"total 4240000000, max self 880000000, left 1960000000, right 2280000000",
		"level 0 at 0/0: total total 1960000000/2280000000 self 0/0",
		"level 1 at 0/0: main.main total 1880000000/2200000000 self 0/0",
		"level 1 at 1880000000/2200000000: other total 80000000/80000000 self 80000000/80000000",
		"level 2 at 0/0: main.handle total 880000000/880000000 self 880000000/880000000",
		"level 2 at 880000000/880000000: main.work total 760000000/1080000000 self 160000000/160000000",
		"level 2 at 1640000000/1960000000: other total 240000000/240000000 self 240000000/240000000",
		"level 3 at 1040000000/1040000000: main.save total 200000000/520000000 self 0/0",
		"level 3 at 1240000000/1560000000: other total 400000000/400000000 self 400000000/400000000",
		"level 4 at 1040000000/1040000000: syscall.write total 200000000/520000000 self 200000000/520000000",
	}},
	"flame graph, 5 nodes as a tree":       {},
	"flame graph, 5 nodes of all services": {},
	"flame graph, 2 nodes":                 {},
	"flame graph, 2 nodes of all services": {},
	"flame graph, 8 nodes of all services": {},

	// No selector is one that matches everything.
	"flame graph, selector ":             {},
	"label names, no range":              {},
	"profile stats":                      {lines: []string{"data ingested: true"}},
	"series, average":                    {},
	"series, average over longer steps":  {},
	"series, under main.main, main.work": {},

	// A range is empty when it ends where it begins.
	"flame graph, first profile alone": {code: "invalid_argument", names: "start/end"},
	"series, one instant":              {code: "invalid_argument", names: "start/end"},

	// Samples with labels are series of their own, and their profile is one for
	// each of them.
	"heatmap": {},

	// What is not kept is not invented.
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
