package ingest

import (
	"bytes"
	"errors"
	"fmt"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// FoldedSides splits folded stacks with two numbers on each line, the comparison of two
// profiles that FlameGraph's difffolded.pl writes, into the folded stacks of each side.
// ok is false for a file with one number on each line. The text must be in UTF-8 and not
// compressed. The sides have as many lines as the text, so that errors of Folded name
// its lines.
func FoldedSides(text []byte) (left, right []byte, ok bool, err error) {
	if comparison(text) == 0 {
		return nil, nil, false, nil
	}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		line = bytes.TrimRight(line, " \t\r\n")
		if len(line) > 0 && !isComment(line) {
			rest, second := lastField(line)
			stack, first := lastField(rest)
			if stack == nil || !isNumber(first) || !isNumber(second) {
				return nil, nil, false, fmt.Errorf("folded: line %d: %w", n, errors.New("has one number, but most lines have two"))
			}
			left = append(append(append(left, stack...), ' '), first...)
			right = append(append(append(right, stack...), ' '), second...)
		}
		left, right = append(left, '\n'), append(right, '\n')
	}
	return left, right, true, nil
}

// Metric returns the first part of the profile types of a pprof profile, such as
// process_cpu or memory, which follows from its sample types.
func Metric(p *googlev1.Profile) string { return metricOf(p, nil) }
