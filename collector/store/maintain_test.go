package store

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/guardfs"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/pebblefiles"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/pkg/profile"
)

// daysWithBroken is a store with profiles of some days, of which the given one cannot be merged.
func daysWithBroken(t *testing.T, n, broken int, change func(*Options)) (db *DB, ids []uint32) {
	t.Helper()
	ctx := context.Background()
	db = open(t, t.TempDir(), func(o *Options) {
		o.Now = func() time.Time { return midnight.Add(time.Duration(n+10) * 24 * time.Hour) }
		change(o)
	})
	for day := range n {
		at := midnight.Add(time.Duration(day)*24*time.Hour + time.Minute)
		for pod := range 3 {
			p := cpu(folded(at, fmt.Sprintf("main;a%d 1", day)), labelindex.LabelServiceName, "a", "pod", fmt.Sprint(pod))
			require.NoError(t, db.Append(ctx, []profile.Profile{p}))
		}
		ids = append(ids, layout.EpochOf(ms(at)))
	}
	e, err := db.epochs.Acquire(ids[broken])
	require.NoError(t, err)
	t.Cleanup(e.Release)
	e.Value.Mu.Lock()
	defer e.Value.Mu.Unlock()
	e.Value.Unmerged[epochs.StreamHour{Stream: 1 << 20, Hour: 3}] = &epochs.UnmergedHour{Dirty: 1} // of a stream that there is not
	return db, ids
}

// A day that cannot be merged, or dropped, keeps nothing from being merged and dropped
// of the others.
func TestMaintenanceGoesOnAfterAnError(t *testing.T) {
	ctx := context.Background()
	db, ids := daysWithBroken(t, 4, 1, func(o *Options) {})
	err := db.maintain(ctx, 0)
	require.ErrorContains(t, err, fmt.Sprintf("merge windows of epoch %d", ids[1]))
	require.NotContains(t, err.Error(), fmt.Sprint("epoch ", ids[2]))
	require.EqualValues(t, 1, testutil.ToFloat64(db.metrics.FailedDays))
	for i, id := range ids {
		days := 0
		require.NoError(t, db.kv.Each(layout.LevelPrefix(id, layout.KindRow, layout.LevelDay), func(_, _ []byte) error {
			days++
			return nil
		}))
		require.Equal(t, i != 1, days > 0, "day %d", i)
	}

	db, ids = daysWithBroken(t, 4, 1, func(o *Options) { o.RetentionRaw = 24 * time.Hour })
	err = db.maintain(ctx, 0)
	require.ErrorContains(t, err, fmt.Sprintf("drop rows of epoch %d", ids[1]))
	for i, id := range ids {
		require.Equal(t, i != 1, db.epochs.Watermarks.Of(id)[layout.LevelFine] > 0, "day %d", i)
	}

	// By size, what is next goes in the place of a day that cannot be dropped.
	db, ids = daysWithBroken(t, 4, 0, func(o *Options) { o.MaxBytes = 1 })
	require.NoError(t, db.kv.Pebble.Flush())
	err = db.maintain(ctx, 0)
	require.ErrorContains(t, err, fmt.Sprintf("drop rows of epoch %d", ids[0]))
	require.Equal(t, []uint32{ids[0], ids[3]}, db.epochs.Between(0, 1<<62))

	// Who ends maintenance ends all of it.
	ended, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, db.maintain(ended, 0), context.Canceled)
}

// Dropping waits for appends that are under way, and no longer than its context.
func TestDropsEndWithTheirContext(t *testing.T) {
	db, ids := daysWithBroken(t, 2, 0, func(o *Options) {})
	e, err := db.epochs.Acquire(ids[1])
	require.NoError(t, err)
	defer e.Release()
	require.True(t, e.Value.BeginWrite())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- db.maintainer.dropEpoch(ctx, ids[1], "test") }()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	e.Value.EndWrite()
	require.True(t, e.Value.BeginWrite(), "the day takes no profiles any more")
	e.Value.EndWrite()
	require.NoError(t, db.maintainer.dropEpoch(t.Context(), ids[1], "test"))
}

