package query

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/reuse"
	"github.com/flameline/flameline/collector/store/internal/scan"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// planStates prepares jobs whose sample type is a state: it finds the senders of the
// streams and their shares of the measured time. Jobs of other types, and those that
// ask for spans, stay as they are.
// It returns the scale of what they add up to: the given one, or 1 if they stay so.
func (q *Engine) planStates(ctx context.Context, h *budget.Reservation, sel Selection, jobs []*Job, scale int64) (int64, error) {
	if sel.Type.Cumulative() || sel.hasSpans() {
		return 1, nil
	}
	measured, err := q.findSenders(ctx, h, jobs, sel)
	if err != nil {
		return 0, err
	}
	q.setShares(jobs, sel, measured)
	for _, j := range jobs {
		j.scale = scale
	}
	return scale, nil
}

// stateSums is memory for adding up states.
type stateSums struct {
	target           // the sums of one sender's snapshots
	mean   []float64 // of all senders
	b      *buffer
}

// stateBytesPerSum is what stateSums take for a sum.
const stateBytesPerSum = 8 + 8

var stateSumsPool = sync.Pool{New: func() any { return new(stateSums) }}

// addStates is mergeJob for a state: of every sender it adds the mean of its snapshots
// times its share and the job's scale, rounded so that the total stays right.
func (s *JobReader) addStates(j *Job, sel Selection, to target, b *buffer) (all total, err error) {
	n := len(to.Values)
	bytes := int64(n) * stateBytesPerSum
	if err := s.hold.Take(bytes); err != nil {
		return all, err
	}
	defer s.hold.Give(bytes)
	m := stateSumsPool.Get().(*stateSums)
	defer func() {
		m.Place, m.b = nil, nil
		budget.PutBack(&stateSumsPool, m, n*stateBytesPerSum)
	}()
	m.Values, m.Place, m.rest, m.b = reuse.Zeroed(m.Values, n), to.Place, to.rest, b
	m.mean = reuse.Zeroed(m.mean, n)
	lo, hi := sel.Times(j.Epoch)
	s.Longest = 0
	ids := profileIDs(sel.Profiles)
	for i := range j.senders {
		snd := &j.senders[i]
		rows := func(stream uint32, fn scan.Visit) error {
			from, to := lo, hi
			if snd.held != 0 {
				from, to = snd.held-1, snd.held
			}
			return s.Stream(layout.KindRow, layout.LevelDay, stream, from, to, fn)
		}
		share := snd.share * snd.several
		if len(sel.Profiles) > 0 {
			rows = func(stream uint32, fn scan.Visit) error {
				return s.Profiles(layout.KindRow, stream, lo, hi, ids, fn)
			}
			share = 1
		} else if len(snd.alive) == 0 {
			continue
		}
		if err := m.addSender(s, snd, share, rows); err != nil {
			return all, err
		}
	}
	carry := 0.0
	for i, x := range m.mean {
		if x == 0 {
			continue
		}
		x = x*float64(j.scale) + carry
		rounded := math.Round(x)
		if rounded >= 1<<63 {
			return all, storeerr.ErrOverflow
		}
		carry = x - rounded
		to.Values[i] += int64(rounded)
		all.add(int64(max(rounded, 0)), 1)
	}
	return all, nil
}

