// Package conformance holds a set of pushes and a set of questions about them, sends
// both to any server that speaks Pyroscope's API, and reduces its answers to a form in
// which two servers can be compared. The answers of a Pyroscope server are recorded in
// answers.json.
//
// The tests of collector/server decide what a difference means.
package conformance

import (
	"fmt"
	"strings"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
)

// Step is the distance of the corpus' profiles in ms, Count their number for
// each series: the first is one millisecond after the base time.
const (
	Step  = 15_000
	Count = 8
)

// Spans and traces of the corpus' samples. Span IDs are palindromes of bytes, so that
// they sort the same in either byte order.
const (
	spanShared = "3333333333333333" // of both pods
	spanFirst  = "1a1a1a1a1a1a1a1a" // of pod cart-0
	spanSecond = "2222222222222222" // of pod cart-1
	spanPay    = "1111111111111111" // of all samples of an endpoint
	traceSave  = "5b8aa5a2d2c872e8321cf37308d69df2"
	tracePrice = "00000000000000000000000000000001"
)

// Corpus returns the pushes, for a base time in ms that is a multiple of a
// minute. The values of one series differ from profile to profile, so that a
// range which is off by one shows.
func Corpus(base int64) []*pushv1.PushRequest {
	var out []*pushv1.PushRequest
	for i := range int64(Count) {
		at := base + i*Step + 1
		req := &pushv1.PushRequest{}
		for p, pod := range []string{"cart-0", "cart-1"} {
			b := newBuilder(at, "cpu", "nanoseconds", "samples", "count", "cpu", "nanoseconds")
			b.sample([]string{"syscall.write", "main.save", "main.work", "main.main"}, []int64{1 + i, 10_000_000 * (1 + i)}, "span_id", spanShared, "trace_id", traceSave)
			b.sample([]string{"main.price", "main.work", "main.main"}, []int64{5 + int64(p), 50_000_000}, "span_id", []string{spanFirst, spanSecond}[p], "trace_id", tracePrice)
			b.sample([]string{"main.work", "main.main"}, []int64{2, 20_000_000}, "span_id", "no span", "trace_id", "no trace")
			b.sample([]string{"main.fib", "main.fib", "main.fib", "main.main"}, []int64{3, 30_000_000}, "trace_id", tracePrice)
			b.sample([]string{"runtime.gcBgMarkWorker"}, []int64{1, 10_000_000})
			b.sample([]string{"main.price", "main.work", "main.main"}, []int64{0, 0})
			b.sample([]string{"main.handle", "main.main"}, []int64{4, 40_000_000}, "endpoint", "/pay", "profile_id", spanPay)
			b.sample([]string{"main.handle", "main.main"}, []int64{7, 70_000_000}, "endpoint", "/list", "span_id", "0000000000000000")
			req.Series = append(req.Series, series(b, "__name__", "process_cpu", "service_name", "cart", "namespace", "shop", "pod", pod))
		}
		b := newBuilder(at+5000, "space", "bytes", "alloc_objects", "count", "alloc_space", "bytes", "inuse_objects", "count", "inuse_space", "bytes")
		b.sample([]string{"main.newOrder", "main.main"}, []int64{10 + i, 1000 + 100*i, 3, 300}, "profile_id", strings.ToUpper(spanFirst))
		b.sample([]string{"bytes.growSlice", "bytes.(*Buffer).Write", "main.main"}, []int64{2, 8192, 0, 0}, "span_id", spanPay)
		req.Series = append(req.Series, series(b, "__name__", "memory", "service_name", "cart", "namespace", "shop", "pod", "cart-0"))

		b = newBuilder(at+2000, "cpu", "nanoseconds", "cpu", "nanoseconds")
		b.sample([]string{"Main.rechne", "Main.main"}, []int64{5_000_000 * (1 + i%3)})
		b.sample([]string{"grüße", "Main.main"}, []int64{1_000_000})
		req.Series = append(req.Series, series(b, "__name__", "process_cpu", "service_name", "ledger", "namespace", "bank", "zone", "eu-1", "empty", ""))

		b = newBuilder(at+3000, "", "", "goroutine", "count")
		b.sample([]string{"runtime.gopark", "main.main"}, []int64{7 + i})
		req.Series = append(req.Series, series(b, "__name__", "goroutines", "namespace", "shop"))

		// The only stacktraces with addresses that have no function; servers
		// differ on them.
		b = newBuilder(at+4000, "", "", "delay", "nanoseconds")
		b.address(0xbeef)
		b.sample([]string{"", "main"}, []int64{2_000_000})
		b.sample([]string{"lock", "main"}, []int64{1_000_000})
		req.Series = append(req.Series, series(b, "__name__", "block", "service_name", "bare", "namespace", "shop"))

		// The only labels beyond ASCII, and with characters that selectors quote.
		for n, city := range []string{"Köln", "Łódź"} {
			b = newBuilder(at+1000, "contentions", "count", "contentions", "count", "delay", "nanoseconds")
			b.sample([]string{"sync.(*Mutex).Lock", "städte.Öffne", "main.main"}, []int64{2 + i, 3_000_000 * (1 + i)})
			req.Series = append(req.Series, series(b, "__name__", "mutex", "service_name", "städte", "city", city, "path", []string{`a"b\c`, "/"}[n], "größe", []string{"L", ""}[n]))
		}
		out = append(out, req)
	}
	return out
}

