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
	alive   []interval // when it was there, within the selection and the epoch
	gap     int64      // between two snapshots, in ms, about
	held    int64      // the snapshot that counts, ms, if none is in the selection
	share   float64    // of the measured time, in which it was there
	first   int64      // its first snapshot, ms, if it began then as far as is known, else 0
	several float64    // how many processes send as this one, see processes
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
// before to holdMs after. At the start of an epoch, before which nothing is known here, a sender that
// comes within the time between two of its snapshots is taken to have been there.
func (j *jobSender) find(times []int64, covers []uint64, epochStart, lo, hi int64) {
	if len(times) == 0 {
		return
	}
	j.gap = max(int64(covers[0]>>1), snapshotMs)
	if n := int64(len(times)); n > 1 {
		j.gap = min((times[n-1]-times[0])/(n-1), holdMs)
	}
	before := int64(0)
	for i, t := range times {
		last := i+1 == len(times)
		from, to := t, t+max(int64(covers[i]>>1), snapshotMs)
		if before > 0 {
			to = t + max(before, int64(covers[i]>>1))
		}
		if !last {
			if next := times[i+1] - t; next <= holdMs {
				to = times[i+1]
				if i == 0 && t-epochStart < next {
					from = epochStart
				}
				before = next
			} else {
				before = 0
			}
		}
		to = min(to, t+holdMs)
		if from, to = max(from, lo), min(to, hi); from < to {
			if n := len(j.alive); n > 0 && j.alive[n-1].to >= from {
				j.alive[n-1].to = max(j.alive[n-1].to, to)
			} else {
				j.alive = append(j.alive, interval{from, to})
			}
		}
	}
	after, _ := slices.BinarySearch(times, lo+1)
	if len(j.alive) > 0 && (after == len(times) || times[after] > hi) {
		j.held = times[max(after-1, 0)]
	}
}

// processes is how many processes send the snapshots of one sender in (lo, hi], on
// average: replicas whose labels do not tell them apart. Their snapshots say what time
// each covers, so several at a time are of several processes. It is 1 if they do not
// say. Whole numbers are taken for what they nearly are.
func processes(times []int64, covers []uint64, lo, hi int64) float64 {
	return newPresenceSums(times, covers).processes(lo, hi)
}

// presenceSums are the times that a sender's snapshots cover, so that the sums of many
// ranges cost a search each and not a pass over the snapshots.
type presenceSums struct {
	begins, ends       []int64    // of snapshots that cover any time, each in order
	beginSums, endSums []int64    // of those before, relative to the first begin
	any                []interval // that any snapshot covers, in order
	anySums            []int64    // lengths of those before
}

func newPresenceSums(times []int64, covers []uint64) *presenceSums {
	s := &presenceSums{}
	for i, t := range times {
		if d := int64(covers[i] >> 1); d > 0 {
			s.begins, s.ends = append(s.begins, t), append(s.ends, t+d)
			s.any = append(s.any, interval{t, t + d})
		}
	}
	slices.Sort(s.begins)
	slices.Sort(s.ends)
	s.any = union(s.any)
	sums := func(list []int64) []int64 {
		out := make([]int64, len(list)+1)
		for i, t := range list {
			out[i+1] = out[i] + t - s.begins[0]
		}
		return out
	}
	s.beginSums, s.endSums = sums(s.begins), sums(s.ends)
	s.anySums = make([]int64, len(s.any)+1)
	for i, x := range s.any {
		s.anySums[i+1] = s.anySums[i] + x.to - x.from
	}
	return s
}

// until is how much time the snapshots cover before t, added up, and how much any of
// them does.
func (s *presenceSums) until(t int64) (sum, covered int64) {
	if len(s.begins) == 0 || t <= s.begins[0] {
		return 0, 0
	}
	at := t - s.begins[0]
	begun, _ := slices.BinarySearch(s.begins, t)
	ended, _ := slices.BinarySearch(s.ends, t)
	sum = int64(begun)*at - s.beginSums[begun] - (int64(ended)*at - s.endSums[ended])
	i, _ := slices.BinarySearchFunc(s.any, t, func(x interval, t int64) int { return cmp.Compare(x.from, t) })
	if i > 0 {
		covered = s.anySums[i-1] + min(t, s.any[i-1].to) - s.any[i-1].from
	}
	return sum, covered
}

