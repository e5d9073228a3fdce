package store

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/pkg/profile"
)

// A stored profile is what the slow index of the tests knows: labels and time.
type stored struct {
	series []labels.Labels // one for each sample type
	at     int64
}

// slowIndex looks at every profile that was stored.
type slowIndex []stored

func (x slowIndex) series(ms []*labels.Matcher, start, end int64) map[string]labels.Labels {
	out := map[string]labels.Labels{}
	for _, p := range x {
		// A profile counts if its five minutes overlap the range.
		slot := (p.at + layout.SlotMs - 1) / layout.SlotMs * layout.SlotMs
		if slot < start || slot-layout.SlotMs >= end {
			continue
		}
	next:
		for _, ls := range p.series {
			for _, m := range ms {
				if !m.Matches(ls.Get(m.Name)) {
					continue next
				}
			}
			out[ls.String()] = ls
		}
	}
	return out
}

// TestIndexEqualsSlowIndex asks about labels while profiles are in memory, in
// tables, in both, after reopening and after late profiles.
func TestIndexEqualsSlowIndex(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := rand.New(rand.NewPCG(3, 4))
	dir := t.TempDir()
	now := midnight.Add(60 * time.Hour)
	clock := func(o *Options) { o.Now = func() time.Time { return now } }
	db := open(t, dir, clock)
	var slow slowIndex
	add := func(n int) {
		for range n {
			at := midnight.Add(time.Duration(1 + r.Int64N(int64(36*time.Hour))))
			if r.IntN(4) == 0 {
				at = midnight.Add(at.Sub(midnight).Truncate(5*time.Minute) + 5*time.Minute)
			}
			ls := []string{labelindex.LabelServiceName, fmt.Sprint("s", r.IntN(3)), "pod", fmt.Sprint("p-", r.IntN(40))}
			if r.IntN(2) == 0 {
				ls = append(ls, "zone", fmt.Sprint("z", r.IntN(2)))
			}
			if r.IntN(20) == 0 {
				ls = append(ls, "__type__", "sender's") // gives way to the type
			}
			p := cpu(folded(at, "main 1"), ls...)
			p.Pprof.TimeNanos = at.UnixNano()
			if r.IntN(5) == 0 {
				p.Labels = labels.NewBuilder(p.Labels).Set(labelindex.LabelName, "wall").Labels()
			}
			require.NoError(t, db.Append(ctx, []profile.Profile{p}))
			def := labelindex.Definition{
				Labels: p.Labels, Period: labelindex.ValueType{Name: "cpu", Unit: "nanoseconds"},
				Types: []labelindex.ValueType{{Name: "samples", Unit: "count"}, {Name: "cpu", Unit: "nanoseconds"}},
			}
			slow = append(slow, stored{[]labels.Labels{def.SeriesLabels(0), def.SeriesLabels(1)}, at.UnixMilli()})
		}
	}
	selectors := []string{
		`{}`, `{service_name="s1"}`, `{__service_name__="s1"}`, `{service_name!="s1"}`, `{pod=~"p-1.*"}`, `{pod!~"p-1.*|p-2"}`, `{zone=""}`, `{zone!=""}`,
		`{zone="z1",__type__="cpu"}`, `{__profile_type__=~"wall:.*"}`, `{__unit__!="count"}`, `{none="x"}`, `{none=""}`, `{none=~".*"}`, `{pod="nothing"}`,
		`{pod!="nothing"}`, `{__name__="wall"}`, `{__period_type__="cpu"}`,
	}
	compare := func() {
		t.Helper()
		for i := range 120 {
			a, b := ms(midnight)+r.Int64N(36*layout.HourMs), ms(midnight)+r.Int64N(36*layout.HourMs)
			start, end := min(a, b), max(a, b)
			if i%3 == 0 {
				end = start + r.Int64N(20*60*1000)
			}
			selector := selectors[i%len(selectors)]
			matchers := everything(selector).Matchers
			names, values := map[string]bool{}, map[string]map[string]bool{}
			projected := map[string]bool{}
			want := slow.series(matchers, start, end)
			for _, ls := range want {
				ls.Range(func(l labels.Label) {
					names[l.Name] = true
					if values[l.Name] == nil {
						values[l.Name] = map[string]bool{}
					}
					values[l.Name][l.Value] = true
				})
				if p := ls.MatchLabels(true, "zone", "__type__"); !p.IsEmpty() {
					projected[p.String()] = true
				}
			}
			gotNames, err := db.LabelNames(ctx, matchers, start, end)
			require.NoError(t, err)
			require.Equal(t, slices.Sorted(maps.Keys(names)), nilIfEmpty(gotNames), selector)
			for _, name := range []string{"pod", "zone", "none", labelindex.LabelServiceName, labelindex.LabelServicePrivate, labelindex.LabelProfileType, labelindex.LabelType, labelindex.LabelName} {
				got, err := db.LabelValues(ctx, name, matchers, start, end)
				require.NoError(t, err)
				require.Equal(t, slices.Sorted(maps.Keys(values[name])), nilIfEmpty(got), "%s of %s", name, selector)
			}
			sets, err := db.Labels(ctx, nil, matchers, start, end)
			require.NoError(t, err)
			require.True(t, slices.IsSortedFunc(sets.All(), labels.Compare))
			require.Len(t, sets.All(), len(want), selector)
			for _, ls := range sets.All() {
				require.Equal(t, want[ls.String()], ls)
			}
			sets, err = db.Labels(ctx, []string{"zone", "__type__"}, matchers, start, end)
			require.NoError(t, err)
			require.Len(t, sets.All(), len(projected), selector)
			for _, ls := range sets.All() {
				require.True(t, projected[ls.String()], ls)
			}
		}
	}
	tables := func() (n int) {
		for _, id := range db.epochs.Between(0, 1<<62) {
			require.NoError(t, db.kv.Each(layout.KindKey(id, layout.KindLabels), func(_, _ []byte) error { n++; return nil }))
		}
		return n
	}
	add(300)
	compare()
	require.Zero(t, tables())
	require.NoError(t, db.maintain(ctx, 0))
	require.NotZero(t, tables())
	compare()
	add(100)
	compare()
	require.NoError(t, db.Close())
	db = open(t, dir, clock)
	compare()
	require.NoError(t, db.maintain(ctx, 0))
	compare()
	for _, id := range db.epochs.Between(0, 1<<62) {
		require.NoError(t, db.kv.Each(layout.KindKey(id, layout.KindPending), func(key, _ []byte) error {
			return fmt.Errorf("%x is still pending", key)
		}))
	}
}

