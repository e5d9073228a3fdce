package store

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/storetest"
	"github.com/flameline/flameline/pkg/profile"
)

const (
	crashDir   = "FLAMELINE_CRASH_DIR"
	crashFirst = "FLAMELINE_CRASH_FIRST"
	crashSeed  = "FLAMELINE_CRASH_SEED"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := appendUntilKilled(dir, os.Getenv(crashFirst)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	removeFleet()
	_ = os.RemoveAll(damageStore.dir)
	os.Exit(code)
}

// crashProfile is the nth profile of the crash test. Each has a stacktrace of
// its own, so that the dictionary grows with every one of them.
func crashProfile(n int) profile.Profile {
	p := cpu(folded(crashTime(n), fmt.Sprintf("main;common;own%d %d", n, n%7+1), "main;common 1"), labelindex.LabelServiceName, fmt.Sprint("s", n%3), "pod", fmt.Sprint(n%5))
	p.ID = fmt.Sprint(n)
	return p
}

func crashTime(n int) time.Time { return midnight.Add(time.Hour + time.Duration(n)*15*time.Second) }

// appendUntilKilled is the process that is killed: it appends from two
// goroutines and prints the number of each profile once it was acknowledged. The
// clock goes with the profiles, so that hours are merged and dropped in between.
func appendUntilKilled(dir, first string) error {
	start, err := strconv.Atoi(first)
	if err != nil {
		return err
	}
	var latest atomic.Int64
	latest.Store(int64(start))
	o := Options{
		Now:          func() time.Time { return crashTime(int(latest.Load())).Add(2 * time.Hour) },
		RetentionRaw: 3 * time.Hour, RetentionSlot: 5 * time.Hour, MaintenanceInterval: 5 * time.Millisecond,
	}
	db, err := Open(dir, o)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var g sync.WaitGroup
	var at [2]atomic.Int64 // the profile that each appends
	for i := range at {
		at[i].Store(int64(start))
	}
	for i := range at {
		g.Go(func() {
			for n := start + i; ; n += 2 {
				at[i].Store(int64(n))
				// What comes an hour after the other's is refused.
				for n > int(at[1-i].Load())+100 {
					time.Sleep(time.Millisecond)
				}
				if err := db.Append(context.Background(), []profile.Profile{crashProfile(n)}); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				mu.Lock()
				latest.Store(max(latest.Load(), int64(n)))
				fmt.Println(n)
				mu.Unlock()
				if n%50 == 0 { // merge windows in the midst of it
					if err := db.maintain(context.Background(), 0); err != nil {
						fmt.Fprintln(os.Stderr, err)
						os.Exit(1)
					}
				}
			}
		})
	}
	g.Wait()
	return nil
}

// TestNothingAcknowledgedIsLost kills a process that appends, with SIGKILL and
// at random moments, and looks after every kill for all that it acknowledged.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	kills := storetest.Rounds(55)
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(seedOf(t), 1))
	acknowledged := map[int]bool{}
	next := 0
	dropped := false
	for kill := 0; kill < kills || !dropped; kill++ {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), crashDir+"="+dir, crashFirst+"="+strconv.Itoa(next))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		require.True(t, lines.Scan(), "nothing was appended: %s", &stderr)
		time.AfterFunc(time.Duration(r.Int64N(int64(120*time.Millisecond))), func() { _ = cmd.Process.Kill() })
		for ok := true; ok; ok = lines.Scan() {
			n, err := strconv.Atoi(lines.Text())
			require.NoError(t, err)
			acknowledged[n] = true
			next = max(next, n+1)
		}
		require.Error(t, cmd.Wait(), stderr.String())
		require.Empty(t, stderr.String())
		next += 2 // one of those that were under way may be there

		db := open(t, dir)
		checkAcknowledged(t, db, acknowledged)
		if kill%10 == 9 {
			require.NoError(t, db.maintain(context.Background(), 0))
			checkAcknowledged(t, db, acknowledged)
		}
		dropped = db.epochs.Watermarks.Of(layout.EpochOf(ms(crashTime(0))))[layout.LevelSlot] > 0
		require.NoError(t, db.Close())
		if kill%10 == 9 {
			v, err := Verify(context.Background(), dir)
			require.NoError(t, err)
			require.Empty(t, v.Damage)
		}
	}
	t.Logf("%d profiles were acknowledged before %d kills", len(acknowledged), kills)
}

// seedOf is the seed of a test that is to see other cases each time. It is in the log
// of a test that fails, which FLAMELINE_CRASH_SEED repeats. What the kernel and the
// scheduler do between two kills is not repeated.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(crashSeed); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, crashSeed)
	}
	t.Logf("%s=%d repeats the test's choices", crashSeed, seed)
	return seed
}

func checkAcknowledged(t *testing.T, db *DB, acknowledged map[int]bool) {
	t.Helper()
	all := everything()
	all.End = ms(midnight.Add(960 * time.Hour))
	tree, err := db.Tree(context.Background(), all, nil)
	require.NoError(t, err)
	got := map[int]int64{}
	for _, n := range tree.Nodes {
		if own, ok := strings.CutPrefix(tree.Names[n.Name], "own"); ok {
			i, err := strconv.Atoi(own)
			require.NoError(t, err)
			got[i] += n.Self
		}
	}
	for n := range acknowledged {
		require.EqualValues(t, int64(n%7+1)*1e7, got[n], "profile %d", n)
	}
	series, err := db.Points(context.Background(), query.SeriesRequest{Selection: all, Step: 960 * time.Hour})
	require.NoError(t, err)
	total := 0.0
	for _, s := range series {
		total += s.Points[0].Value
	}
	require.Equal(t, float64(tree.Total()), total)
	require.Zero(t, testutil.ToFloat64(db.metrics.Corrupt))
}
