//go:build linux

package main

import (
	"fmt"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"

	"github.com/flameline/flameline/e2e/compare/dataset"
)

// A query is one call of the API, whose range differs in every run.
type query struct {
	name   string
	method string
	step   time.Duration // how much earlier each run's range is
	// message asks about the range that is earlier by a shift.
	message func(shift time.Duration) message
	// facts decodes an answer.
	facts func(body []byte) (facts, error)
}

// message is one of Pyroscope's, which all have generated encoders.
type message interface{ MarshalVT() ([]byte, error) }

// facts are the properties in which two answers to the same request must agree.
type facts struct {
	// Total is the sum of what was asked for, in the unit of the profile type;
	// 0 for labels.
	Total int64
	// Count is the number of what the answer lists, and Of says what these are.
	Count int
	Of    string
}

// nodesOfTree is what is counted in flame graphs. Servers leave out small nodes in
// different ways.
const nodesOfTree = "nodes"

// shiftStep is how much earlier each run asks: a profile's length.
const shiftStep = 10 * time.Second

// queries returns the queries about the data set's time. one selects a service.
func queries(start time.Time, length time.Duration, one string) []query {
	end := start.Add(length)
	// Short ranges are in the middle of the data, so that earlier ones are within it
	// too.
	mid := start.Add(length * 2 / 3).Truncate(shiftStep)
	const all = "{}"
	var qs []query
	for _, r := range []struct {
		length time.Duration
		end    time.Time
	}{{5 * time.Minute, mid}, {15 * time.Minute, mid}, {time.Hour, end}} {
		for _, of := range []struct{ name, selector string }{{"one service", one}, {"all services", all}} {
			qs = append(qs, mergeStacktraces(fmt.Sprintf("SelectMergeStacktraces %s, %s", short(r.length), of.name), of.selector, r.end, r.length))
		}
	}
	qs = append(qs,
		selectSeries("SelectSeries 1 h, step 15 s, by service_name", all, "service_name", end),
		selectSeries("SelectSeries 1 h, step 15 s, by pod, one service", one, "pod", end),
	)
	qs = append(qs, labelQueries(end)...)
	return append(qs,
		diff("Diff of two 15 min, one service", one, mid),
		diff("Diff of two 15 min, all services", all, mid),
		mergeProfile("pprof 1 h, one service", one, end),
		mergeProfile("pprof 1 h, all services", all, end),
	)
}

