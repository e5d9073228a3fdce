package store

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/storetest"
	"github.com/flameline/flameline/pkg/profile"
)

// timed makes a CPU profile of a window of d that begins after start, of samples of 10 ms
// at times after start.
func timed(start time.Time, d time.Duration, ats ...time.Duration) *googlev1.Profile {
	b := newPprof(start.Add(time.Millisecond))
	b.p.DurationNanos = int64(d)
	for i, at := range ats {
		s := b.sample([][]string{{"main"}, {fmt.Sprint("f", i%3)}}, 1, 1e7)
		s.Label = append(s.Label, &googlev1.Label{Key: b.text(profile.LabelSampleTime), Num: start.Add(at).UnixNano(), NumUnit: b.text("nanoseconds")})
	}
	return b.p
}

func offsets(t *testing.T, db *DB, from, to time.Time, step time.Duration, rows int, selectors ...string) *query.Offsets {
	t.Helper()
	sel := everything(selectors...)
	sel.Start, sel.End = ms(from.Add(step)), ms(to)
	got, err := db.Offsets(t.Context(), query.OffsetsRequest{Selection: sel, Step: step, Rows: rows})
	require.NoError(t, err)
	return got
}

// TestOffsets compares cells with the samples' own times, and the sums of columns with the
// series, for windows that nest in the steps.
func TestOffsets(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range storetest.Rounds(20) {
		db := open(t, t.TempDir())
		type cell struct {
			column int64
			row    int
		}
		step := time.Duration(5*(1+rng.IntN(3))) * time.Second
		rows := []int{1, 2, 5, 10, 25, 50}[rng.IntN(6)]
		begin := midnight.Add(4*time.Minute + 30*time.Second) // reaches over a slot's end
		want := map[string]map[cell]int64{"a": {}, "b": {}}
		for pod, cells := range want {
			for n := range 12 {
				start := begin.Add(time.Duration(n) * 5 * time.Second)
				var ats []time.Duration
				for range rng.IntN(40) {
					at := 1 + rand.N(5*time.Second)
					if rng.IntN(4) == 0 {
						at = time.Duration(1+rng.IntN(250)) * 20 * time.Millisecond // the end of a tick
					}
					ats = append(ats, at)
					ns := start.Add(at).UnixNano()
					column := (ns - 1 - begin.UnixNano()) / int64(step)
					cells[cell{column, int((ns - 1) % 1e9 * int64(rows) / 1e9)}] += 1e7
				}
				require.NoError(t, db.Append(t.Context(), []profile.Profile{cpu(timed(start, 5*time.Second, ats...), "service_name", "app", "pod", pod)}))
			}
		}
		check := func() {
			t.Helper()
			for _, pod := range []string{"a", "b"} {
				selector := fmt.Sprintf("{pod=%q}", pod)
				got := map[cell]int64{}
				found := offsets(t, db, begin, begin.Add(time.Minute), step, rows, selector)
				sums := map[int64]float64{}
				for _, c := range found.Columns {
					for row, v := range c.Values {
						sums[c.Time] += float64(v)
						if v != 0 {
							got[cell{(c.Time-ms(begin))/step.Milliseconds() - 1, row}] = v
						}
					}
				}
				require.Equal(t, want[pod], got, "round %d: step %s, %d rows", round, step, rows)
				require.Zero(t, found.Untimed)
				sel := everything(selector)
				sel.Start, sel.End = ms(begin.Add(step)), ms(begin.Add(time.Minute))
				series, err := db.Points(t.Context(), query.SeriesRequest{Selection: sel, Step: step})
				require.NoError(t, err)
				for _, p := range series[0].Points {
					require.Equal(t, p.Value, sums[p.Time], "at %d", p.Time)
				}
			}
		}
		check()
		require.NoError(t, db.maintain(t.Context(), 0))
		check()
		dir := db.kv.Dir
		require.NoError(t, db.Close())
		v, err := Verify(t.Context(), dir)
		require.NoError(t, err)
		require.Empty(t, v.Damage)
	}
}

