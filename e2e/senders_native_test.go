package e2e

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	pprof "github.com/google/pprof/profile"
)

// A native is a program of C and what can be preloaded to profile it.
type native struct{ dir, program, address string }

// TestNativeSenders has gperftools and jemalloc profile a program, turns their
// files into what the service reads, as people do, and compares what is stored
// with what the tools themselves print.
func TestNativeSenders(t *testing.T) {
	t.Parallel()
	address, since := startServer(t), time.Now()
	dir := t.TempDir()
	n := native{dir: dir, program: filepath.Join(dir, "shop"), address: address}
	// The unwinder of gperftools follows frame pointers.
	output(t, exec.Command("cc", "-g", "-O1", "-fno-omit-frame-pointer", "-o", n.program, filepath.Join("senders", "native", "shop.c")))
	t.Run("gperftools CPU", n.testCPU)
	t.Run("gperftools heap", n.testHeap)
	t.Run("jemalloc", n.testJemalloc)
	refusedNothing(t, address)
	agrees(t, address, since, "sender-gperftools-cpu", "sender-gperftools-heap", "sender-jemalloc")
}

// library finds a shared library of Debian's.
func library(t *testing.T, name string) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/*/" + name)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s is not in /usr/lib/*: %v", name, err)
	}
	return found[0]
}

// run runs the program with a library for some milliseconds of CPU time, and
// returns when it began and ended, in Unix ns.
func (n native) run(t *testing.T, milliseconds, preload string, env ...string) (from, until int64) {
	t.Helper()
	cmd := exec.Command(n.program, milliseconds)
	cmd.Env = append(append(os.Environ(), "LD_PRELOAD="+library(t, preload)), env...)
	from = time.Now().UnixNano()
	output(t, cmd)
	return from, time.Now().UnixNano()
}

// push posts a body to /ingest.
func (n native) push(t *testing.T, name, format string, from, until int64, body []byte) {
	t.Helper()
	post(t, n.address+"/ingest?"+url.Values{
		"name": {name}, "format": {format},
		"from": {strconv.FormatInt(from, 10)}, "until": {strconv.FormatInt(until, 10)},
	}.Encode(), "application/octet-stream", body)
}

// convert has Go's pprof make its own format of a file of gperftools.
func (n native) convert(t *testing.T, file string) []byte {
	t.Helper()
	out := filepath.Join(n.dir, "converted.pb.gz")
	output(t, exec.Command("go", "tool", "pprof", "-proto", "-symbolize=local", "-output", out, n.program, file))
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// tool runs a tool on a file and returns what it prints to standard output.
func (n native) tool(t *testing.T, name, file string, options ...string) string {
	t.Helper()
	cmd := exec.Command(name, append(options, n.program, file)...)
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("%w: %s", err, failed.Stderr)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}

// A listing is what google-pprof and jeprof print with --text.
type listing struct {
	total float64
	own   map[string]float64 // by function
}

var listingTotal = regexp.MustCompile(`(?m)^Total: ([0-9.]+)`)
var listingLine = regexp.MustCompile(`(?m)^ *([0-9.]+) +[0-9.]+% +[0-9.]+% +[0-9.]+ +[0-9.]+% (\S+)`)

func readListing(t *testing.T, text string) listing {
	t.Helper()
	number := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	m := listingTotal.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no total in\n%.1000s", text)
	}
	l := listing{number(m[1]), map[string]float64{}}
	for _, m := range listingLine.FindAllStringSubmatch(text, -1) {
		l.own[m[2]] += number(m[1])
	}
	return l
}

// compare looks for the values of a tool's listing, in the unit of one of its
// numbers, in what is stored.
func (n native) compare(t *testing.T, service, typ string, l listing, unit float64, functions ...string) {
	t.Helper()
	tree, err := senderTree(t.Context(), n.address, typ, fmt.Sprintf("{service_name=%q}", service))
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`<[0-9a-f]+>$`) // jeprof has the place as well
	for i, name := range tree.Names {
		tree.Names[i] = address.ReplaceAllString(name, "")
	}
	// Megabytes have one digit after the point.
	within := func(got int64, want float64) bool { return math.Abs(float64(got)/unit-want) <= 0.0501+0.001*want }
	if got := tree.Nodes[0].Total; !within(got, l.total) {
		t.Errorf("%s of %s: %.2f in all, the tool says %.2f", typ, service, float64(got)/unit, l.total)
	}
	for _, name := range functions {
		if got, want := functionTotal(tree, name), l.own[name]; want == 0 || !within(got, want) {
			t.Errorf("%s of %s: %s has %.2f, the tool says %.2f; the widest path is %s",
				typ, service, name, float64(got)/unit, want, strings.Join(widestPath(tree), " → "))
		}
	}
}

func (n native) testCPU(t *testing.T) {
	file := filepath.Join(n.dir, "cpu.prof")
	from, until := n.run(t, "4000", "libprofiler.so.0", "CPUPROFILE="+file)
	n.push(t, "sender-gperftools-cpu", "pprof", from, until, n.convert(t, file))
	l := readListing(t, n.tool(t, "google-pprof", file, "--text"))
	n.compare(t, "sender-gperftools-cpu", "process_cpu:samples:count", l, 1, "burn")
	n.compare(t, "sender-gperftools-cpu", "process_cpu:cpu:nanoseconds", l, 1e7, "burn")
	s := sender{service: "sender-gperftools-cpu"}
	s.check(t, n.address, senderCheck{"process_cpu:cpu:nanoseconds", "", []string{"main", "work", "checkout", "price_order"}, 0.5, "validate_order"})
}

func (n native) testHeap(t *testing.T) {
	prefix := filepath.Join(n.dir, "heap")
	_, until := n.run(t, "100", "libtcmalloc.so.4", "HEAPPROFILE="+prefix, "HEAP_PROFILE_INUSE_INTERVAL=26214400")
	dumps, err := filepath.Glob(prefix + ".*.heap")
	if err != nil || len(dumps) < 2 {
		t.Fatalf("the program has written %q: %v", dumps, err)
	}
	last := slices.Max(dumps)
	raw := n.convert(t, last)
	p, err := pprof.ParseData(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(p.SampleType); got != 4 {
		t.Fatalf("the profile has %d sample types", got)
	}
	n.push(t, "sender-gperftools-heap", "pprof", until, until, raw)
	const mib = 1 << 20
	allocated := readListing(t, n.tool(t, "google-pprof", last, "--text", "--alloc_space"))
	n.compare(t, "sender-gperftools-heap", "memory:alloc_space:bytes", allocated, mib, "fill_basket", "print_receipt", "draft_offer")
	inUse := readListing(t, n.tool(t, "google-pprof", last, "--text", "--inuse_space"))
	n.compare(t, "sender-gperftools-heap", "memory:inuse_space:bytes", inUse, mib, "fill_basket", "print_receipt")
}

func (n native) testJemalloc(t *testing.T) {
	prefix := filepath.Join(n.dir, "jemalloc")
	_, until := n.run(t, "100", "libjemalloc.so.2", "MALLOC_CONF=prof:true,prof_final:true,prof_accum:true,lg_prof_sample:16,prof_prefix:"+prefix)
	dumps, err := filepath.Glob(prefix + ".*.heap")
	if err != nil || len(dumps) != 1 {
		t.Fatalf("the program has written %q: %v", dumps, err)
	}
	const mib = 1 << 20
	for _, typ := range []string{"alloc_space", "inuse_space"} {
		folded := n.tool(t, "jeprof", dumps[0], "--collapsed", "--"+typ)
		n.push(t, "sender-jemalloc."+typ, "folded", until, until, []byte(folded))
		functions := []string{"fill_basket", "print_receipt"}
		if typ == "alloc_space" {
			functions = append(functions, "draft_offer")
		}
		l := readListing(t, n.tool(t, "jeprof", dumps[0], "--text", "--"+typ))
		n.compare(t, "sender-jemalloc", "memory:"+typ+":bytes", l, mib, functions...)
	}
}
