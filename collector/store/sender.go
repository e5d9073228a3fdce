package store

import "github.com/prometheus/prometheus/model/labels"

// A sender is what pushes the profiles of one set of labels: a process, say. Samples
// with labels of their own are streams of their own. When a state was taken is known
// by the sender's stream without such labels, its base: a stream that lacks a
// snapshot then was at zero. So the base has a row for every profile of states, also
// if all samples have labels, and the other streams have a link to it on disk.

// withBase adds the base to the pieces of a profile that has states, by the key of
// their samples' labels, if there are samples with labels or all are at zero.
func withBase(pieces []piece, by map[string]int, proto piece, base labels.Labels) []piece {
	if proto.source.States == 0 {
		return pieces
	}
	at, ok := by[""]
	if ok && len(pieces) == 1 {
		return pieces
	}
	if !ok {
		at = len(pieces)
		p := proto
		p.def.Labels = withService(base)
		pieces = append(pieces, p)
	}
	for i := range pieces {
		if i != at {
			pieces[i].base = &pieces[at].def
		}
	}
	return pieces
}
