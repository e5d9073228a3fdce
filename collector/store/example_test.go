package store_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/pkg/profile"
)

func Example() {
	dir, err := os.MkdirTemp("", "flameline")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := store.Open(dir, store.Options{Retention: 30 * 24 * time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ctx := context.Background()
	now, took := time.Now(), 10*time.Second
	err = db.Append(ctx, []profile.Profile{{
		Labels: labels.FromStrings("__name__", "process_cpu", "service_name", "checkout", "pod", "checkout-1"),
		Pprof: &googlev1.Profile{
			TimeNanos: now.Add(-took).UnixNano(), DurationNanos: took.Nanoseconds(),
			StringTable: []string{"", "cpu", "nanoseconds", "main", "validateOrder"},
			SampleType:  []*googlev1.ValueType{{Type: 1, Unit: 2}},
			PeriodType:  &googlev1.ValueType{Type: 1, Unit: 2},
			Function:    []*googlev1.Function{{Id: 1, Name: 3}, {Id: 2, Name: 4}},
			Location:    []*googlev1.Location{{Id: 1, Line: []*googlev1.Line{{FunctionId: 1}}}, {Id: 2, Line: []*googlev1.Line{{FunctionId: 2}}}},
			Sample:      []*googlev1.Sample{{LocationId: []uint64{2, 1}, Value: []int64{3e9}}, {LocationId: []uint64{1}, Value: []int64{1e9}}},
		},
	}})
	if err != nil {
		log.Fatal(err)
	}

	cpu, err := profile.ParseType("process_cpu:cpu:nanoseconds:cpu:nanoseconds")
	if err != nil {
		log.Fatal(err)
	}
	matchers, err := profile.ParseSelector(`{pod=~"checkout-.*"}`)
	if err != nil {
		log.Fatal(err)
	}
	tree, err := db.Tree(ctx, store.Selection{
		Type: cpu, Matchers: matchers, Start: now.Add(-time.Minute).UnixMilli(), End: now.UnixMilli(),
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	tree.Walk(func(level int, n *profile.Node, name string) {
		fmt.Printf("%s%s %s\n", strings.Repeat("  ", level), name, time.Duration(n.Total))
	})
	// Output:
	// total 4s
	//   main 4s
	//     validateOrder 3s
}
