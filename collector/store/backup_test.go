package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestBackupWhileServing backs a store up while profiles come, and finds all that
// was acknowledged before in the backup.
func TestBackupWhileServing(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	db := open(t, filepath.Join(dir, "store"), func(o *Options) { o.Now = func() time.Time { return midnight.Add(20 * time.Hour) } })
	acknowledged := map[int]bool{}
	for n := range 200 {
		require.NoError(t, appendCrash(db, n))
		acknowledged[n] = true
	}
	require.NoError(t, db.maintain(ctx, 0))
	require.NoError(t, db.kv.Pebble.Flush())
	for n := 200; n < 300; n++ {
		require.NoError(t, appendCrash(db, n))
		acknowledged[n] = true
	}
	var stop atomic.Bool
	done := make(chan error)
	go func() {
		for n := 300; !stop.Load(); n++ {
			if err := appendCrash(db, n); err != nil {
				done <- err
				return
			}
			if n%20 == 0 {
				_, _ = db.kv.Pebble.AsyncFlush()
			}
		}
		done <- nil
	}()
	to := filepath.Join(dir, "backups", "monday")
	r, w := io.Pipe()
	written := make(chan error)
	go func() {
		_, err := db.Backup(ctx, w)
		w.CloseWithError(err)
		written <- err
	}()
	b, err := ReadBackup(r, to)
	require.NoError(t, err)
	require.Positive(t, b.Files)
	require.NoError(t, r.Close())
	<-written
	stop.Store(true)
	require.NoError(t, <-done)
	names, err := filepath.Glob(filepath.Join(dir, "store", checkpointPrefix+"*"))
	require.NoError(t, err)
	require.Empty(t, names)

	v, err := Verify(ctx, to)
	require.NoError(t, err)
	require.Empty(t, v.Damage)
	require.GreaterOrEqual(t, v.Profiles, int64(300))
	backup := open(t, to)
	checkAcknowledged(t, backup, acknowledged)
	require.NoError(t, backup.Close())

	_, err = ReadBackup(bytes.NewReader(nil), to)
	require.ErrorContains(t, err, "is there already")
}

func TestBackupOfAStoreThatIsNotServed(t *testing.T) {
	dir := t.TempDir()
	store, to := filepath.Join(dir, "store"), filepath.Join(dir, "backup")
	db := open(t, store, func(o *Options) { o.Now = func() time.Time { return midnight.Add(20 * time.Hour) } })
	require.NoError(t, appendCrash(db, 1))
	_, err := CopyBackup(context.Background(), store, to)
	require.ErrorContains(t, err, "a process has")
	require.NoError(t, db.Close())
	_, err = CopyBackup(context.Background(), store, to)
	require.NoError(t, err)
	checkAcknowledged(t, open(t, to), map[int]bool{1: true})
}

// What does not come to its end leaves nothing.
func TestBackupIsWholeOrNotThere(t *testing.T) {
	dir := t.TempDir()
	db := open(t, filepath.Join(dir, "store"), func(o *Options) { o.Now = func() time.Time { return midnight.Add(20 * time.Hour) } })
	require.NoError(t, appendCrash(db, 1))
	var whole bytes.Buffer
	_, err := db.Backup(context.Background(), &whole)
	require.NoError(t, err)
	to := filepath.Join(dir, "backups", "b")
	for _, n := range []int{0, 100, 512, 1024, whole.Len() / 2, whole.Len() - 2048, whole.Len() - 1536} {
		_, err := ReadBackup(bytes.NewReader(whole.Bytes()[:n]), to)
		require.Error(t, err, "the first %d bytes", n)
		names, err := os.ReadDir(filepath.Dir(to))
		require.NoError(t, err)
		require.Empty(t, names)
	}
	_, err = ReadBackup(io.MultiReader(bytes.NewReader(whole.Bytes()[:2000]), &failing{}), to)
	require.ErrorIs(t, err, errBroken)
	_, err = ReadBackup(&whole, to)
	require.NoError(t, err)
}

var errBroken = errors.New("the connection broke")

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, errBroken }

func FuzzReadBackup(f *testing.F) {
	dir := f.TempDir()
	db := open(f, filepath.Join(dir, "store"), func(o *Options) { o.Now = func() time.Time { return midnight.Add(20 * time.Hour) } })
	require.NoError(f, appendCrash(db, 1))
	var whole bytes.Buffer
	_, err := db.Backup(context.Background(), &whole)
	require.NoError(f, err)
	f.Add(whole.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		if _, err := ReadBackup(bytes.NewReader(data), filepath.Join(parent, "in", "b")); err == nil {
			return
		}
		// Nothing but what was asked for is ever written.
		names, err := os.ReadDir(parent)
		require.NoError(t, err)
		require.Len(t, names, 1)
		names, err = os.ReadDir(filepath.Join(parent, "in"))
		require.NoError(t, err)
		require.Empty(t, names)
	})
}
