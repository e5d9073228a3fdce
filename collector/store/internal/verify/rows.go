package verify

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/symdb"
)

// findAggregates finds the streams whose sums the windows of each aggregate hold.
func (e *epochCheck) findAggregates() {
	aggregates := map[epochs.AggregateKey]*streamCheck{}
	for _, s := range e.streams {
		if s.aggregate {
			s.contributors = nil
			aggregates[epochs.AggregateKeyOf(s.Partition, &s.Def)] = s
		}
	}
	for n, s := range e.streams {
		if f := aggregates[epochs.AggregateKeyOf(s.Partition, &s.Def)]; f != nil && !s.aggregate {
			f.contributors = append(f.contributors, n)
		}
	}
}

// reference checks what a row refers to.
func (e *epochCheck) reference(r *rowCheck) error {
	s := e.streams[r.stream]
	if s == nil {
		return fmt.Errorf("%w: stream %d is not known", storeerr.ErrCorrupt, r.stream)
	}
	if len(r.row.Totals) != len(s.Def.Types) {
		return fmt.Errorf("%w: %d sample types, stream %d has %d", storeerr.ErrCorrupt, len(r.row.Totals), r.stream, len(s.Def.Types))
	}
	nodes := 1
	if d := e.dicts[s.Partition]; d != nil {
		nodes = len(d.dict.Nodes)
	}
	switch {
	case int64(r.nodes) > int64(nodes):
		return fmt.Errorf("%w: node %d, service %d has %d", storeerr.ErrCorrupt, r.nodes-1, s.Partition, nodes)
	case s.aggregate && r.level == layout.LevelFine:
		return fmt.Errorf("%w: a profile of stream %d, which stands for several", storeerr.ErrCorrupt, r.stream)
	}
	return nil
}

// indexed checks that queries look for a row: the index has one of its slots.
func (e *epochCheck) indexed(r *rowCheck) error {
	s := e.streams[r.stream]
	if s == nil || s.aggregate {
		return nil
	}
	found := false
	r.eachSlot(func(at epochs.StreamHour, slot uint) bool {
		found = (e.noted[at]|e.listed[at])>>slot&1 == 1
		return !found
	})
	if !found {
		return fmt.Errorf("%w: the slot of the profile is not marked", storeerr.ErrCorrupt)
	}
	return nil
}

// eachSlot calls fn for the slots of a row, until it returns false.
func (r *rowCheck) eachSlot(fn func(at epochs.StreamHour, slot uint) bool) {
	last := layout.WindowEnd(layout.LevelSlot, r.time)
	for t := min(last, r.time-layout.WindowMs[r.level]+layout.SlotMs); t <= last; t += layout.SlotMs {
		if t = layout.WindowEnd(layout.LevelSlot, t); !fn(epochs.StreamHour{Stream: r.stream, Hour: layout.HourOf(t)}, layout.SlotOf(t)) {
			return
		}
	}
}

// between returns the rows of a stream and a level at times in (lo, hi]. Rows are
// sorted by level, stream and time.
func (e *epochCheck) between(level int8, stream uint32, lo, hi int64) []rowCheck {
	find := func(t int64) int {
		i, _ := slices.BinarySearchFunc(e.rows, t, func(r rowCheck, t int64) int {
			// Never equal, so that the first of several is found.
			if cmp.Or(cmp.Compare(r.level, level), cmp.Compare(r.stream, stream), cmp.Compare(r.time, t)) < 0 {
				return -1
			}
			return 1
		})
		return i
	}
	return e.rows[find(lo+1):find(hi+1)]
}

// window compares a merged row with the finest rows in it that retention has
// left whole.
func (e *epochCheck) window(r *rowCheck) error {
	s := e.streams[r.stream]
	if r.level == layout.LevelFine || s == nil {
		return nil
	}
	lo := r.time - layout.WindowMs[r.level]
	finest := int8(layout.LevelFine)
	for finest < r.level && lo < e.gone[finest] {
		finest++
	}
	if finest == r.level {
		return nil
	}
	profiles := uint64(0)
	totals := make([]int64, len(r.row.Totals))
	for _, n := range s.contributors {
		for _, f := range e.between(finest, n, lo, r.time) {
			profiles += f.row.Profiles
			for c := range min(len(totals), len(f.row.Totals)) {
				totals[c] = bitpack.AddTotals(totals[c], f.row.Totals[c])
			}
		}
	}
	// The finer rows may be those that a repair did not find.
	if profiles < r.row.Profiles && e.incomplete(s) {
		return nil
	}
	if profiles != r.row.Profiles || !slices.Equal(totals, r.row.Totals) {
		return fmt.Errorf("%w: %d profiles of %d, there are %d of %d", storeerr.ErrCorrupt, r.row.Profiles, r.row.Totals, profiles, totals)
	}
	return nil
}