// processes is the function processes of the range (lo, hi].
func (s *presenceSums) processes(lo, hi int64) float64 {
	sumBefore, coveredBefore := s.until(lo)
	sum, covered := s.until(hi)
	sum, covered = sum-sumBefore, covered-coveredBefore
	if covered == 0 {
		return 1
	}
	n := float64(sum) / float64(covered)
	switch whole := math.Round(n); {
	case n < 1.25:
		return 1
	case math.Abs(n-whole) < 0.1*whole:
		return whole
	}
	return n
}

// shareOfTime is the share of measured ms in which a sender was there. Senders do not
// take their snapshots at the same moment: one that lacks less than the time between
// two snapshots was there all the time, unless its time was cut at an epoch's end.
func (j *jobSender) shareOfTime(there, measured int64, cut bool) float64 {
	if there >= measured || !cut && measured-there < j.gap {
		return 1
	}
	return float64(there) / float64(measured)
}

// senderBytes is what a stream takes, at most, among those of its sender: the stream,
// the sender, and the number of both in the maps that find them.
const senderBytes = 2*int64(unsafe.Sizeof(JobStream{})+unsafe.Sizeof(jobSender{})) + 64

// findSenders groups the streams of jobs by sender, and finds out when each was
// there. It returns the measured time, in order.
func (q *Engine) findSenders(ctx context.Context, h *budget.Reservation, jobs []*Job, sel Selection) (measured []interval, err error) {
	var mu sync.Mutex
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
		var found []interval
		for i := range j.senders {
			if err := ctx.Err(); err != nil {
				return err
			}
			times, covers, err := s.snapshots(j.senders[i].base, from, to)
			if err != nil {
				return err
			}
			if err := h.Take(int64(cap(j.senders[i].alive)) * 2 * 16); err != nil {
				return err
			}
			j.senders[i].find(times, covers, start, lo, hi)
			j.senders[i].several = processes(times, covers, lo, hi)
			if len(times) > 0 && times[0] > from+j.senders[i].gap {
				j.senders[i].first = times[0]
			}
			found = append(found, j.senders[i].alive...)
		}
		found = union(found)
		mu.Lock()
		defer mu.Unlock()
		measured = append(measured, found...)
		return nil
	})
	return union(measured), err
}

// union sorts intervals and joins those that touch.
func union(list []interval) []interval {
	slices.SortFunc(list, func(a, b interval) int { return cmp.Compare(a.from, b.from) })
	n := 0
	for _, x := range list {
		if n > 0 && x.from <= list[n-1].to {
			list[n-1].to = max(list[n-1].to, x.to)
			continue
		}
		list[n] = x
		n++
	}
	return list[:n]
}

// lengthWithin is how much of [from, to) is in some intervals, which are in order.
func lengthWithin(list []interval, from, to int64) (sum int64) {
	i, _ := slices.BinarySearchFunc(list, from, func(x interval, t int64) int {
		if x.to <= t {
			return -1
		}
		return 1
	})
	for ; i < len(list) && list[i].from < to; i++ {
		sum += min(list[i].to, to) - max(list[i].from, from)
	}
	return sum
}

// setShares sets the share of every sender of a selection.
func setShares(jobs []*Job, sel Selection, measured []interval) {
	all := lengthWithin(measured, max(sel.Start, 1)-1, sel.End)
	for _, j := range jobs {
		start := layout.EpochStart(j.Epoch)
		end := start + layout.DayMs
		for i := range j.senders {
			snd := &j.senders[i]
			there := lengthWithin(snd.alive, start, end)
			cut := false
			if n := len(snd.alive); n > 0 {
				cut = sel.Start <= start && snd.alive[0].from == start || sel.End > end && snd.alive[n-1].to == end
			}
			snd.share = snd.shareOfTime(there, all, cut)
		}
	}
}
