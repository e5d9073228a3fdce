package ingest

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/grafana/jfr-parser/pprof"
)

// contexts are the label sets that a program has set while it was recorded, as
// Pyroscope's agent sends them with the recording.
type contexts struct {
	snapshot *pprof.LabelsSnapshot
	known    map[uint64][]sampleLabel
}

// readContexts reads a LabelsSnapshot message, compressed or not, or empty. Errors name
// the context.
func readContexts(b []byte, l Limits) (contexts, error) {
	c := contexts{snapshot: &pprof.LabelsSnapshot{}, known: map[uint64][]sampleLabel{}}
	if len(b) == 0 {
		return c, nil
	}
	raw, err := decompress(b, l)
	if err != nil {
		return c, err
	}
	if err := (&scanner{limits: l}).scan(snapshotMessage, raw, 0); err != nil {
		return c, err
	}
	if err := c.snapshot.UnmarshalVT(raw); err != nil {
		return c, err
	}
	for id, s := range c.snapshot.Strings {
		if exceeds(len(s), l.MaxLabelValueBytes) {
			return c, fmt.Errorf("strings[%d]: %d bytes are more than %d (limits.max_label_value_bytes)", id, len(s), l.MaxLabelValueBytes)
		}
		if !utf8.ValidString(s) {
			return c, fmt.Errorf("strings[%d]: %q is not UTF-8", id, s[:min(len(s), 64)])
		}
	}
	for id, context := range c.snapshot.Contexts {
		var ls []sampleLabel
		for name, value := range context.GetLabels() {
			label := sampleLabel{c.snapshot.Strings[name], c.snapshot.Strings[value]}
			if exceeds(len(label.name), l.MaxLabelNameBytes) {
				return c, fmt.Errorf("contexts[%d]: name of %d bytes is longer than %d (limits.max_label_name_bytes)", id, len(label.name), l.MaxLabelNameBytes)
			}
			if label.name != "" && label.value != "" {
				ls = append(ls, label)
			}
		}
		if exceeds(len(ls), l.MaxLabels) {
			return c, fmt.Errorf("contexts[%d]: %d labels are more than %d (limits.max_labels)", id, len(ls), l.MaxLabels)
		}
		slices.SortFunc(ls, func(a, b sampleLabel) int { return cmp.Compare(a.name, b.name) })
		c.known[uint64(id)] = ls
	}
	return c, nil
}

// labels returns the labels of an event's context and of its span, with Pyroscope's
// names.
func (c *contexts) labels(of correlation) []sampleLabel {
	ls := c.known[of.context]
	if of == (correlation{context: of.context}) {
		return ls
	}
	ls = slices.Clone(ls)
	if of.span != 0 {
		ls = append(ls, sampleLabel{"profile_id", fmt.Sprintf("%016x", of.span)})
	}
	if name := c.snapshot.Strings[int64(of.spanName)]; of.spanName != 0 && name != "" {
		ls = append(ls, sampleLabel{"span_name", name})
	}
	if of.traceHi|of.traceLo != 0 {
		ls = append(ls, sampleLabel{"trace_id", fmt.Sprintf("%016x%016x", of.traceHi, of.traceLo)})
	}
	return ls
}

// snapshotMessage describes LabelsSnapshot of github.com/grafana/jfr-parser.
var snapshotMessage = &message{"LabelsSnapshot", []field{
	1: {"contexts", nested, &message{"Context", []field{
		1: {"key", varint, nil, free},
		2: {"value", nested, &message{"labels", []field{
			1: {"label", nested, &message{"Label", numbers("name", "value")}, symbol},
		}}, free},
	}}, symbol},
	2: {"strings", nested, &message{"String", []field{
		1: {"key", varint, nil, free},
		2: {"value", text, nil, free},
	}}, symbol},
}}
