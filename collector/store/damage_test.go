package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/repair"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/pkg/profile"
)

// damageProfiles are the profiles of the damage tests, over three days: each has
// a function of its own by which it is found again.
const damageProfiles = 900

func damageProfile(n int) profile.Profile {
	name := fmt.Sprintf("%0200d", n) // so that there are many blocks
	p := cpu(folded(damageTime(n), fmt.Sprintf("main;common;own%s %d", name, n%7+1), "main;common 1"),
		labelindex.LabelServiceName, fmt.Sprint("s", n/5%3), "pod", fmt.Sprint(n%5))
	p.ID = fmt.Sprint(n)
	if n%3 == 0 {
		at := int64(len(p.Pprof.StringTable))
		p.Pprof.StringTable = append(p.Pprof.StringTable, "span_id", fmt.Sprintf("%016x", n+1))
		p.Pprof.Sample[0].Label = []*googlev1.Label{{Key: at, Str: at + 1}}
	}
	return p
}

// damageTime has a service's five pods in the same five minutes, so that there are
// windows of all sizes for the service too.
func damageTime(n int) time.Time {
	return midnight.Add(time.Duration(n/5)*20*time.Minute + time.Duration(n%5)*40*time.Second + 7*time.Second)
}

// Of the first damageDropped single profiles are not kept: a day, and some hours
// of the next.
const damageDropped = 30 * time.Hour

func damageOptions(o *Options) {
	o.Now = func() time.Time { return midnight.Add(70 * time.Hour) }
	o.RetentionRaw = 70*time.Hour - damageDropped
}

// damageStore is a store that is written once. TestMain removes it.
var damageStore struct {
	sync.Mutex
	dir string
}

// makeDamageStore copies a store with tables on several levels, windows of all
// sizes and of aggregates, hours of which merged rows alone are left, and the latest
// profiles in the log alone.
func makeDamageStore(t *testing.T, dir string) {
	t.Helper()
	damageStore.Lock()
	defer damageStore.Unlock()
	if damageStore.dir == "" {
		made, err := os.MkdirTemp("", "flameline-damage-")
		require.NoError(t, err)
		writeDamageStore(t, filepath.Join(made, "store"))
		damageStore.dir = made
	}
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(damageStore.dir, "store"))))
}

func writeDamageStore(t *testing.T, dir string) {
	t.Helper()
	ctx := context.Background()
	db := open(t, dir, damageOptions, func(o *Options) { o.RetentionRaw = 0 })
	for n := range damageProfiles {
		require.NoError(t, db.Append(ctx, []profile.Profile{damageProfile(n)}))
		switch n {
		case 300, 600:
			require.NoError(t, db.maintain(ctx, 0))
			require.NoError(t, db.kv.Pebble.Flush())
			require.NoError(t, db.kv.Pebble.Compact(ctx, []byte{0}, bytes.Repeat([]byte{255}, 20), false))
		case 750, 800, 830:
			require.NoError(t, db.kv.Pebble.Flush())
		case 700:
			db.epochs.Retention.Raw = 70*time.Hour - damageDropped
			require.NoError(t, db.maintain(ctx, 0))
		}
	}
	aggregates := 0
	for _, id := range db.epochs.Between(0, 1<<62) {
		require.NoError(t, db.kv.Each(layout.KindKey(id, layout.KindStream), func(_, value []byte) error {
			if _, def, err := labelindex.ReadStream(value); err == nil && def.IsAggregate() {
				aggregates++
			}
			return nil
		}))
	}
	require.Equal(t, 3*3, aggregates)
	require.Len(t, db.epochs.Watermarks.Snapshot(func() {}), 2)
	require.NoError(t, db.Close())
}

// found returns which profiles an answer holds.
func found(t *testing.T, db *DB) map[int]bool {
	t.Helper()
	tree, err := db.Tree(context.Background(), query.Selection{Type: cpuType, Start: ms(midnight), End: ms(midnight.Add(72 * time.Hour))}, nil)
	require.NoError(t, err)
	got := map[int]bool{}
	for _, node := range tree.Nodes {
		own, ok := strings.CutPrefix(tree.Names[node.Name], "own")
		if !ok {
			continue
		}
		n, err := strconv.Atoi(own)
		require.NoError(t, err)
		require.EqualValues(t, int64(n%7+1)*1e7, node.Self, "profile %d is there once", n)
		got[n] = true
	}
	return got
}