// A profile that is cut at the ends of slots has each time once, and those outside of it
// not at all.
func TestOffsetsOfLongProfiles(t *testing.T) {
	db := open(t, t.TempDir())
	start := midnight.Add(3 * time.Minute)
	p := timed(start, 10*time.Minute, -time.Second, 10*time.Millisecond, 2*time.Minute, 2*time.Minute+1, 9*time.Minute+500*time.Millisecond, 11*time.Minute)
	require.NoError(t, db.Append(t.Context(), []profile.Profile{cpu(p, "service_name", "app")}))
	require.NoError(t, db.Append(t.Context(), []profile.Profile{cpu(folded(start, "main 7"), "service_name", "app")}))
	got := offsets(t, db, midnight, midnight.Add(20*time.Minute), time.Minute, 2)
	require.Equal(t, []query.OffsetColumn{
		{Time: ms(start.Add(time.Minute)), Values: []int64{1e7, 0}},
		{Time: ms(start.Add(2 * time.Minute)), Values: []int64{0, 1e7}}, // the end of the second
		{Time: ms(start.Add(3 * time.Minute)), Values: []int64{1e7, 0}},
		{Time: ms(start.Add(10 * time.Minute)), Values: []int64{1e7, 0}},
	}, got.Columns)
	require.EqualValues(t, 1, got.Timed)
	require.EqualValues(t, 1, got.Untimed)
}

func TestOffsetsRefused(t *testing.T) {
	db := open(t, t.TempDir())
	for want, change := range map[string]func(*query.OffsetsRequest){
		"whole seconds": func(r *query.OffsetsRequest) { r.Step = 1500 * time.Millisecond },
		"do not divide": func(r *query.OffsetsRequest) { r.Rows = 30 },
		"whole second":  func(r *query.OffsetsRequest) { r.Start++ },
		"at most":       func(r *query.OffsetsRequest) { r.End += int64(time.Hour) },
		"add up":        func(r *query.OffsetsRequest) { r.Type.SampleType, r.Type.SampleUnit = "inuse_space", "bytes" },
	} {
		r := query.OffsetsRequest{Selection: everything(), Step: time.Minute, Rows: 50}
		change(&r)
		_, err := db.Offsets(t.Context(), r)
		require.ErrorContains(t, err, want)
	}
}

// BenchmarkOffsets measures an hour of profiles of 5 s, of 30 services that each keep a CPU
// busy, sampled at 19 Hz: single seconds of one service, and steps of 5 s of all.
func BenchmarkOffsets(b *testing.B) {
	db := open(b, b.TempDir())
	var ats []time.Duration
	for n := range 720 {
		var ps []profile.Profile
		for service := range 30 {
			ats = ats[:0]
			for range 95 {
				ats = append(ats, 1+rand.N(5*time.Second))
			}
			start := midnight.Add(time.Duration(n) * 5 * time.Second)
			ps = append(ps, cpu(timed(start, 5*time.Second, ats...), "service_name", fmt.Sprintf("service-%02d", service)))
		}
		if err := db.Append(b.Context(), ps); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.maintain(b.Context(), 0); err != nil {
		b.Fatal(err)
	}
	for name, r := range map[string]query.OffsetsRequest{
		"services=one/step=1s": {Selection: everything(`{service_name="service-03"}`), Step: time.Second},
		"services=all/step=5s": {Selection: everything(), Step: 5 * time.Second},
	} {
		r.Rows = query.TicksPerSecond
		r.Start, r.End = ms(midnight)+r.Step.Milliseconds(), ms(midnight.Add(time.Hour))
		b.Run("length=1h/"+name, func(b *testing.B) {
			b.ReportAllocs()
			defer measureCPU(b)()
			for range b.N {
				got, err := db.Offsets(b.Context(), r)
				if err != nil || int64(len(got.Columns)) != time.Hour.Milliseconds()/r.Step.Milliseconds() {
					b.Fatal(err)
				}
			}
		})
	}
}