// Numbers in the names of files grow beyond six digits.
func TestFilesAreInTheOrderOfTheirNumbers(t *testing.T) {
	fs := vfs.NewMem()
	for _, name := range []string{
		"1000000.sst", "999999.sst", "000007.sst", "1000001.log", "999998.log", "MANIFEST-1000002", "MANIFEST-999997",
		"OPTIONS-1000003", "OPTIONS-999996", "marker.manifest.000001.MANIFEST-999997",
	} {
		require.NoError(t, writeFile(fs, name, nil))
	}
	f, err := pebblefiles.List(fs, "")
	require.NoError(t, err)
	require.Equal(t, []string{"000007.sst", "999999.sst", "1000000.sst"}, f.Tables)
	require.Equal(t, []string{"999998.log", "1000001.log"}, f.Logs)
	require.Equal(t, []string{"MANIFEST-999997", "MANIFEST-1000002"}, f.Manifests)
	require.Equal(t, []string{"OPTIONS-999996", "OPTIONS-1000003"}, f.Options)
	require.Zero(t, pebblefiles.FileNumber("99999999999999999999999.sst"))
	require.Zero(t, pebblefiles.FileNumber("none"))
}

// A hangingFS does not tell how much space is free until it is told to go on.
type hangingFS struct {
	*faultyFS
	hang chan struct{}
}

func (f hangingFS) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	<-f.hang
	return f.faultyFS.GetDiskUsage(path)
}

// A disk that hangs takes no profiles, and keeps nobody waiting who asks.
func TestAHangingDiskIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := hangingFS{newFaultyFS(), make(chan struct{}, 100)}
		for range cap(f.hang) {
			f.hang <- struct{}{}
		}
		db := open(t, "store", f.options, func(o *Options) { o.fs = f })
		require.NoError(t, db.Writable())
		for len(f.hang) > 0 { // the rest hang
			<-f.hang
		}
		time.Sleep(guardfs.SpacePause)
		began := time.Now()
		require.NoError(t, db.Writable(), "within lookPatience, what the last look found")
		require.Equal(t, guardfs.AskPatience, time.Since(began))
		time.Sleep(guardfs.LookPatience)
		err := db.Writable()
		require.ErrorIs(t, err, storeerr.ErrUnavailable)
		require.ErrorContains(t, err, "has not told its free space for 12s")
		close(f.hang)
		synctest.Wait()
		require.NoError(t, db.Writable())
		require.NoError(t, db.Close())
	})
}

// Members of aggregates are those that a pass over the tables for each of them finds.
func TestMemberLists(t *testing.T) {
	db := crowded(t, 0)
	id := layout.EpochOf(ms(midnight) + 1)
	e, err := db.epochs.Acquire(id)
	require.NoError(t, err)
	defer e.Release()
	lists, found := &contributorLists{epoch: e.Value}, 0
	aggregates := map[uint32]*labelindex.Stream{}
	for hour := range uint8(2) {
		require.NoError(t, db.epochs.EachIndexOf(e.Value, hour, func(tb *labelindex.HourIndex) error {
			for row := range tb.Streams {
				k := tb.Kinds[tb.KindOf[row]]
				number, ok, err := db.epochs.FindAggregate(id, tb.Partitions[row], &k)
				require.NoError(t, err)
				if ok {
					aggregates[number] = &labelindex.Stream{ID: number, Partition: tb.Partitions[row], Def: k.Def}
				}
			}
			return nil
		}))
	}
	for number, s := range aggregates {
		f, err := lists.of(s, 0, 2)
		require.NoError(t, err)
		require.Equal(t, number, f.Stream)
		for hour := range 2 {
			found += len(f.Hours[hour])
		}
	}
	require.Equal(t, (4*5+5*4)*2, found)
}