// named reports whether damage of a file says that the profiles of a time may be missing.
func named(t *testing.T, damage []corruption.Damage, file string, at time.Time) bool {
	t.Helper()
	return slices.ContainsFunc(damage, func(d corruption.Damage) bool {
		if d.File != file || d.Start == "" {
			return false
		}
		start, err := time.Parse(time.RFC3339, d.Start)
		require.NoError(t, err)
		end, err := time.Parse(time.RFC3339, d.End)
		require.NoError(t, err)
		return !at.Before(start) && !at.After(end)
	})
}

// checkMissing looks for every profile: one that is not there has to be within damage
// that names the file. Only the end of the log may be missing without: it cannot be told
// from what a crash leaves.
func checkMissing(t *testing.T, got map[int]bool, damage []corruption.Damage, file string) (missing int) {
	t.Helper()
	ended := false
	for n := range damageProfiles {
		if got[n] {
			require.False(t, ended, "profile %d comes after one that the log lacks", n)
			continue
		}
		missing++
		if !named(t, damage, file, damageTime(n)) {
			require.True(t, strings.HasSuffix(file, ".log"), "profile %d is missing and no damage of %s says so: %v", n, file, damage)
			ended = true
		}
	}
	return missing
}

// askAll asks a store in all ways, none of which may fail.
func askAll(t *testing.T, db *DB) {
	t.Helper()
	ctx := context.Background()
	all := query.Selection{Type: cpuType, Start: ms(midnight), End: ms(midnight.Add(72 * time.Hour))}
	_, err := db.Points(ctx, query.SeriesRequest{Selection: all, Step: time.Hour, GroupBy: []string{"pod"}})
	require.NoError(t, err)
	_, err = db.Pprof(ctx, all, nil)
	require.NoError(t, err)
	_, err = db.Values(ctx, query.ValuesRequest{Selection: all})
	require.NoError(t, err)
	_, err = db.LabelNames(ctx, nil, 0, 0)
	require.NoError(t, err)
	_, err = db.Stats(ctx)
	require.NoError(t, err)
}

// appendFresh appends profiles to all days, and returns those that were taken: what is
// merged alone takes none.
func appendFresh(t *testing.T, db *DB, first int) map[int]time.Time {
	t.Helper()
	taken := map[int]time.Time{}
	for n := range 9 {
		p := damageProfile(n * 97)
		id := (first + n) * 7
		p.ID = fmt.Sprint("fresh", id)
		at := midnight.Add(damageDropped + time.Duration(n+1)*4*time.Hour + time.Second)
		p.Pprof = folded(at, fmt.Sprintf("main;own%d 1", id))
		if err := db.Append(context.Background(), []profile.Profile{p}); !errors.Is(err, storeerr.ErrInvalid) {
			require.NoError(t, err)
			taken[id] = at
		}
	}
	require.NotZero(t, taken[(first+8)*7], "the present is never refused")
	return taken
}

// checkServing opens a damaged store, which is refused with the name of the file and what
// to do, or serves what can be read, takes profiles and goes on with maintenance.
func checkServing(t *testing.T, dir, file string) (got map[int]bool, taken map[int]time.Time) {
	t.Helper()
	ctx := context.Background()
	log := &lockedLog{}
	o := Options{MaintenanceInterval: -1, Logger: slog.New(slog.NewTextHandler(log, nil))}
	damageOptions(&o)
	db, err := Open(dir, o)
	if err != nil {
		require.ErrorIs(t, err, corruption.ErrCorruptStore)
		require.ErrorContains(t, err, strings.TrimSuffix(file, ".sst"))
		require.ErrorContains(t, err, "flameline store repair")
		return nil, nil
	}
	got = found(t, db)
	askAll(t, db)
	damage := db.Damage()
	checkMissing(t, got, damage, file)
	for _, d := range damage {
		require.Contains(t, log.String(), d.File)
	}
	taken = appendFresh(t, db, 100000)
	check := func() {
		t.Helper()
		again := found(t, db)
		for n, at := range taken {
			// Its keys may lie between those of the corrupt block; a repair finds them.
			require.True(t, again[n] || named(t, db.Damage(), file, at), "a profile that came after the damage")
			delete(again, n)
		}
		// A late profile may take away a window of which the rows cannot be read.
		for n := range got {
			require.True(t, again[n] || named(t, db.Damage(), file, damageTime(n)), "profile %d is missing and nothing says so", n)
			delete(again, n)
		}
		require.Empty(t, again)
	}
	check()
	for range 2 {
		if err := db.maintain(ctx, 0); err != nil {
			require.ErrorIs(t, err, storeerr.ErrCorrupt)
			require.NotEmpty(t, db.Damage())
		}
		check()
	}
	require.NoError(t, db.Close())
	db = open(t, dir, damageOptions)
	found(t, db)
	check()
	got = found(t, db)
	for n := range taken {
		delete(got, n)
	}
	require.NoError(t, db.Close())
	return got, taken
}