// short writes a duration of whole minutes, hours or days.
func short(d time.Duration) string {
	switch {
	case d > 24*time.Hour:
		return fmt.Sprintf("%d d", d/(24*time.Hour))
	case d >= time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d min", d/time.Minute)
}

// between returns a range of the API, which includes both ends, without the end.
func between(end time.Time, length time.Duration) (from, to int64) {
	return end.Add(-length).UnixMilli(), end.UnixMilli() - 1
}

func stacktraces(selector string, end time.Time, length time.Duration) *querierv1.SelectMergeStacktracesRequest {
	m := &querierv1.SelectMergeStacktracesRequest{ProfileTypeID: dataset.ProfileType, LabelSelector: selector}
	m.Start, m.End = between(end, length)
	return m
}

func mergeStacktraces(name, selector string, end time.Time, length time.Duration) query {
	return query{
		name: name, method: "SelectMergeStacktraces", step: shiftStep,
		message: func(shift time.Duration) message { return stacktraces(selector, end.Add(-shift), length) },
		facts: func(body []byte) (facts, error) {
			var m querierv1.SelectMergeStacktracesResponse
			err := m.UnmarshalVT(body)
			return facts{m.GetFlamegraph().GetTotal(), countNodes(m.GetFlamegraph().GetLevels(), 4), nodesOfTree}, err
		},
	}
}

func diff(name, selector string, end time.Time) query {
	const length = 15 * time.Minute
	return query{
		name: name, method: "Diff", step: shiftStep,
		message: func(shift time.Duration) message {
			end := end.Add(-shift)
			return &querierv1.DiffRequest{Left: stacktraces(selector, end.Add(-length), length), Right: stacktraces(selector, end, length)}
		},
		facts: func(body []byte) (facts, error) {
			var m querierv1.DiffResponse
			err := m.UnmarshalVT(body)
			return facts{m.GetFlamegraph().GetTotal(), countNodes(m.GetFlamegraph().GetLevels(), 7), nodesOfTree}, err
		},
	}
}

// countNodes counts the nodes of a flame graph, each of which is some numbers.
func countNodes(levels []*querierv1.Level, numbers int) (n int) {
	for _, l := range levels {
		n += len(l.Values) / numbers
	}
	return n
}

func mergeProfile(name, selector string, end time.Time) query {
	return query{
		name: name, method: "SelectMergeProfile", step: shiftStep,
		message: func(shift time.Duration) message {
			m := &querierv1.SelectMergeProfileRequest{ProfileTypeID: dataset.ProfileType, LabelSelector: selector}
			m.Start, m.End = between(end.Add(-shift), time.Hour)
			return m
		},
		facts: func(body []byte) (facts, error) {
			var m googlev1.Profile
			err := m.UnmarshalVT(body)
			f := facts{Count: len(m.Sample), Of: "samples"}
			for _, s := range m.Sample {
				for _, v := range s.Value { // one, of the type that was asked for
					f.Total += v
				}
			}
			return f, err
		},
	}
}

func selectSeries(name, selector, by string, end time.Time) query {
	const step = 15 * time.Second
	return query{
		name: name, method: "SelectSeries", step: step, // points stay on the same grid
		message: func(shift time.Duration) message {
			end := end.Add(-shift)
			return &querierv1.SelectSeriesRequest{
				ProfileTypeID: dataset.ProfileType, LabelSelector: selector, GroupBy: []string{by}, Step: step.Seconds(),
				Start: end.Add(-time.Hour).UnixMilli(), End: end.UnixMilli(),
			}
		},
		facts: func(body []byte) (facts, error) {
			var m querierv1.SelectSeriesResponse
			err := m.UnmarshalVT(body)
			f := facts{Of: "points"}
			for _, s := range m.Series {
				f.Count += len(s.Points)
				for _, p := range s.Points {
					f.Total += int64(p.Value)
				}
			}
			return f, err
		},
	}
}

// labelQueries ask for labels, whose answers have no total.
func labelQueries(end time.Time) (qs []query) {
	everything := []string{"{}"}
	names := func(body []byte) (int, error) {
		var m typesv1.LabelNamesResponse
		err := m.UnmarshalVT(body)
		return len(m.Names), err
	}
	values := func(body []byte) (int, error) {
		var m typesv1.LabelValuesResponse
		err := m.UnmarshalVT(body)
		return len(m.Names), err
	}
	series := func(body []byte) (int, error) {
		var m querierv1.SeriesResponse
		err := m.UnmarshalVT(body)
		return len(m.LabelsSet), err
	}
	for _, l := range []struct {
		name, method string
		message      func(from, to int64) message
		count        func(body []byte) (int, error)
		of           string
	}{
		{"LabelNames 1 h", "LabelNames", func(from, to int64) message {
			return &typesv1.LabelNamesRequest{Matchers: everything, Start: from, End: to}
		}, names, "names"},
		{"LabelValues 1 h, pod", "LabelValues", func(from, to int64) message {
			return &typesv1.LabelValuesRequest{Name: "pod", Matchers: everything, Start: from, End: to}
		}, values, "values"},
		{"Series 1 h", "Series", func(from, to int64) message {
			return &querierv1.SeriesRequest{Matchers: everything, Start: from, End: to}
		}, series, "series"},
	} {
		qs = append(qs, query{
			name: l.name, method: l.method, step: shiftStep,
			message: func(shift time.Duration) message { return l.message(between(end.Add(-shift), time.Hour)) },
			facts: func(body []byte) (facts, error) {
				n, err := l.count(body)
				return facts{Count: n, Of: l.of}, err
			},
		})
	}
	return qs
}