// addSender adds the mean of what a sender has in some rows, times a share, to the means.
// The sums are zero before and after.
func (m *stateSums) addSender(s *JobReader, snd *jobSender, share float64, rows func(stream uint32, fn scan.Visit) error) error {
	snapshots := int64(0)
	counted := false
	var sum total
	for i := range snd.streams {
		st := &snd.streams[i]
		counts := st.ID == snd.base && !counted
		counted = counted || counts
		err := rows(st.ID, func(w scan.Window) error {
			v, err := s.addRow(m.b, st.SampleType, w, m.target)
			if err != nil {
				return err
			}
			sum.add(v, w.Sign)
			if counts {
				snapshots += m.b.row.Snapshots() * w.Sign
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if !counted {
		err := rows(snd.base, func(w scan.Window) error {
			if err := m.b.row.DecodeHead(&bitpack.Decoder{Data: w.Value}); err != nil {
				return err
			}
			snapshots += m.b.row.Snapshots() * w.Sign
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := sum.err(); err != nil {
		return err
	}
	if m.rest {
		m.Values[0] = 0
	}
	for i, v := range m.Values {
		if v != 0 {
			m.mean[i] += float64(v) * share / float64(max(snapshots, 1))
			m.Values[i] = 0
		}
	}
	return nil
}

// statePoints adds the values of states to groups: of every sender in every step the
// mean of its snapshots, or where it took none the last one, times its share of the
// time in the step that is measured.
func (q *Engine) statePoints(ctx context.Context, jobs []*Job, sel Selection, gs *groups) error {
	h := gs.hold
	measured, err := q.findSenders(ctx, h, jobs, sel)
	if err != nil {
		return err
	}
	if err := h.Take(int64(gs.steps) * 8); err != nil {
		return err
	}
	perStep := make([]int64, gs.steps)
	for k := range perStep {
		end := gs.first + int64(k)*gs.step
		_, perStep[k] = measured.within(end-gs.step, end)
	}
	return q.Run(ctx, h, jobs, func(j *Job, s *JobReader) error {
		s.Longest = 0
		bytes := int64(gs.steps) * statePointBytes
		if err := h.Take(bytes); err != nil {
			return err
		}
		defer h.Give(bytes)
		p := statePointer{groups: gs, measured: measured, perStep: perStep, scanner: s, epoch: j.Epoch}
		p.from, p.to = snapshotTimes(&sel, j.Epoch)
		return s.openStacks(j, gs.request.Stack, gs.functions, gs.request.Own, func(stacks *stackSums) error {
			p.stacks = stacks
			for i := range j.senders {
				if err := p.add(&j.senders[i]); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// statePointBytes is what a statePointer takes for a step.
const statePointBytes = 4 + 8 + 8 + 8

// A statePointer makes points of one job's states.
type statePointer struct {
	groups   *groups
	measured coverage
	perStep  []int64 // ms that are measured
	scanner  *JobReader
	epoch    uint32
	from, to int64 // of the snapshots that are read, ms
	stacks   *stackSums

	times  []int64 // the sender's snapshots
	counts []uint32
	held   []int64   // by step without snapshots: the one that counts, 0 for none
	shares []float64 // by step
	sums   []float64
	points scan.PointReader
}

func (p *statePointer) add(snd *jobSender) (err error) {
	if len(snd.alive) == 0 {
		return nil
	}
	var covers []uint64
	if p.times, covers, err = p.scanner.snapshots(snd.base, p.from, p.to); err != nil {
		return err
	}
	if err := p.findSteps(snd, covers); err != nil {
		return err
	}
	for i := range snd.streams {
		st := &snd.streams[i]
		if err := p.addStream(st, st.group, len(snd.streams) == 1 && st.ID == snd.base); err != nil {
			return err
		}
	}
	return nil
}

// findSteps finds out what a snapshot counts in each step. covers are what the
// snapshots cover.
func (p *statePointer) findSteps(snd *jobSender, covers []uint64) error {
	gs := p.groups
	n := gs.steps
	p.counts, p.held, p.shares = reuse.Zeroed(p.counts, n), reuse.Zeroed(p.held, n), reuse.Sized(p.shares, n)
	for _, t := range p.times {
		if k := gs.stepOf(t); k >= 0 && k < n {
			p.counts[k]++
		}
	}
	start := layout.EpochStart(p.epoch)
	var senders coverage
	if snd.several != 1 {
		senders = ofSnapshots(p.times, covers)
	}
	for k := range n {
		if k%1024 == 0 && p.scanner.Ctx.Err() != nil {
			return p.scanner.Ctx.Err()
		}
		end := gs.first + int64(k)*gs.step
		begin := end - gs.step
		if _, there := snd.alive.within(begin, end); there == 0 && p.counts[k] == 0 {
			continue
		}
		p.shares[k] = snd.shareOf(p.measured, p.perStep[k], begin, end, start, gs.now) * senders.processes(begin, end)
		if p.counts[k] > 0 {
			continue
		}
		i, _ := slices.BinarySearch(p.times, begin+1)
		p.held[k] = p.times[max(i-1, 0)]
	}
	return nil
}

// addStream adds what a stream has. If it is not alone, it has no points where it is
// at zero: other streams of the sender have.
func (p *statePointer) addStream(st *JobStream, g *group, alone bool) error {
	gs := p.groups
	p.sums = reuse.Sized(p.sums, gs.steps)
	clear(p.sums)
	windows := map[int]float64{} // of merged rows, at the step in which they end
	held := 0                    // the first step that may hold what comes next
	put := func(t, v int64) {
		if k := gs.stepOf(t); k >= 0 && k < gs.steps && p.counts[k] > 0 {
			p.sums[k] += float64(v) / float64(p.counts[k])
		}
		for ; held < gs.steps && (p.held[held] == 0 || p.held[held] <= t); held++ {
			if p.held[held] == t {
				p.sums[held] += float64(v)
			}
		}
	}
	var err error
	if p.stacks.all() {
		err = p.scanner.Stream(layout.KindPoints, layout.LevelHour, st.ID, p.from, p.to, func(w scan.Window) error {
			in, err := p.points.Read(w, st.SampleType, p.from, p.to)
			if err != nil {
				return err
			}
			for i, t := range in.Times {
				if in.Covers[i]&1 == 0 {
					put(t, in.Values[i])
				}
			}
			return nil
		})
	} else {
		err = p.scanner.Stream(layout.KindRow, layout.LevelFine, st.ID, p.from, p.to, func(w scan.Window) error {
			lines, err := p.stacks.read(w, st.SampleType)
			if err != nil {
				return err
			}
			if w.Level == layout.LevelFine {
				if p.stacks.row.Parts == 0 {
					put(w.End, lines[0])
				}
				return nil
			}
			if k := gs.stepOf(w.End); k >= 0 && k < gs.steps {
				windows[k] += float64(lines[0]) / float64(max(p.stacks.row.Snapshots(), 1))
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("stream %d: %w", st.ID, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	to := &g.lines[0]
	for k, v := range p.sums {
		if p.counts[k] == 0 && p.held[k] == 0 {
			continue
		}
		if v != 0 || alone {
			to.sums[k] += v * p.shares[k]
			to.counts[k]++
		}
	}
	for k, v := range windows {
		to.sums[k] += v
		to.counts[k]++
	}
	return nil
}
