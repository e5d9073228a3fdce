package query

import (
	"context"
	"fmt"
	"math/bits"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/scan"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// MaxFunctions is the most functions of one call of FunctionPoints.
const MaxFunctions = 64

// FunctionPoints is DB.FunctionPoints.
func (q *Engine) FunctionPoints(ctx context.Context, r SeriesRequest, functions []string) (out [][]Series, err error) {
	if n := len(functions); n > MaxFunctions {
		return nil, fmt.Errorf("%w: %d functions, at most %d", storeerr.ErrLimit, n, MaxFunctions)
	}
	out = make([][]Series, len(functions))
	if !r.Type.Cumulative() {
		for k, name := range functions {
			r.Function = name
			if out[k], err = q.Points(ctx, r); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	sel, err := r.prepare()
	if err != nil || r.Start > r.End {
		return out, err
	}
	err = q.Memory.Within(ctx, func(h *budget.Reservation) error {
		gs := q.newGroups(&r, &sel, h)
		f := functionGroups{groups: gs, functions: functions, by: map[*group][]*group{}}
		if err := q.functionPointsIn(ctx, sel, &f); err != nil {
			return err
		}
		for k := range functions {
			one := *gs
			one.by = make(map[string]*group, len(gs.by))
			for key, g := range gs.by {
				one.by[key] = f.by[g][k]
			}
			out[k] = one.result()
		}
		h.Keep(int64(len(functions)*len(gs.by)*gs.steps) * (PointBytes + encodedPointBytes))
		return nil
	})
	return out, err
}

// functionGroups are groups with one more group for each function.
type functionGroups struct {
	*groups
	functions []string
	by        map[*group][]*group // of groups, by function; not changed while values are added
}

// functionPointsIn adds the values of a selection.
func (q *Engine) functionPointsIn(ctx context.Context, sel Selection, f *functionGroups) error {
	gs, h := f.groups, f.hold
	jobs, err := q.planWith(ctx, sel, &planner{hold: h, names: f.request.GroupBy})
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if err := gs.find(j.Streams); err != nil {
			return err
		}
	}
	each := int64(len(f.functions)) * (int64(gs.steps)*StepBytes + groupBytes)
	for _, g := range gs.by {
		if err := h.Take(each); err != nil {
			return err
		}
		for range f.functions {
			f.by[g] = append(f.by[g], gs.newGroup(g.labels))
		}
	}
	if err := h.Expect(int64(len(f.functions)) * q.expectPoints(jobs, gs)); err != nil {
		return err
	}
	return q.Run(ctx, h, jobs, func(j *Job, s *JobReader) error { return f.addJob(j, s, sel) })
}

// What a set of functions takes in addJob: itself, its place in a table and its sum. There
// may be as many as there are calls, but hardly ever are.
const (
	setBytes   = 8 + 40 + 8
	setsAtOnce = 1024
)

// addJob adds the values of a job's profiles. The nodes of a dictionary that have the same
// functions are one place of the sums of a row.
func (f *functionGroups) addJob(j *Job, s *JobReader, sel Selection) error {
	part, err := s.dictionary(j.partition)
	if err != nil {
		return err
	}
	defer part.Release()
	v, _, err := s.q.named(f.hold, part.Value.View())
	if err != nil {
		return err
	}
	bytes := int64(len(v.Nodes))*4 + int64(len(v.Calls)+len(v.Strings))*8
	if err := f.hold.Take(bytes); err != nil {
		return err
	}
	defer func() { f.hold.Give(bytes) }()
	having, found := v.Having(f.functions, f.request.Own)
	if found == 0 {
		return nil
	}
	sets, placeOf := []uint64{0}, map[uint64]uint32{0: 0}
	places := make([]uint32, len(v.Nodes))
	for node, call := range v.CallOf {
		set := having[call]
		place, known := placeOf[set]
		if !known {
			if len(sets)%setsAtOnce == 0 {
				if err := f.hold.Take(setsAtOnce * setBytes); err != nil {
					return err
				}
				bytes += setsAtOnce * setBytes
			}
			place = uint32(len(sets))
			placeOf[set], sets = place, append(sets, set)
		}
		places[node] = place
	}
	sums := bitpack.Sums{Values: make([]int64, len(sets)), Place: places}
	lo, hi := sel.Times(j.Epoch)
	var p rowcodec.PackedRow
	var tmp rowcodec.Scratch
	for _, st := range j.Streams {
		from, to := s.Within(st.span, lo, hi)
		err := s.Stream(layout.KindRow, layout.LevelFine, st.ID, from, to, func(w scan.Window) error {
			if err := p.Decode(w.Value); err != nil {
				return err
			}
			if _, err := p.Total(w.Level, st.SampleType); err != nil {
				return err
			}
			clear(sums.Values)
			if err := p.AddTo(sums, st.SampleType, 1, &tmp); err != nil {
				return err
			}
			covers, n := uint64(0), uint32(p.Profiles)
			if w.Level == layout.LevelFine {
				covers, n = s.coversOf(&p), 1
			}
			f.addRow(st.group, found, sets, sums.Values, w.End, covers, n)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// addRow adds what a row has for each set of functions. Functions that the service has,
// and the row has not, get a 0.
func (f *functionGroups) addRow(g *group, found uint64, sets []uint64, values []int64, t int64, covers uint64, n uint32) {
	var of [MaxFunctions]int64
	for i, set := range sets {
		for v := values[i]; set != 0 && v != 0; set &= set - 1 {
			of[bits.TrailingZeros64(set)] += v
		}
	}
	by := f.by[g]
	for ; found != 0; found &= found - 1 {
		k := bits.TrailingZeros64(found)
		f.add(by[k], t, of[k], covers, n)
	}
}
