package query

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"unsafe"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/scan"
)

// States, such as memory in use, are averaged over time and added over processes: of
// every sender the mean of its snapshots in a range counts, times the share of the
// measured time in which the sender was there. Measured is the time in which any of
// the selected senders was.

const (
	// holdMs is how long a snapshot stands for its sender's state at most, until the
	// sender's next one. It is Prometheus' look-back.
	holdMs = 5 * 60 * 1000
	// snapshotMs is how long a sender's only snapshot stands for its state if it does
	// not say.
	snapshotMs = 15 * 1000
)

// An interval is [from, to), in ms.
type interval struct{ from, to int64 }

// A jobSender is a sender with its streams that a job selects.
type jobSender struct {
	base    uint32
	streams []JobStream
	alive   coverage // when it was there, within the selection and the epoch
	gap     int64    // between two snapshots, in ms, about
	held    int64    // the snapshot that counts, ms, if none is in the selection
	share   float64  // of the measured time, in which it was there
	first   int64    // its first snapshot, ms, if it began then as far as is known, else 0
	until   int64    // until when its last snapshot stands for it, ms, also after the selection
	several float64  // how many processes send as this one, see coverage.processes
}

// snapshots returns when a sender's snapshots in (lo, hi] were taken, ms, and what
// they cover, as PointList.Covers.
func (s *JobReader) snapshots(base uint32, lo, hi int64) (times []int64, covers []uint64, err error) {
	var p scan.PointReader
	err = s.Stream(layout.KindPoints, layout.LevelHour, base, lo, hi, func(w scan.Window) error {
		in, err := p.Read(w, 0, lo, hi)
		if err != nil {
			return err
		}
		for i, t := range in.Times {
			if in.Covers[i]&1 == 0 {
				times, covers = append(times, t), append(covers, in.Covers[i])
			}
		}
		return nil
	})
	return times, covers, err
}

// snapshotTimes is the range of the snapshots of an epoch, (from, to] in ms, that tell
// about a selection: those in it, and around it those which may stand for a time in it.
func snapshotTimes(sel *Selection, epoch uint32) (from, to int64) {
	lo, hi := sel.Times(epoch)
	start := layout.EpochStart(epoch)
	return max(lo-holdMs, start), min(hi+holdMs, start+layout.DayMs)
}

// find finds out when a sender was there in [lo, hi], by its snapshots from holdMs
// before to holdMs after, and returns when it was there as far as they tell, also outside
// of that range. At the start of an epoch, before which nothing is known here, a sender
// that comes within the time between two of its snapshots is taken to have been there.
func (j *jobSender) find(times []int64, covers []uint64, epochStart, lo, hi int64) (known []interval) {
	if len(times) == 0 {
		return nil
	}
	j.gap = max(int64(covers[0]>>1), snapshotMs)
	if n := int64(len(times)); n > 1 {
		j.gap = min((times[n-1]-times[0])/(n-1), holdMs)
	}
	before := int64(0)
	for i, t := range times {
		from, to := t, t+max(int64(covers[i]>>1), cmp.Or(before, snapshotMs))
		if i+1 < len(times) {
			if before = times[i+1] - t; before > holdMs {
				before = 0
			} else {
				to = times[i+1]
				if i == 0 && t-epochStart < before {
					from = epochStart
				}
			}
		}
		to = min(to, t+holdMs)
		switch n := len(known); {
		case from >= to:
		case n > 0 && known[n-1].to >= from:
			known[n-1].to = max(known[n-1].to, to)
		default:
			known = append(known, interval{from, to})
		}
		j.until = max(j.until, to)
	}
	var alive []interval
	for _, x := range known {
		if x = (interval{max(x.from, lo), min(x.to, hi)}); x.from < x.to {
			alive = append(alive, x)
		}
	}
	j.alive = newCoverage(alive)
	after, _ := slices.BinarySearch(times, lo+1)
	if len(alive) > 0 && (after == len(times) || times[after] > hi) {
		j.held = times[max(after-1, 0)]
	}
	return known
}

// A coverage says how much of any range of time some intervals cover, at the cost of two
// searches. It has the times at which one begins or ends, in order.
type coverage []change

// A change is a time, in ms, with the number of intervals from there on and what is
// covered before: the sum over all, and how much any covers.
type change struct{ at, depth, sum, any int64 }

// changeBytes is the memory of an interval in a coverage.
const changeBytes = 2 * int64(unsafe.Sizeof(change{}))

func newCoverage(list []interval) coverage {
	c := make(coverage, 0, 2*len(list))
	for _, x := range list {
		c = append(c, change{at: x.from, depth: 1}, change{at: x.to, depth: -1})
	}
	slices.SortFunc(c, func(a, b change) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(b.depth, a.depth)) })
	for i := 1; i < len(c); i++ {
		c[i].sum, c[i].any = c[:i].until(c[i].at)
		c[i].depth += c[i-1].depth
	}
	return c
}

// ofSnapshots is the coverage of what a sender's snapshots cover.
func ofSnapshots(times []int64, covers []uint64) coverage {
	list := make([]interval, len(times))
	for i, t := range times {
		list[i] = interval{t, t + int64(covers[i]>>1)}
	}
	return newCoverage(list)
}

// until is how much is covered before t.
func (c coverage) until(t int64) (sum, any int64) {
	i := len(c)
	if i > 0 && t <= c[i-1].at {
		i, _ = slices.BinarySearchFunc(c, t, func(x change, t int64) int { return cmp.Compare(x.at, t) })
	}
	if i == 0 {
		return 0, 0
	}
	last := c[i-1]
	return last.sum + last.depth*(t-last.at), last.any + min(last.depth, 1)*(t-last.at)
}

