package store

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

func TestSettingsStay(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	db := open(t, dir)
	require.NoError(t, db.SetSetting(ctx, Setting{Name: "b", Value: `{"größe":1}`, Modified: 7}))
	require.NoError(t, db.SetSetting(ctx, Setting{Name: "a", Value: "", Modified: 5}))
	require.ErrorIs(t, db.SetSetting(ctx, Setting{Name: "b", Value: "older", Modified: 6}), ErrOldSetting)
	require.NoError(t, db.SetSetting(ctx, Setting{Name: "a", Value: "again", Modified: 5}))
	require.NoError(t, db.SetSetting(ctx, Setting{Name: "ab", Value: "x", Modified: 1}))
	require.NoError(t, db.DeleteSetting(ctx, "ab"))
	require.NoError(t, db.DeleteSetting(ctx, "never there"))

	// Neither profiles nor retention get in their way.
	require.NoError(t, db.Append(ctx, []profile.Profile{cpu(folded(midnight.Add(time.Hour), "main 1"))}))
	require.NoError(t, db.Close())
	db = open(t, dir, func(o *Options) { o.Retention = time.Hour })
	require.NoError(t, db.maintain(ctx, 0))
	require.NoError(t, db.Close())
	db = open(t, dir)
	got, err := db.Settings(ctx)
	require.NoError(t, err)
	require.Equal(t, []Setting{{"a", "again", 5}, {"b", `{"größe":1}`, 7}}, got)
}

func TestDamagedSettingsAreLeftOut(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	require.NoError(t, db.SetSetting(ctx, Setting{Name: "good", Value: "x", Modified: 1}))
	require.NoError(t, db.kv.Pebble.Set(settingKey("bad"), []byte{1, 2}, pebble.Sync))
	got, err := db.Settings(ctx)
	require.NoError(t, err)
	require.Equal(t, []Setting{{"good", "x", 1}}, got)
	require.NoError(t, db.SetSetting(ctx, Setting{Name: "bad", Value: "new", Modified: 1}), "and can be written anew")
}