// merged checks that a profile is in merged windows, or noted to be merged:
// retention relies on it. It returns the first level that lacks it.
func (e *epochCheck) merged(r *rowCheck) (int8, error) {
	s := e.streams[r.stream]
	if s == nil || r.time <= e.gone[layout.LevelFine] || r.level != layout.LevelFine && (e.rebuild == nil || s.aggregate) {
		return 0, nil
	}
	mask, open := e.dirty[epochs.StreamHour{Stream: r.stream, Hour: layout.HourOf(r.time)}]
	_, day := e.dirty[epochs.StreamHour{Stream: r.stream, Hour: epochs.WholeDay}]
	for level, noted := range [layout.Levels]bool{layout.LevelFine: true, layout.LevelSlot: mask>>layout.SlotOf(r.time)&1 == 1, layout.LevelHour: open, layout.LevelDay: day} {
		noted = noted || level <= int(r.level)
		end := layout.WindowEnd(level, r.time)
		if !noted && len(e.between(int8(level), r.stream, end-1, end)) == 0 {
			return int8(level), fmt.Errorf("%w: in no merged row of level %s, and not noted to be", storeerr.ErrCorrupt, corruption.LevelNames[level])
		}
	}
	return 0, nil
}

// incomplete reports whether a repair left merged rows of a stream that have more than
// the finer ones. A repair that is under way closes the dictionary where it is so.
func (e *epochCheck) incomplete(s *streamCheck) bool {
	d := e.dicts[s.Partition]
	if e.rebuild != nil && (d == nil || !d.closed) {
		if d == nil {
			d = &dictCheck{dict: symdb.NewDictionary()}
			e.dicts[s.Partition] = d
		}
		d.closed = true
		e.rebuild.set(layout.SegmentKey(e.id, s.Partition, math.MaxUint32), nil)
	}
	return d != nil && d.closed
}

// refers checks that the row of an ID or of spans is there, unless it was dropped, and the
// stacktraces.
func (e *epochCheck) refers(c *refCheck) error {
	n := layout.KeyStream(c.row)
	s := e.streams[n]
	if s == nil {
		return fmt.Errorf("%w: stream %d is not known", storeerr.ErrCorrupt, n)
	}
	if c.time > e.gone[layout.LevelFine] {
		_, ok := slices.BinarySearchFunc(e.rows, c.row, func(r rowCheck, key []byte) int { return bytes.Compare(r.key, key) })
		if !ok {
			return fmt.Errorf("%w: the profile at %s that it belongs to is missing", storeerr.ErrCorrupt, corruption.FormatTime(c.time))
		}
	}
	if d := e.dicts[s.Partition]; c.nodes > 0 && (d == nil || c.nodes > int64(len(d.dict.Nodes))) {
		return fmt.Errorf("%w: node %d of a span, which service %d does not have", storeerr.ErrCorrupt, c.nodes-1, s.Partition)
	}
	return nil
}

// spanSamples reads the samples of a profile by span, before its row and its
// service's stacktraces.
func (e *epochCheck) spanSamples(key, value []byte) error {
	var p rowcodec.PackedSpans
	if err := p.Decode(value); err != nil {
		return err
	}
	row := slices.Clone(key)
	row[4] = layout.KindRow
	t, _ := layout.WindowTime(key)
	c := refCheck{time: t, row: row, key: key}
	var tmp rowcodec.Scratch
	for i := range p.Row.Values {
		err := p.Each(i, 1<<32, &tmp, func(_ *rowcodec.Tag, node uint32, _ int64) { c.nodes = max(c.nodes, int64(node)+1) })
		if err != nil {
			return err
		}
	}
	e.refs = append(e.refs, c)
	return nil
}

// pointList compares points with the profiles' totals.
func (e *epochCheck) pointList(p *pointsCheck) error {
	s := e.streams[p.stream]
	if s == nil {
		return fmt.Errorf("%w: stream %d is not known", storeerr.ErrCorrupt, p.stream)
	}
	lo := p.end - layout.WindowMs[p.level]
	var rows []rowCheck
	for _, n := range s.contributors {
		rows = append(rows, e.between(layout.LevelFine, n, lo, p.end)...)
	}
	var list rowcodec.PointList
	for c := range s.Def.Types {
		if err := list.Decode(p.value, lo, c); err != nil {
			return err
		}
		if lo < e.gone[layout.LevelFine] || len(list.Times) > len(rows) && e.dicts[s.Partition] != nil && e.dicts[s.Partition].closed {
			w := e.between(p.level, p.stream, p.end-1, p.end)
			if len(w) == 1 && w[0].row.Profiles != uint64(len(list.Times)) {
				return fmt.Errorf("%w: %d points, the merged row has %d profiles", storeerr.ErrCorrupt, len(list.Times), w[0].row.Profiles)
			}
			continue
		}
		if len(list.Times) != len(rows) {
			return fmt.Errorf("%w: %d points, there are %d profiles", storeerr.ErrCorrupt, len(list.Times), len(rows))
		}
		// Profiles at the same time may be in any order.
		got, want := make([][2]int64, len(rows)), make([][2]int64, len(rows))
		for i, r := range rows {
			got[i] = [2]int64{list.Times[i], list.Values[i]}
			if want[i] = [2]int64{r.time}; c < len(r.row.Totals) {
				want[i][1] = r.row.Totals[c]
			}
		}
		order := func(a, b [2]int64) int { return slices.Compare(a[:], b[:]) }
		slices.SortFunc(got, order)
		slices.SortFunc(want, order)
		if !slices.Equal(got, want) {
			return fmt.Errorf("%w: points are not those of the profiles", storeerr.ErrCorrupt)
		}
	}
	return nil
}