func nilIfEmpty(s []string) []string {
	if len(s) == 0 {
		return nil
	}
	return s
}

// TestStreamsAreFoundAgain fails if a sender that comes back after its stream was
// forgotten gets another one: its profiles would no longer replace earlier ones.
func TestStreamsAreFoundAgain(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	now := midnight.Add(3 * time.Hour)
	clock := func(o *Options) { o.Now = func() time.Time { return now } }
	db := open(t, dir, clock)
	add := func(minute int) {
		for pod := range 20 {
			p := cpu(folded(midnight.Add(time.Duration(minute)*time.Minute), "main 1"), labelindex.LabelServiceName, "app", "pod", fmt.Sprint(pod))
			p.ID = fmt.Sprint(minute, pod)
			require.NoError(t, db.Append(ctx, []profile.Profile{p}))
		}
	}
	state := func() *epochs.Epoch {
		e, err := db.epochs.Acquire(layout.EpochOf(ms(midnight) + 1))
		require.NoError(t, err)
		defer e.Release()
		return e.Value
	}
	add(1)
	require.Len(t, state().Live, 20+1, "and the family")
	require.NoError(t, db.maintain(ctx, 0))
	require.Empty(t, state().Live, "nothing is left to merge but the day")
	add(1) // the same profiles
	add(2)
	require.NoError(t, db.Close())
	db = open(t, dir, clock)
	add(1)
	add(100)
	require.EqualValues(t, 20+1, state().Next)
	tree, err := db.Tree(ctx, everything(), nil)
	require.NoError(t, err)
	require.EqualValues(t, 3*20*1e7, tree.Total())

	// What is merged is complete, whichever of its hours were in memory.
	now = midnight.Add(30 * time.Hour)
	require.NoError(t, db.maintain(ctx, 0))
	require.Empty(t, state().Live)
	require.Empty(t, state().Unmerged)
	require.Equal(t, 20+1, countRows(t, db)[layout.LevelDay])
	tree, err = db.Tree(ctx, everything(), nil)
	require.NoError(t, err)
	require.EqualValues(t, 3*20*1e7, tree.Total())
	add(200) // late
	require.Zero(t, countRows(t, db)[layout.LevelDay])
	require.NoError(t, db.maintain(ctx, 0))
	require.Equal(t, 20+1, countRows(t, db)[layout.LevelDay])
}

// TestDamagedTableIsWrittenAgain damages an hour's table before late profiles
// make it be written again.
func TestDamagedTableIsWrittenAgain(t *testing.T) {
	ctx := context.Background()
	for _, column := range []string{"", "pod"} {
		db := open(t, t.TempDir())
		add := func(pod string) {
			p := cpu(folded(midnight.Add(time.Minute), "main 1"), labelindex.LabelServiceName, "app", "pod", pod)
			require.NoError(t, db.Append(ctx, []profile.Profile{p}))
		}
		add("a")
		require.NoError(t, db.maintain(ctx, 0))
		id := layout.EpochOf(ms(midnight) + 1)
		require.NoError(t, db.kv.Pebble.Set(layout.TableKey(id, 0, column), []byte("damaged"), nil))
		db.epochs.Cache.Forget(epochs.TableID(id, 0))
		add("b")
		require.NoError(t, db.maintain(ctx, 0))
		values, err := db.LabelValues(ctx, "pod", nil, ms(midnight), ms(midnight)+layout.HourMs)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b"}, values)
	}
}