// checkRepair makes a new store of a damaged one, which has at least what was served, and
// in which everything is in order.
func checkRepair(t *testing.T, dir, file string, served map[int]bool, taken map[int]time.Time) (missing int) {
	t.Helper()
	ctx := context.Background()
	before := filesOf(t, dir)
	to := filepath.Join(t.TempDir(), "repaired")
	damage, err := Repair(ctx, dir, to, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Equal(t, before, filesOf(t, dir), "nothing is changed in the damaged store")
	verified := func() {
		t.Helper()
		v, err := Verify(ctx, to)
		require.NoError(t, err)
		require.Empty(t, v.Damage)
	}
	verified()
	db := open(t, to, damageOptions)
	got := found(t, db)
	for n := range served {
		require.True(t, got[n], "profile %d was served of the damaged store", n)
	}
	for n := range taken {
		require.True(t, got[n], "profile %d came after the damage", n)
		delete(got, n)
	}
	missing = checkMissing(t, got, damage, file)
	more := appendFresh(t, db, 200000)
	check := func() {
		t.Helper()
		again := found(t, db)
		for n := range more {
			require.True(t, again[n])
			delete(again, n)
		}
		for n := range taken {
			delete(again, n)
		}
		require.Equal(t, got, again)
	}
	check()
	require.NoError(t, db.maintain(ctx, 0))
	check()
	db.epochs.Retention.Raw = 12 * time.Hour // all that is there is merged before it is dropped
	require.NoError(t, db.maintain(ctx, 0))
	check()
	askAll(t, db)
	require.Empty(t, db.Damage())
	require.NoError(t, db.Close())
	verified()
	return missing
}

// TestDamage flips bits in, cuts off and removes every file of a store.
func TestDamage(t *testing.T) {
	t.Parallel()
	original := filepath.Join(t.TempDir(), "store")
	makeDamageStore(t, original)
	r := rand.New(rand.NewPCG(1, 77))
	files, err := os.ReadDir(original)
	require.NoError(t, err)
	for n, f := range files {
		info, err := f.Info()
		require.NoError(t, err)
		if f.Name() == "LOCK" || f.IsDir() {
			continue
		}
		size := info.Size()
		damages := map[string]func(path string) error{"removed": os.Remove}
		if size > 0 {
			positions, ends := []int64{0, size / 2, size - 1, size - 30, r.Int64N(size), r.Int64N(size)}, []int64{0, size / 2, size - 1}
			if testing.Short() {
				positions, ends = positions[4:5], ends[1:2]
			}
			for _, at := range positions {
				if at >= 0 {
					damages[fmt.Sprint("a bit flipped at ", at)] = func(path string) error { return flip(path, at) }
				}
			}
			for _, at := range ends {
				damages[fmt.Sprint("cut off at ", at)] = func(path string) error { return os.Truncate(path, at) }
			}
		}
		names := slices.Sorted(maps.Keys(damages))
		if testing.Short() { // one of them, in turns
			names = names[n%len(names) : n%len(names)+1]
		}
		for _, name := range names {
			damage := damages[name]
			t.Run(f.Name()+" "+name, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "store")
				require.NoError(t, os.CopyFS(dir, os.DirFS(original)))
				require.NoError(t, damage(filepath.Join(dir, f.Name())))
				file := f.Name()
				if kind, ok := strings.CutPrefix(file, "marker."); ok {
					file = "marker." + kind[:strings.Index(kind, ".")]
				}
				got, taken := checkServing(t, dir, file)
				missing := checkRepair(t, dir, file, got, taken)
				t.Logf("%d of %d profiles are missing while it is served, %d after repair", damageProfiles-len(got), damageProfiles, missing)
			})
		}
	}
}

