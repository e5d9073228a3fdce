package e2e

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"

	"github.com/flameline/flameline/e2e/load"
	"github.com/flameline/flameline/e2e/proc"
	"github.com/flameline/flameline/pkg/profile"
)

const cpuType = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"

// tolerance is how far a function's share by samples may be from its share of the CPU time.
const tolerance = 0.03

// mergedTree returns the merged profile of a selector over [from, to).
func mergedTree(ctx context.Context, address, typeID, selector string, from, to int64) (*profile.Tree, error) {
	client := querierv1connect.NewQuerierServiceClient(http.DefaultClient, address)
	nodes := int64(100_000)
	resp, err := client.SelectMergeStacktraces(ctx, connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
		ProfileTypeID: typeID,
		LabelSelector: selector,
		Start:         from,
		End:           to - 1, // the API's ranges hold both ends
		MaxNodes:      &nodes,
	}))
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", selector, err)
	}
	f := profile.Flamegraph{
		Names:   resp.Msg.GetFlamegraph().GetNames(),
		Total:   resp.Msg.GetFlamegraph().GetTotal(),
		MaxSelf: resp.Msg.GetFlamegraph().GetMaxSelf(),
	}
	for _, level := range resp.Msg.GetFlamegraph().GetLevels() {
		f.Levels = append(f.Levels, level.GetValues())
	}
	return profile.ParseFlamegraph(f)
}

// awaitTree returns a service's CPU profile of [from, to), once the last
// profile of that time is there.
func awaitTree(t *testing.T, p *proc.Process, address, service string, from, to time.Time) *profile.Tree {
	t.Helper()
	selector := fmt.Sprintf("{service_name=%q}", service)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := p.Await(ctx, func(ctx context.Context) error {
		last, err := mergedTree(ctx, address, cpuType, selector, to.Add(-interval).UnixMilli(), to.UnixMilli())
		if err == nil && len(last.Nodes) < 2 {
			err = errors.New("the last profile is not there yet")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := mergedTree(ctx, address, cpuType, selector, from.UnixMilli(), to.UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// drilldownTree returns the profile that a link to the built-in page shows.
func drilldownTree(t *testing.T, address string, link *url.URL) *profile.Tree {
	t.Helper()
	q := link.Query()
	from, to := pageTime(t, q.Get("from")), pageTime(t, q.Get("to"))
	tree, err := mergedTree(t.Context(), address, q.Get("profileTypeId"), q.Get("labelSelector"), from, to)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// pageTime reads a time of the page's address: Unix milliseconds or "now".
func pageTime(t *testing.T, s string) int64 {
	t.Helper()
	if s == "now" {
		return time.Now().UnixMilli()
	}
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatalf("time in the link: %v", err)
	}
	return ms
}

// checkFunctions compares the hot functions' shares in the tree with those of their CPU
// time.
func checkFunctions(t *testing.T, p load.Program, tree *profile.Tree, used load.Usage) {
	t.Helper()
	total := tree.Nodes[0].Total
	if total == 0 {
		t.Fatalf("no samples, but %.1f s of CPU time", used.Process)
	}
	t.Logf("%.1f s of CPU time, %.1f s of samples", used.Process, float64(total)/1e9)
	for _, f := range p.Hot {
		all := functionTotal(tree, f.Name)
		below := functionTotal(tree, append(slices.Clone(f.Callers), f.Name)...)
		// On a virtual machine samples are missing: of all functions alike while the host has
		// taken the CPU, which keeps shares of the samples; and of what runs for microseconds
		// at a time where timers come late, which keeps the time of other functions.
		want := used.Functions[f.Metric()] / used.Process
		ofSamples, ofTime := float64(all)/float64(total), float64(all)/1e9/used.Process
		t.Logf("%s: %.1f %% of the CPU time by its clock; %.1f %% of the samples, %.1f %% of the CPU time by samples; under its callers %.1f %% of the samples",
			f.Name, 100*want, 100*ofSamples, 100*ofTime, 100*float64(below)/float64(total))
		if math.Abs(ofSamples-want) > tolerance && math.Abs(ofTime-want) > tolerance {
			t.Errorf("%s has %.1f %% of the CPU time by its clock, but %.1f %% of the samples, and %.1f %% of the CPU time by samples",
				f.Name, 100*want, 100*ofSamples, 100*ofTime)
		}
		if fromStart := startTotal(tree, f.Name); float64(fromStart) < 0.97*float64(all) {
			t.Errorf("%s has %.1f s of samples, but only %.1f s of them from the start of a thread; its widest path is\n\t%s",
				f.Name, float64(all)/1e9, float64(fromStart)/1e9, strings.Join(widestPathTo(tree, f.Name), "\n\t"))
		}
		if float64(below) < 0.97*float64(all) {
			t.Errorf("%s has %.1f s of samples, but only %.1f s of them under %s; its widest path is\n\t%s",
				f.Name, float64(all)/1e9, float64(below)/1e9, strings.Join(f.Callers, " → "),
				strings.Join(widestPathTo(tree, f.Name), "\n\t"))
		}
	}
}

// functionTotal adds up the outermost nodes at which the functions have been
// seen in order, each below the one before, others between.
func functionTotal(tree *profile.Tree, functions ...string) int64 {
	seen := make([]int, len(tree.Nodes)) // how many functions on the path to a node
	var sum int64
	for i, n := range tree.Nodes {
		if n.Parent < 0 {
			continue
		}
		seen[i] = seen[n.Parent]
		if seen[i] < len(functions) && tree.Names[n.Name] == functions[seen[i]] {
			if seen[i]++; seen[i] == len(functions) {
				sum += n.Total
			}
		}
	}
	return sum
}

// threadStart matches where threads and goroutines begin. Where the C library
// has lost its symbols it is a place in it.
var threadStart = regexp.MustCompile(`^(_start|_?_?clone3?|start_thread|runtime\.goexit|(libc|ld-linux)[^+]*\+0x[0-9a-f]+)$`)

// startTotal is functionTotal of one function on stacktraces whose outermost
// frame is a thread's start.
func startTotal(tree *profile.Tree, function string) int64 {
	var sum int64
	for _, start := range tree.Nodes {
		if name := tree.Names[start.Name]; start.Parent == 0 && threadStart.MatchString(name) {
			sum += functionTotal(tree, name, function)
		}
	}
	return sum
}

// widestPath follows the widest child from the root to a leaf.
func widestPath(tree *profile.Tree) []string {
	return widestPathTo(tree, "")
}

// widestPathTo is the path to the widest node of a function, or with no
// function, the path of widest children.
func widestPathTo(tree *profile.Tree, function string) []string {
	end := int32(0)
	if function != "" {
		var widest int64
		for i, n := range tree.Nodes {
			if n.Total > widest && tree.Names[n.Name] == function {
				end, widest = int32(i), n.Total
			}
		}
	} else {
		for child := int32(0); child >= 0; {
			end, child = child, -1
			var widest int64
			for i, n := range tree.Nodes {
				if n.Parent == end && n.Total > widest {
					child, widest = int32(i), n.Total
				}
			}
		}
	}
	var path []string
	for ; end > 0; end = tree.Nodes[end].Parent {
		path = append(path, tree.Names[tree.Nodes[end].Name])
	}
	slices.Reverse(path)
	return path
}

// inOrder reports whether the functions are on the path in this order.
func inOrder(path []string, functions ...string) bool {
	for _, frame := range path {
		if len(functions) > 0 && frame == functions[0] {
			functions = functions[1:]
		}
	}
	return len(functions) == 0
}
