package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/pkg/profile"
)

// identified is a profile of one sample with an ID.
func identified(id string, at time.Time, ls ...string) profile.Profile {
	p := cpu(folded(at, "main 1"), ls...)
	p.ID = id
	return p
}

// storedProfiles counts the profiles of one sample in a store.
func storedProfiles(t *testing.T, db *DB) int64 {
	t.Helper()
	tree, err := db.Tree(context.Background(), query.Selection{Type: cpuType, Start: 1, End: ms(midnight) + 30*layout.DayMs}, nil)
	require.NoError(t, err)
	points, err := db.Points(context.Background(), query.SeriesRequest{Selection: everything(), Step: 48 * time.Hour})
	require.NoError(t, err)
	if len(points) > 0 {
		require.InDelta(t, tree.Total(), points[0].Points[0].Value, 0)
	}
	return tree.Total() / 1e7
}

// A sender that gets no answer sends again, and the server stamps the profile with
// another time.
func TestDuplicatesAtAnotherTime(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	now := midnight.Add(20 * time.Hour)
	clock := func(o *Options) { o.Now = func() time.Time { return now } }
	db := open(t, dir, clock)
	add := func(ps ...profile.Profile) { require.NoError(t, db.Append(ctx, ps)) }
	unstamped := func(id string) profile.Profile {
		p := identified(id, now)
		p.Pprof.TimeNanos = 0
		return p
	}
	add(unstamped("a"))
	now = now.Add(7 * time.Minute)
	add(unstamped("a"))
	require.EqualValues(t, 1, storedProfiles(t, db))
	require.EqualValues(t, 1, testutil.ToFloat64(db.metrics.Profiles))
	require.EqualValues(t, 1, testutil.ToFloat64(db.metrics.Duplicates))

	now = now.Add(2 * time.Hour)
	require.NoError(t, db.maintain(ctx, 0))
	rows := countRows(t, db)
	add(unstamped("a"))
	require.Equal(t, rows, countRows(t, db), "a duplicate takes no merged window away")

	require.NoError(t, db.Close())
	db = open(t, dir, clock)
	add(unstamped("a"), unstamped("b"), unstamped("b"), unstamped(""), unstamped(""))
	require.EqualValues(t, 4, storedProfiles(t, db), "after a restart, and within one call")

	now = midnight.Add(24*time.Hour - time.Second)
	add(unstamped("late"))
	now = midnight.Add(24*time.Hour + time.Minute)
	add(unstamped("late"))
	require.EqualValues(t, 5, storedProfiles(t, db), "after midnight")
	add(identified("late", now, "pod", "x"))
	require.EqualValues(t, 6, storedProfiles(t, db), "another series")
}

// A profile that becomes several series is stored once in each of them.
func TestDuplicatesWithSampleLabels(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	b := newPprof(midnight.Add(time.Hour))
	for _, endpoint := range []string{"/a", "/b"} {
		s := b.sample([][]string{{"main"}}, 1, 1e7)
		s.Label = []*googlev1.Label{{Key: b.text("endpoint"), Str: b.text(endpoint)}}
	}
	p := cpu(b.p)
	p.ID = "x"
	for range 2 {
		require.NoError(t, db.Append(ctx, []profile.Profile{p, p}))
	}
	require.EqualValues(t, 2, storedProfiles(t, db))
	require.EqualValues(t, 1, testutil.ToFloat64(db.metrics.Profiles))
}

// TestDuplicatesOfConcurrentPushes pushes the same profiles from many senders, in
// batches of their own order. Each must be there once, and no call may wait for
// one that waits for it.
func TestDuplicatesOfConcurrentPushes(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	db := open(t, dir)
	const profiles = 60
	var g sync.WaitGroup
	for sender := range 8 {
		g.Go(func() {
			r := rand.New(rand.NewPCG(uint64(sender), 3))
			ids := r.Perm(profiles)
			for len(ids) > 0 {
				n := min(len(ids), 1+r.IntN(9))
				var ps []profile.Profile
				for _, id := range ids[:n] {
					at := midnight.Add(time.Hour + time.Duration(r.IntN(3600))*time.Second)
					ps = append(ps, identified(fmt.Sprint(id), at, "pod", fmt.Sprint(id%3)))
				}
				if err := db.Append(ctx, ps); err != nil {
					t.Error(err)
				}
				// Acknowledged means there, whoever stored it.
				for _, p := range ps {
					tree, err := db.Tree(ctx, everything(fmt.Sprintf(`{pod="%s"}`, p.Labels.Get("pod"))), nil)
					if err != nil || tree.Total() == 0 {
						t.Errorf("%s is not there: %v", p.ID, err)
					}
				}
				ids = ids[n:]
			}
		})
	}
	g.Wait()
	require.EqualValues(t, profiles, storedProfiles(t, db))
	require.Empty(t, db.appender.claims.by)
	require.EqualValues(t, 8*profiles, testutil.ToFloat64(db.metrics.Profiles)+testutil.ToFloat64(db.metrics.Duplicates))
	require.NoError(t, db.maintain(ctx, 0))
	require.EqualValues(t, profiles, storedProfiles(t, db))
}

// A call that fails stores none of its profiles, and another one that waited for
// its IDs stores them.
func TestClaimsOfAFailedCall(t *testing.T) {
	db := open(t, t.TempDir())
	at := midnight.Add(time.Hour)
	pieces, err := db.appender.split(identified("x", at), at, nil)
	require.NoError(t, err)
	end, err := db.appender.claim(context.Background(), pieces) // a call that will not store it
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(context.Background())
	canceled, waited := make(chan error), make(chan error)
	go func() { canceled <- db.Append(ctx, []profile.Profile{identified("w", at), identified("x", at)}) }()
	go func() { waited <- db.Append(context.Background(), []profile.Profile{identified("x", at)}) }()
	cancel()
	require.ErrorIs(t, <-canceled, context.Canceled)
	select {
	case err := <-waited:
		t.Fatalf("did not wait: %v", err)
	default:
	}
	end()
	require.NoError(t, <-waited)
	require.EqualValues(t, 1, storedProfiles(t, db))
	require.Empty(t, db.appender.claims.by)
}

// TestDuplicatesInAnOldStore pushes profiles again that were stored before IDs had
// keys: at the same time they take the same place.
func TestDuplicatesInAnOldStore(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	p := identified("x", midnight.Add(time.Hour))
	require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	epoch := layout.EpochOf(ms(midnight) + 1)
	ids := prefixRange(layout.KindKey(epoch, layout.KindID))
	require.NoError(t, db.kv.Pebble.DeleteRange(ids.Start, ids.End, nil))
	require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	require.EqualValues(t, 1, storedProfiles(t, db))
}