func flip(path string, at int64) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[at] ^= 1 << (at % 8)
	return os.WriteFile(path, b, 0o600)
}

// Damage that is found in the midst of queries, appends and merges costs none of
// them, and what is appended is there after a repair.
func TestDamageUnderLoad(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "store")
	makeDamageStore(t, dir)
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	require.NoError(t, err)
	for i, path := range tables {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.NoError(t, flip(path, info.Size()*int64(i+1)/int64(len(tables)+2)))
	}
	db := open(t, dir, damageOptions)
	all := query.Selection{Type: cpuType, Start: ms(midnight), End: ms(midnight.Add(72 * time.Hour))}
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	var g sync.WaitGroup
	for i := range 4 {
		g.Go(func() {
			for n := range rounds {
				var err error
				switch i {
				case 0:
					_, err = db.Tree(ctx, all, nil)
				case 1:
					_, err = db.Points(ctx, query.SeriesRequest{Selection: all, Step: time.Hour})
				case 2:
					if err = db.maintain(ctx, 0); errors.Is(err, storeerr.ErrCorrupt) {
						err = nil // of some windows the rows cannot be read
					}
					if err := db.kv.Pebble.Flush(); err != nil {
						t.Error(err)
					}
				case 3:
					p := damageProfile(500 + n*40)
					p.ID = ""
					p.Pprof = folded(midnight.Add(69*time.Hour+30*time.Minute), fmt.Sprintf("main;fresh%d 1", n))
					err = db.Append(ctx, []profile.Profile{p})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	g.Wait()
	require.NotEmpty(t, db.Damage())
	fresh := func() (n int) {
		tree, err := db.Tree(ctx, all, nil)
		require.NoError(t, err)
		for _, node := range tree.Nodes {
			if strings.HasPrefix(tree.Names[node.Name], "fresh") {
				require.EqualValues(t, 1e7, node.Self)
				n++
			}
		}
		return n
	}
	// Keys between the first and the last one of a corrupt block are hidden until the
	// store is repaired, also those that came later.
	if n := fresh(); n != rounds {
		at := midnight.Add(69*time.Hour + 30*time.Minute)
		require.True(t, slices.ContainsFunc(db.Damage(), func(d corruption.Damage) bool { return named(t, []corruption.Damage{d}, d.File, at) }),
			"%d of %d profiles are served, and no damage says so: %v", n, rounds, db.Damage())
	}
	require.NoError(t, db.Close())
	to := filepath.Join(t.TempDir(), "repaired")
	_, err = Repair(ctx, dir, to, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	v, err := Verify(ctx, to)
	require.NoError(t, err)
	require.Empty(t, v.Damage)
	db = open(t, to, damageOptions)
	require.Equal(t, rounds, fresh(), "what came after the damage stays")
	require.NoError(t, db.kv.Pebble.Compact(ctx, []byte{0}, bytes.Repeat([]byte{255}, 20), false), "nothing corrupt is left")
}

// rebuilt makes all days of a store whole, and opens it again.
func rebuilt(t *testing.T, db *DB, again func() *DB) *DB {
	t.Helper()
	_, err := repair.Rebuild(context.Background(), db.epochs)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	return again()
}

func writeFile(fs vfs.FS, path string, b []byte) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// Where one corrupt block has all keys of a day, profiles are taken all the same. Those
// of one run do not take the numbers of the run before it, which cannot be read either,
// and a repair finds all of them.
func TestAppendsWhereTheDayIsUnreadable(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "store")
	own := func(n int) profile.Profile {
		return cpu(folded(midnight.Add(time.Hour+time.Duration(n)*time.Minute), fmt.Sprintf("main;own%d 1", n)), labelindex.LabelServiceName, fmt.Sprint("s", n%3), "run", fmt.Sprint(n/10))
	}
	for run := range 4 {
		db := open(t, dir)
		for n := range 10 {
			require.NoError(t, db.Append(ctx, []profile.Profile{own(run*10 + n)}))
		}
		require.NoError(t, db.kv.Pebble.Flush())
		if run > 0 {
			require.NotEmpty(t, db.Damage())
		}
		require.NoError(t, db.Close())
		if run == 0 {
			tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
			require.NoError(t, err)
			require.Len(t, tables, 1)
			require.NoError(t, flip(tables[0], 100))
		}
	}
	to := filepath.Join(t.TempDir(), "repaired")
	damage, err := Repair(ctx, dir, to, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	db := open(t, to)
	tree, err := db.Tree(ctx, everything(), nil)
	require.NoError(t, err)
	for n := range 40 {
		if n >= 10 {
			require.Contains(t, tree.Names, fmt.Sprint("own", n))
		} else {
			require.True(t, named(t, damage, damage[0].File, midnight.Add(time.Hour+time.Duration(n)*time.Minute)))
		}
	}
	require.EqualValues(t, 30*1e7, tree.Total())
	require.NoError(t, db.Close())
	v, err := Verify(ctx, to)
	require.NoError(t, err)
	require.Empty(t, v.Damage)
}

// A corrupt table that is not compacted does not stop writes, and goes with its day.
func TestWritesGoOnBesideACorruptTable(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "store")
	day := func(n int) profile.Profile {
		return cpu(folded(midnight.Add(time.Hour+time.Duration(n)*time.Minute), fmt.Sprintf("main;own%d 1", n)), labelindex.LabelServiceName, "a")
	}
	db := open(t, dir)
	require.NoError(t, db.kv.Pebble.Flush()) // the store's own keys, which follow those of all days
	require.NoError(t, db.Append(ctx, []profile.Profile{day(0)}))
	require.NoError(t, db.kv.Pebble.Flush())
	require.NoError(t, db.Close())
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	require.NoError(t, err)
	require.Len(t, tables, 2)
	tables = tables[1:]
	require.NoError(t, flip(tables[0], 100))
	db = open(t, dir)
	for n := range 30 { // Pebble stops writes at 12 tables that are to be compacted
		require.NoError(t, db.Append(ctx, []profile.Profile{day(n + 1)}))
		require.NoError(t, db.kv.Pebble.Flush())
	}
	require.Len(t, db.Damage(), 1)
	require.Equal(t, filepath.Base(tables[0]), db.Damage()[0].File)
	require.NoError(t, db.Writable())
	next := cpu(folded(midnight.Add(25*time.Hour), "main;next 1"), labelindex.LabelServiceName, "a")
	require.NoError(t, db.Append(ctx, []profile.Profile{next}))
	require.NoError(t, db.maintainer.dropEpoch(ctx, layout.EpochOf(ms(midnight)+1), "test"))
	require.NoError(t, db.maintain(ctx, 0))
	sel := everything()
	sel.End = ms(midnight.Add(26 * time.Hour))
	tree, err := db.Tree(ctx, sel, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"main;next 10000000"}, draw(tree))
}

// A table that was compacted, and that a crash left in the directory, has profiles that
// were dropped since: they stay dropped.
func TestRepairLeavesOutCompactedTables(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "store")
	db := open(t, dir)
	own := func(day int) profile.Profile {
		return cpu(folded(midnight.Add(time.Duration(24*day+1)*time.Hour), fmt.Sprintf("main;own%d 1", day)), labelindex.LabelServiceName, "a")
	}
	require.NoError(t, db.Append(ctx, []profile.Profile{own(0), own(1)}))
	require.NoError(t, db.kv.Pebble.Flush())
	before := filesOf(t, dir)
	require.NoError(t, db.maintainer.dropEpoch(ctx, layout.EpochOf(ms(midnight)+1), "test"))
	require.NoError(t, db.kv.Pebble.Flush())
	require.NoError(t, db.kv.Pebble.Compact(ctx, []byte{0}, bytes.Repeat([]byte{255}, 20), false))
	require.NoError(t, db.Close())
	require.NoError(t, open(t, dir).Close()) // the logs have the deletion
	left := 0
	for name, content := range before {
		if _, err := os.Stat(filepath.Join(dir, name)); strings.HasSuffix(name, ".sst") && errors.Is(err, os.ErrNotExist) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
			left++
		}
	}
	require.NotZero(t, left)
	to := filepath.Join(t.TempDir(), "repaired")
	damage, err := Repair(ctx, dir, to, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Empty(t, damage)
	db = open(t, to)
	sel := everything()
	sel.End = ms(midnight.Add(72 * time.Hour))
	tree, err := db.Tree(ctx, sel, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"main;own1 10000000"}, draw(tree))
}
