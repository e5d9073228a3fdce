package query

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/scan"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// TicksPerSecond is how many rows of a second there are at most.
const TicksPerSecond = 1000 / rowcodec.TickMs

// An OffsetsRequest asks for the values of samples by steps of time and by offset within
// the second.
type OffsetsRequest struct {
	Selection // of the steps' ends, as of SeriesRequest; whole seconds
	// Step is a number of whole seconds.
	Step time.Duration
	// Rows divide a second, and TicksPerSecond.
	Rows int
}

// Offsets are values by step and row.
type Offsets struct {
	// Columns are in order of time. Steps without samples have none.
	Columns []OffsetColumn
	// Timed and Untimed are the numbers of profiles whose samples have times of their own,
	// and of the others. Profiles whose rows were dropped are not counted.
	Timed, Untimed int64
	// Until is as Series.Until.
	Until int64
	// Since is the time, in ms, up to which rows were dropped of the selection's part that
	// has them; 0 if none were.
	Since int64
}

// An OffsetColumn is the step (Time-Step, Time] that ends at Time, in ms.
type OffsetColumn struct {
	Time   int64
	Values []int64 // by row
}

// MaxCells bounds the columns times the rows of an answer.
const MaxCells = 1 << 20

// Offsets adds up the values of samples that have times of their own by steps of time and
// by offset within the second. Of profiles whose rows were dropped there are none.
func (q *Queries) Offsets(ctx context.Context, r OffsetsRequest) (out *Offsets, err error) {
	step := r.Step.Milliseconds()
	switch {
	case step < 1000 || step%1000 != 0:
		return nil, fmt.Errorf("%w: step: %s is no number of whole seconds", storeerr.ErrInvalid, r.Step)
	case r.Rows < 1 || TicksPerSecond%r.Rows != 0:
		return nil, fmt.Errorf("%w: rows: %d do not divide %d", storeerr.ErrInvalid, r.Rows, TicksPerSecond)
	case r.Start%1000 != 0:
		return nil, fmt.Errorf("%w: start: %d is no whole second", storeerr.ErrInvalid, r.Start)
	case !r.Type.Cumulative():
		return nil, fmt.Errorf("%w: profile type: the values of %s do not add up over time", storeerr.ErrInvalid, r.Type)
	}
	if r.Start = max(r.Start, 0); r.Start > r.End {
		return &Offsets{}, nil
	}
	columns := (r.End-r.Start)/step + 1
	if columns*int64(r.Rows) > MaxCells {
		return nil, fmt.Errorf("%w: %d steps of %d rows, at most %d values", storeerr.ErrLimit, columns, r.Rows, MaxCells)
	}
	err = q.e.within(ctx, "offsets", func(h *budget.Reservation) error {
		bytes := columns * int64(r.Rows) * (8 + 10) // and in the answer
		if err := h.Expect(bytes); err != nil {
			return err
		}
		c := offsetCells{
			first: r.Start - step, step: step, rows: r.Rows, now: q.e.Now().UnixMilli(),
			values: make([]int64, columns*int64(r.Rows)), touched: make([]bool, columns),
		}
		sel := r.Selection
		sel.Start, sel.End = c.first+1, r.Start+(columns-1)*step
		jobs, err := q.e.Plan(ctx, h, sel)
		if err != nil {
			return err
		}
		if err := q.e.Run(ctx, h, jobs, func(j *Job, s *JobReader) error { return c.addJob(j, s, &sel) }); err != nil {
			return err
		}
		if slices.Contains(c.values, bitpack.Overflowed) {
			return storeerr.ErrOverflow
		}
		out = c.result()
		h.Keep(bytes)
		return nil
	})
	return out, err
}

// offsetCells add up values by column and row. They are safe for concurrent use.
type offsetCells struct {
	first, step int64 // ms
	rows        int
	now         int64 // ms

	mu             sync.Mutex
	values         []int64 // [column · rows + row]
	touched        []bool  // by column
	timed, untimed int64
	until, since   int64
}

// addJob adds the samples of a job's profiles, which are in rows of single profiles alone.
func (c *offsetCells) addJob(j *Job, s *JobReader, sel *Selection) error {
	lo, hi := sel.Times(j.Epoch)
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	if gone := s.Dropped[layout.LevelFine]; gone > lo {
		c.mu.Lock()
		c.since = max(c.since, min(gone, hi))
		c.mu.Unlock()
	}
	var times rowcodec.PackedRow
	return s.eachStream(j, layout.KindRow, layout.LevelFine, lo, hi, func(st *JobStream, w scan.Window) error {
		if w.Level != layout.LevelFine {
			return nil
		}
		if err := b.row.Decode(w.Value); err != nil {
			return err
		}
		total, err := b.row.Total(w.Level, st.SampleType)
		if err != nil || total == 0 {
			return err
		}
		end := w.End + int64(b.row.Duration)
		if end <= lo && w.End <= lo {
			return nil
		}
		some, err := b.row.Times(&times)
		if err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.count(&b.row, end, some)
		if !some {
			return nil
		}
		first := rowcodec.TickOf(w.End * 1e6)
		return times.EachTick(st.SampleType, &b.scratch, func(tick uint32, v int64) { c.add(first+int64(tick), v) })
	})
}

// count counts a profile that ends at a time, and notes if its sender's next one is on the
// way, as groups.put does.
func (c *offsetCells) count(row *rowcodec.PackedRow, end int64, timed bool) {
	if !timed {
		if row.Parts == 0 {
			c.untimed++
		}
		return
	}
	if row.Parts == 0 {
		c.timed++
	}
	if d := int64(row.Duration); growing(end, d, c.now) && (c.until == 0 || end < c.until) {
		c.until = end
	}
}

// add adds a value at a tick, unless that is outside of the columns.
func (c *offsetCells) add(tick, v int64) {
	ms := tick*rowcodec.TickMs - c.first // the tick begins there, and is not in it
	column := ms / c.step
	if ms < 0 || column >= int64(len(c.touched)) {
		return
	}
	row := int(tick%TicksPerSecond) * c.rows / TicksPerSecond
	c.touched[column] = true
	cell := &c.values[column*int64(c.rows)+int64(row)]
	*cell = bitpack.AddTotals(*cell, v)
}

func (c *offsetCells) result() *Offsets {
	out := &Offsets{Timed: c.timed, Untimed: c.untimed, Until: c.until, Since: c.since}
	for i, touched := range c.touched {
		if touched {
			out.Columns = append(out.Columns, OffsetColumn{
				Time: c.first + int64(i+1)*c.step, Values: slices.Clip(c.values[i*c.rows : (i+1)*c.rows]),
			})
		}
	}
	return out
}