func labelPairs(kv []string) []*typesv1.LabelPair {
	var out []*typesv1.LabelPair
	for i := 0; i < len(kv); i += 2 {
		out = append(out, &typesv1.LabelPair{Name: kv[i], Value: kv[i+1]})
	}
	return out
}

func series(b *builder, kv ...string) *pushv1.RawProfileSeries {
	raw, err := b.p.MarshalVT()
	if err != nil {
		panic(fmt.Sprintf("corpus: %v", err)) // the corpus is a constant
	}
	return &pushv1.RawProfileSeries{Labels: labelPairs(kv), Samples: []*pushv1.RawSample{{RawProfile: raw}}}
}

// A builder makes a pprof profile of stacks of function names.
type builder struct {
	p         *googlev1.Profile
	strings   map[string]int64
	locations map[string]uint64
	next      uint64 // the address of the next location without a function
}

func newBuilder(at int64, periodType, periodUnit string, sampleTypes ...string) *builder {
	b := &builder{p: &googlev1.Profile{}, strings: map[string]int64{}, locations: map[string]uint64{}}
	b.text("")
	for i := 0; i < len(sampleTypes); i += 2 {
		b.p.SampleType = append(b.p.SampleType, &googlev1.ValueType{Type: b.text(sampleTypes[i]), Unit: b.text(sampleTypes[i+1])})
	}
	if periodType != "" {
		b.p.PeriodType = &googlev1.ValueType{Type: b.text(periodType), Unit: b.text(periodUnit)}
	}
	b.p.Mapping = []*googlev1.Mapping{{Id: 1, Filename: b.text("/usr/bin/app"), BuildId: b.text("abcdef"), HasFunctions: true, HasFilenames: true, HasLineNumbers: true}}
	// The profiles have no duration: Pyroscope counts a profile at its time only, while
	// Flameline spreads it over its duration, see docs/compatibility.md.
	b.p.TimeNanos, b.p.Period = at*1_000_000, 10_000_000
	return b
}

func (b *builder) text(s string) int64 {
	if i, ok := b.strings[s]; ok {
		return i
	}
	b.strings[s] = int64(len(b.p.StringTable))
	b.p.StringTable = append(b.p.StringTable, s)
	return b.strings[s]
}

// address sets the address of the next location that has no function.
func (b *builder) address(a uint64) { b.next = a }

// location returns the location of a function, or, for "", one that has only an address.
func (b *builder) location(function string) uint64 {
	if id, ok := b.locations[function]; ok {
		return id
	}
	id := uint64(len(b.p.Location) + 1)
	loc := &googlev1.Location{Id: id, MappingId: 1}
	if function == "" {
		loc.Address = b.next
	} else {
		fn := uint64(len(b.p.Function) + 1)
		name := b.text(function)
		b.p.Function = append(b.p.Function, &googlev1.Function{Id: fn, Name: name, SystemName: name, Filename: b.text(fmt.Sprintf("file%d.go", fn)), StartLine: int64(fn)})
		loc.Line = []*googlev1.Line{{FunctionId: fn, Line: int64(fn) + 3}}
	}
	b.p.Location = append(b.p.Location, loc)
	b.locations[function] = id
	return id
}

// sample adds a stacktrace, leaf first, with one value per sample type.
func (b *builder) sample(stack []string, values []int64, kv ...string) {
	s := &googlev1.Sample{Value: values}
	for _, f := range stack {
		s.LocationId = append(s.LocationId, b.location(f))
	}
	for i := 0; i < len(kv); i += 2 {
		s.Label = append(s.Label, &googlev1.Label{Key: b.text(kv[i]), Str: b.text(kv[i+1])})
	}
	b.p.Sample = append(b.p.Sample, s)
}
