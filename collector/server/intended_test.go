package server_test

// A difference is one that we intend: why is in docs/compatibility.md. It says
// what our answer is, in full: an error, which names the call's field at fault,
// the answer of another call, that of Pyroscope's other storage architecture, or
// lines.
type difference struct {
	code  string   // our code
	as    string   // Pyroscope's answer to that call
	v1    bool     // the answer of v1
	lines []string // our answer

	// varies says that Pyroscope's answer depends on how its data lies in
	// blocks, so that it may be ours too.
	varies bool
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
		"of /usr/bin/app build ID abcdef",
		"main (file1.go:4, from 1); 0xbeef: [16000000]",
		"main (file1.go:4, from 1); lock (file2.go:5, from 2): [8000000]",
	}},

	// States are averaged over time, not added up: there are eight profiles.
	"flame graph, memory:inuse_objects:count:space:bytes": {lines: []string{
		"total 3, max self 3",
		"level 0 at 0: total total 3 self 0",
		"level 1 at 0: main.main total 3 self 0",
		"level 2 at 0: main.newOrder total 3 self 3",
	}},
	"flame graph, goroutines:goroutine:count::": {lines: averageGoroutines},
	"flame graph, 1 node of one stacktrace":     {lines: averageGoroutines},
	"pprof, memory:inuse_objects:count:space:bytes": {lines: []string{
		"period space bytes 524288",
		"sample type inuse_objects count",
		"time +120000 ms",
		"of /usr/bin/app build ID abcdef",
		"main.main (file2.go:5, from 2); main.newOrder (file1.go:4, from 1): [3]",
	}},
	"diff, two types": {lines: []string{
		"total 76339, max self 65536, left 76336, right 3",
		"level 0 at 0/0: total total 76336/3 self 0/0",
		"level 1 at 0/0: main.main total 76336/3 self 0/0",
		"level 2 at 0/0: bytes.(*Buffer).Write total 65536/0 self 0/0",
		"level 2 at 65536/0: main.newOrder total 10800/3 self 10800/3",
		"level 3 at 0/0: bytes.growSlice total 65536/0 self 65536/0",
	}},

	// Flame graphs are cut once, after merging, so that what is shown has its
	// whole value. Pyroscope cuts every part of the data before.
	"flame graph, 5 nodes": {varies: true, lines: []string{
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
	"diff, 5 nodes": {varies: true, lines: []string{
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
	"flame graph, 5 nodes as a tree": {varies: true, lines: []string{
		"total total 4240000000 self 0",
		" main.main total 4080000000 self 0",
		"  main.handle total 1760000000 self 1760000000",
		"  main.work total 1840000000 self 320000000",
		"   main.price total 800000000 self 800000000",
		"   main.save total 720000000 self 0",
		"    syscall.write total 720000000 self 720000000",
		"  other total 480000000 self 480000000",
		" other total 160000000 self 160000000",
	}},
	"flame graph, 5 nodes of all services": {varies: true, lines: []string{
		"total 4323000000, max self 1760000000",
		"level 0 at 0: total total 4323000000 self 0",
		"level 1 at 0: main.main total 4080000000 self 0",
		"level 1 at 4080000000: other total 243000000 self 243000000",
		"level 2 at 0: main.handle total 1760000000 self 1760000000",
		"level 2 at 1760000000: main.work total 1840000000 self 320000000",
		"level 2 at 3600000000: other total 480000000 self 480000000",
		"level 3 at 2080000000: main.price total 800000000 self 800000000",
		"level 3 at 2880000000: main.save total 720000000 self 0",
		"level 4 at 2880000000: syscall.write total 720000000 self 720000000",
	}},
	"flame graph, 3 nodes": {varies: true, lines: []string{
		"total 4240000000, max self 1760000000",
		"level 0 at 0: total total 4240000000 self 0",
		"level 1 at 0: main.main total 4080000000 self 0",
		"level 1 at 4080000000: other total 160000000 self 160000000",
		"level 2 at 0: main.handle total 1760000000 self 1760000000",
		"level 2 at 1760000000: main.work total 1840000000 self 320000000",
		"level 2 at 3600000000: other total 480000000 self 480000000",
		"level 3 at 2080000000: other total 1520000000 self 1520000000",
	}},
	"flame graph, 3 nodes of all services": {varies: true, lines: []string{
		"total 4323000000, max self 1760000000",
		"level 0 at 0: total total 4323000000 self 0",
		"level 1 at 0: main.main total 4080000000 self 0",
		"level 1 at 4080000000: other total 243000000 self 243000000",
		"level 2 at 0: main.handle total 1760000000 self 1760000000",
		"level 2 at 1760000000: main.work total 1840000000 self 320000000",
		"level 2 at 3600000000: other total 480000000 self 480000000",
		"level 3 at 2080000000: other total 1520000000 self 1520000000",
	}},
	"flame graph, 2 nodes": {varies: true, lines: []string{
		"total 4240000000, max self 2240000000",
		"level 0 at 0: total total 4240000000 self 0",
		"level 1 at 0: main.main total 4080000000 self 0",
		"level 1 at 4080000000: other total 160000000 self 160000000",
		"level 2 at 0: main.work total 1840000000 self 320000000",
		"level 2 at 1840000000: other total 2240000000 self 2240000000",
		"level 3 at 320000000: other total 1520000000 self 1520000000",
	}},
	"flame graph, 2 nodes of all services": {varies: true, lines: []string{
		"total 4323000000, max self 2240000000",
		"level 0 at 0: total total 4323000000 self 0",
		"level 1 at 0: main.main total 4080000000 self 0",
		"level 1 at 4080000000: other total 243000000 self 243000000",
		"level 2 at 0: main.work total 1840000000 self 320000000",
		"level 2 at 1840000000: other total 2240000000 self 2240000000",
		"level 3 at 320000000: other total 1520000000 self 1520000000",
	}},
	"flame graph, 8 nodes of all services": {varies: true, lines: []string{
		"total 4323000000, max self 1760000000",
		"level 0 at 0: total total 4323000000 self 0",
		"level 1 at 0: main.main total 4080000000 self 0",
		"level 1 at 4080000000: other total 243000000 self 243000000",
		"level 2 at 0: main.fib total 480000000 self 0",
		"level 2 at 480000000: main.handle total 1760000000 self 1760000000",
		"level 2 at 2240000000: main.work total 1840000000 self 320000000",
		"level 3 at 0: main.fib total 480000000 self 0",
		"level 3 at 2560000000: main.price total 800000000 self 800000000",
		"level 3 at 3360000000: main.save total 720000000 self 0",
		"level 4 at 0: main.fib total 480000000 self 480000000",
		"level 4 at 3360000000: syscall.write total 720000000 self 720000000",
	}},

	// No selector is one that matches everything, no range all that is stored.
	"flame graph, selector ": {as: "flame graph, selector {}"},
	"label names, no range":  {as: "label names, []"},

	// A longer range may be asked for.
	"flame graph, end in the future": {as: "flame graph, no limit of nodes given as 0"},

	// A range is empty when it ends where it begins.
	"flame graph, first profile alone": {code: "invalid_argument"},
	"series, one instant":              {code: "invalid_argument"},

	// Where the two architectures differ.
	"profile stats":                      {v1: true},
	"series, average":                    {v1: true},
	"series, average over longer steps":  {v1: true},
	"series, under main.main, main.work": {v1: true},

	// A step covers (t-step, t]: the profile at t-step is not in it.
	"series, start at a profile": {lines: []string{
		"0 {} +15001 ms: 4.86e+08",
		"0 {} +30001 ms: 5.11e+08",
		"0 {} +45001 ms: 5.36e+08",
		"0 {} +60001 ms: 5.46e+08",
		"0 {} +75001 ms: 5.71e+08",
		"0 {} +90001 ms: 5.96e+08",
		"0 {} +105001 ms: 6.06e+08",
	}},
	"heatmap, start at a profile": {lines: []string{
		"0 {} +17001 ms: rows " + ledgerRows + " counts [0 0 0 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0 0 0]",
		"0 {} +32001 ms: rows " + ledgerRows + " counts [0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1]",
		"0 {} +47001 ms: rows " + ledgerRows + " counts [1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0]",
		"0 {} +62001 ms: rows " + ledgerRows + " counts [0 0 0 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0 0 0]",
		"0 {} +77001 ms: rows " + ledgerRows + " counts [0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1]",
		"0 {} +92001 ms: rows " + ledgerRows + " counts [1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0]",
		"0 {} +107001 ms: rows " + ledgerRows + " counts [0 0 0 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0 0 0]",
	}},

	// There is no empty label set.
	"label sets of a label of samples": {lines: []string{
		`{endpoint="/list"}`,
		`{endpoint="/pay"}`,
	}},

	// Series are counted, whatever holds them.
	"query analysis": {lines: []string{"1 series"}},

	// An empty export has a sample type: without one,
	// pprof's tools refuse it.
	"pprof, nothing": {lines: emptyPprof},
	"flame graph, format PROFILE_FORMAT_PPROF of nothing": {lines: emptyPprof},

	// A leaf's line is left out where it is the leaf. Where it is a caller, its
	// line is the call site, which Pyroscope loses.
	"pprof, Go PGO of 0 locations, aggregated: true": {lines: []string{
		"period cpu nanoseconds 1000000000",
		"sample type cpu nanoseconds",
		"time +120000 ms",
		"of /usr/bin/app build ID abcdef",
		"main.main (file4.go:7, from 4); main.fib (file6.go:9, from 6); main.fib (file6.go:9, from 6); main.fib (file6.go:0, from 6): [480000000]",
		"main.main (file4.go:7, from 4); main.handle (file8.go:0, from 8): [1760000000]",
		"main.main (file4.go:7, from 4); main.work (file3.go:0, from 3): [320000000]",
		"main.main (file4.go:7, from 4); main.work (file3.go:6, from 3); main.price (file5.go:0, from 5): [800000000]",
		"main.main (file4.go:7, from 4); main.work (file3.go:6, from 3); main.save (file2.go:5, from 2); syscall.write (file1.go:0, from 1): [720000000]",
		"runtime.gcBgMarkWorker (file7.go:0, from 7): [160000000]",
	}},
	"pprof, Go PGO of 2 locations, aggregated: true": {lines: []string{
		"period cpu nanoseconds 1000000000",
		"sample type cpu nanoseconds",
		"time +120000 ms",
		"of /usr/bin/app build ID abcdef",
		"main.fib (file6.go:9, from 6); main.fib (file6.go:0, from 6): [480000000]",
		"main.main (file4.go:7, from 4); main.handle (file8.go:0, from 8): [1760000000]",
		"main.main (file4.go:7, from 4); main.work (file3.go:0, from 3): [320000000]",
		"main.save (file2.go:5, from 2); syscall.write (file1.go:0, from 1): [720000000]",
		"main.work (file3.go:6, from 3); main.price (file5.go:0, from 5): [800000000]",
		"runtime.gcBgMarkWorker (file7.go:0, from 7): [160000000]",
	}},
	"pprof, Go PGO of 5 locations, aggregated: true": {lines: goPGO},
	"flame graph, Go PGO, as profilecli asks for it": {lines: goPGO},

	// A point of a timeline is of the profiles that begin in its step, and the
	// timeline of several groups is their sum.
	// Units are those that Pyroscope's viewers know; they take count for times.
	"render, UTF-8": {lines: []string{
		"total 44, max self 44",
		"level 0 at 0: total total 44 self 0",
		"level 1 at 0: main.main total 44 self 0",
		"level 2 at 0: städte.Öffne total 44 self 0",
		"level 3 at 0: sync.(*Mutex).Lock total 44 self 44",
		"version 1 {Format:single SpyName: Units:lock_samples Name:contentions SampleRate:100}",
	}},
	"render, timeline": {lines: []string{
		"total 4240000000, max self 1760000000",
		"level 0 at 0: total total 4240000000 self 0",
		"level 1 at 0: main.main total 4080000000 self 0",
		"level 1 at 4080000000: runtime.gcBgMarkWorker total 160000000 self 160000000",
		"level 2 at 0: main.fib total 480000000 self 0",
		"level 2 at 480000000: main.handle total 1760000000 self 1760000000",
		"level 2 at 2240000000: main.work total 1840000000 self 320000000",
		"level 3 at 0: main.fib total 480000000 self 0",
		"level 3 at 2560000000: main.price total 800000000 self 800000000",
		"level 3 at 3360000000: main.save total 720000000 self 0",
		"level 4 at 0: main.fib total 480000000 self 480000000",
		"level 4 at 3360000000: syscall.write total 720000000 self 720000000",
		"version 1 {Format:single SpyName: Units:samples Name:cpu SampleRate:1000000000}",
		"timeline +0 s: 460000000",
		"timeline +15 s: 480000000",
		"timeline +30 s: 500000000",
		"timeline +45 s: 520000000",
		"timeline +60 s: 540000000",
		"timeline +75 s: 560000000",
		"timeline +90 s: 580000000",
		"timeline +105 s: 600000000",
	}},
	"render, timeline by service_name": {lines: []string{
		"total 4323000000, max self 1760000000",
		"level 0 at 0: total total 4323000000 self 0",
		"level 1 at 0: Main.main total 83000000 self 0",
		"level 1 at 83000000: main.main total 4080000000 self 0",
		"level 1 at 4163000000: runtime.gcBgMarkWorker total 160000000 self 160000000",
		"level 2 at 0: Main.rechne total 75000000 self 75000000",
		"level 2 at 75000000: grüße total 8000000 self 8000000",
		"level 2 at 83000000: main.fib total 480000000 self 0",
		"level 2 at 563000000: main.handle total 1760000000 self 1760000000",
		"level 2 at 2323000000: main.work total 1840000000 self 320000000",
		"level 3 at 83000000: main.fib total 480000000 self 0",
		"level 3 at 2643000000: main.price total 800000000 self 800000000",
		"level 3 at 3443000000: main.save total 720000000 self 0",
		"level 4 at 83000000: main.fib total 480000000 self 480000000",
		"level 4 at 3443000000: syscall.write total 720000000 self 720000000",
		"version 1 {Format:single SpyName: Units:samples Name:cpu SampleRate:1000000000}",
		"timeline +0 s: 466000000",
		"timeline +15 s: 491000000",
		"timeline +30 s: 516000000",
		"timeline +45 s: 526000000",
		"timeline +60 s: 551000000",
		"timeline +75 s: 576000000",
		"timeline +90 s: 586000000",
		"timeline +105 s: 611000000",
		"group cart +0 s: 460000000",
		"group cart +15 s: 480000000",
		"group cart +30 s: 500000000",
		"group cart +45 s: 520000000",
		"group cart +60 s: 540000000",
		"group cart +75 s: 560000000",
		"group cart +90 s: 580000000",
		"group cart +105 s: 600000000",
		"group ledger +0 s: 6000000",
		"group ledger +15 s: 11000000",
		"group ledger +30 s: 16000000",
		"group ledger +45 s: 6000000",
		"group ledger +60 s: 11000000",
		"group ledger +75 s: 16000000",
		"group ledger +90 s: 6000000",
		"group ledger +105 s: 11000000",
	}},

	// Points have examples of spans as well.
	"series, exemplars of spans": {lines: spanPoints()},
	// And examples of a call site are what is under it.
	"series, exemplars under main.main, main.work": {lines: workPoints()},

	// Examples have the labels that all series of the profile or the span have,
	// but for the group's, in whatever order the request names these.
	"series, exemplars by two labels in the other order": {as: "series, exemplars by two labels"},
	"heatmap, spans with exemplars of both pods":         {lines: spanCells()},

	// Any text may be the ID that a sender gave a profile.
	"flame graph, profile of no UUID": {as: "flame graph, profile that is not stored"},

	// Mistakes of clients are named.
	"flame graph, wrong: format":                      {code: "invalid_argument"},
	"flame graph, wrong: trace":                       {code: "invalid_argument"},
	"heatmap, wrong: exemplars of profiles for spans": {code: "invalid_argument"},
	"heatmap, wrong: exemplars of spans for profiles": {code: "invalid_argument"},
	"heatmap, wrong: exemplar type":                   {code: "invalid_argument"},
	"flame graph, wrong: span":                        {code: "invalid_argument"},
	"span profile, wrong: span":                       {code: "invalid_argument"},
	"flame graph, wrong: type of no name":             {code: "invalid_argument"},
	"render, wrong: format":                           {code: "invalid_argument"},
	"series, wrong: aggregation":                      {code: "invalid_argument"},
	"series, wrong: negative limit":                   {code: "invalid_argument"},
	"heatmap, wrong: no query type":                   {code: "invalid_argument"},
	"heatmap, wrong: selector":                        {code: "invalid_argument"},
	"push, wrong: no bytes":                           {code: "invalid_argument"},
	"push, wrong: text":                               {code: "invalid_argument"},
	"push, wrong: cut":                                {code: "invalid_argument"},
	"push, wrong: cut gzip":                           {code: "invalid_argument"},
	// One element is corrected, not the profile refused.
	"push, wrong: function ID 0":                        {lines: []string{""}},
	"push, wrong: name outside the string table":        {lines: []string{""}},
	"push, wrong: negative value":                       {code: "invalid_argument"},
	"push, wrong: values of more than 64 bits together": {code: "invalid_argument"},
}

var emptyPprof = []string{"an empty profile", "period cpu nanoseconds 1000000000", "sample type cpu nanoseconds", "time +120000 ms"}

// Of eight profiles, the mean is 10.5.
var averageGoroutines = []string{
	"total 11, max self 11",
	"level 0 at 0: total total 11 self 0",
	"level 1 at 0: main.main total 11 self 0",
	"level 2 at 0: runtime.gopark total 11 self 11",
}

// Rows of heatmaps of ledger.
const ledgerRows = "[6e+06 6.5e+06 7e+06 7.5e+06 8e+06 8.5e+06 9e+06 9.5e+06 1e+07 1.05e+07 1.1e+07 1.15e+07 1.2e+07 1.25e+07 1.3e+07 1.35e+07 1.4e+07 1.45e+07 1.5e+07 1.55e+07]"

var goPGO = []string{
	"period cpu nanoseconds 1000000000",
	"sample type cpu nanoseconds",
	"time +120000 ms",
	"of /usr/bin/app build ID abcdef",
	"main.main (file4.go:7, from 4); main.fib (file6.go:9, from 6); main.fib (file6.go:9, from 6); main.fib (file6.go:0, from 6): [480000000]",
	"main.main (file4.go:7, from 4); main.handle (file8.go:0, from 8): [1760000000]",
	"main.main (file4.go:7, from 4); main.work (file3.go:0, from 3): [320000000]",
	"main.main (file4.go:7, from 4); main.work (file3.go:6, from 3); main.price (file5.go:0, from 5): [800000000]",
	"main.main (file4.go:7, from 4); main.work (file3.go:6, from 3); main.save (file2.go:5, from 2); syscall.write (file1.go:0, from 1): [720000000]",
	"runtime.gcBgMarkWorker (file7.go:0, from 7): [160000000]",
}
