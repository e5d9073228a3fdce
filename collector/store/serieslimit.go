package store

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/serieslimit"
)

// A Reduction says that a service has had more label sets in an hour than the limit.
type Reduction = serieslimit.Reduction

// A LabelCount is a label's name and the number of its values.
type LabelCount = serieslimit.LabelCount

// Reductions lists the services that have reached the limit on series in an hour since
// the store was opened, up to 100, the latest last.
func (db *DB) Reductions() []Reduction { return db.appender.series.Reductions() }

// bound holds the pieces of a profile to the limit, and adds the sender's base to
// those with states. Pieces beyond the limit are brought together by their reduced
// labels, under a base of their own: to the sums of states it is another sender.
// The call has other pieces, which are not on disk either.
func (a *appender) bound(pieces []piece, by map[string]int, proto piece, base labels.Labels, call []piece) ([]piece, error) {
	if a.series == nil {
		return withBase(pieces, by, proto, base), nil
	}
	sender := proto
	sender.def.Labels = withService(base)
	needsBase, hasBase := proto.source.States != 0, true
	others := func(yield func(int64, *labelindex.Definition) bool) {
		for _, list := range [...][]piece{call, pieces} {
			for i := range list {
				if !yield(list[i].time, &list[i].def) {
					return
				}
			}
		}
	}
	if needsBase {
		var err error
		if hasBase, err = a.series.Admit(sender.time, &sender.def, others); err != nil {
			return nil, err
		}
	}
	bare, isBare := by[""]
	kept, keptBy := make([]piece, 0, len(pieces)), map[string]int{}
	var beyond []piece
	for i, p := range pieces {
		ok, err := a.series.Admit(p.time, &p.def, others)
		switch {
		case err != nil:
			return nil, err
		case !ok:
			beyond = append(beyond, p)
			continue
		case isBare && i == bare:
			keptBy[""] = len(kept)
		}
		kept = append(kept, p)
	}
	if hasBase {
		kept = withBase(kept, keptBy, proto, base)
	}
	if len(beyond) == 0 && hasBase {
		return kept, nil
	}
	reduced, err := a.reduceAll(beyond, proto, sender)
	return append(kept, reduced...), err
}

// reduceAll brings pieces of one profile together by their reduced labels.
func (a *appender) reduceAll(pieces []piece, proto, sender piece) ([]piece, error) {
	if proto.identified { // profiles of other senders with this ID are in the same series now
		proto.id = xxhash.Sum64(binary.BigEndian.AppendUint64(sender.def.Labels.Bytes(nil), proto.id))
	}
	base, err := a.series.Reduce(sender.time, &sender.def)
	if err != nil {
		return nil, err
	}
	var out []piece
	by := map[string]int{}
	for i := range pieces {
		p := &pieces[i]
		ls, err := a.series.Reduce(p.time, &p.def)
		if err != nil {
			return nil, err
		}
		key := ""
		if !labels.Equal(ls, base) {
			key = string(ls.Bytes(nil))
		}
		at, ok := by[key]
		if !ok {
			at = len(out)
			by[key] = at
			merged := proto
			merged.def.Labels = ls
			out = append(out, merged)
		}
		out[at].stamps = append(out[at].stamps, p.stamps...)
		for j, s := range p.samples {
			out[at].samples = append(out[at].samples, s)
			if j < len(p.tags) && p.tags[j] != (rowcodec.Tag{}) {
				out[at].tag(p.tags[j])
			}
		}
	}
	a.kv.Metrics.Reduced.Add(float64(len(out)))
	return withBase(out, by, proto, base), nil
}