// within is how much is covered of [from, to): the sum over all intervals, and how much
// any covers.
func (c coverage) within(from, to int64) (sum, any int64) {
	sumBefore, anyBefore := c.until(from)
	sum, any = c.until(to)
	return sum - sumBefore, any - anyBefore
}

// processes is how many processes send snapshots that cover c, in [from, to), on average:
// replicas whose labels do not tell them apart. Several snapshots at a time are of several
// processes. It is 1 if they do not say what they cover. Whole numbers are taken for what
// they nearly are.
func (c coverage) processes(from, to int64) float64 {
	sum, any := c.within(from, to)
	if any == 0 {
		return 1
	}
	n := float64(sum) / float64(any)
	switch whole := math.Round(n); {
	case n < 1.25:
		return 1
	case math.Abs(n-whole) < 0.1*whole:
		return whole
	}
	return n
}

// shareOf is the share of the measured time in (lo, hi], which is all ms, in which a sender
// of an epoch was there. Senders do not take their snapshots at the same moment: those that begin or end
// together are there as long as one another.
func (j *jobSender) shareOf(measured coverage, all, lo, hi, epochStart, now int64) float64 {
	end := epochStart + layout.DayMs
	_, there := j.alive.within(max(lo, epochStart), min(hi, end))
	if j.first > lo && j.first <= hi {
		there += measured.before(j.first, j.gap, lo)
	}
	switch late := j.until + j.gap/2 + lateMs; {
	case j.until >= min(hi, end):
	case hi > end && j.until+j.gap > end, hi <= end && late > now: // its next snapshot is of the next day, or to come
		_, more := measured.within(max(j.until, lo), min(hi, end))
		there += more
	case j.until > lo:
		there += measured.after(j.until, j.gap, hi)
	}
	if there >= all {
		return 1
	}
	return float64(there) / float64(all)
}

// senderBytes is what a stream takes, at most, among those of its sender: the stream,
// the sender, and the number of both in the maps that find them.
const senderBytes = 2*int64(unsafe.Sizeof(JobStream{})+unsafe.Sizeof(jobSender{})) + 64

// findSenders groups the streams of jobs by sender, and finds out when each was
// there. It returns the measured time, of which what is close around the selection is
// known too.
func (q *Engine) findSenders(ctx context.Context, h *budget.Reservation, jobs []*Job, sel Selection) (measured coverage, err error) {
	var mu sync.Mutex
	var all []interval
	err = q.Run(ctx, h, jobs, func(j *Job, s *JobReader) error {
		s.Longest = 0
		if err := h.Take(int64(len(j.Streams)) * senderBytes); err != nil {
			return err
		}
		links, err := q.Epochs.Links(s.From, s.Epoch)
		if err != nil {
			return err
		}
		at := map[uint32]int{}
		for _, st := range j.Streams {
			base, ok := links[st.ID]
			if !ok {
				base = st.ID
			}
			i, ok := at[base]
			if !ok {
				i = len(j.senders)
				at[base] = i
				j.senders = append(j.senders, jobSender{base: base})
			}
			j.senders[i].streams = append(j.senders[i].streams, st)
		}
		lo, hi := sel.Times(j.Epoch)
		from, to := snapshotTimes(&sel, j.Epoch)
		start := layout.EpochStart(j.Epoch)
		for i := range j.senders {
			snd := &j.senders[i]
			if err := ctx.Err(); err != nil {
				return err
			}
			times, covers, err := s.snapshots(snd.base, from, to)
			if err != nil {
				return err
			}
			found := snd.find(times, covers, start, lo, hi)
			if err := h.Take(int64(len(found)) * 5 * changeBytes); err != nil {
				return err
			}
			snd.several = ofSnapshots(times, covers).processes(lo, hi)
			if len(times) > 0 && times[0] > from+snd.gap {
				snd.first = times[0]
			}
			mu.Lock()
			all = append(all, found...)
			mu.Unlock()
		}
		return nil
	})
	return newCoverage(all), err
}

// setShares sets the share of every sender of a selection.
func (q *Engine) setShares(jobs []*Job, sel Selection, measured coverage) {
	lo, hi := max(sel.Start, 1)-1, sel.End
	_, all := measured.within(lo, hi)
	now := q.Now().UnixMilli()
	for _, j := range jobs {
		for i := range j.senders {
			snd := &j.senders[i]
			snd.share = snd.shareOf(measured, all, lo, hi, layout.EpochStart(j.Epoch), now)
		}
	}
}

// before is how much is covered of the gap before a sender's first snapshot at t, from lo
// on, if the measured time began within that gap: senders that begin together do not take
// their first snapshots at the same moment. Where others were there already, the sender
// began later than they.
func (c coverage) before(t, gap, lo int64) int64 {
	if _, others := c.within(t-2*gap, t-gap); others > 0 {
		return 0
	}
	_, any := c.within(max(t-gap, lo), max(t, lo))
	return any
}

// after is the same for the end: how much is covered until hi of the gap after t, if the
// measured time ended within it.
func (c coverage) after(t, gap, hi int64) int64 {
	if _, others := c.within(t+gap, t+2*gap); others > 0 {
		return 0
	}
	_, any := c.within(min(t, hi), min(t+gap, hi))
	return any
}
