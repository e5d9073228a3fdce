//go:build linux && (amd64 || arm64)

package sample

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/ebpf-profiler/libpf"

	"github.com/flameline/flameline/collector/untrusted"
)

// goTables are the tables of Go programs, whose files are held open. They are
// read without a lock, on goroutines that may be given up. goTables is safe for
// concurrent use.
type goTables struct {
	unreadable *unreadables
	guard      untrusted.Guard

	mu   sync.Mutex
	byID map[libpf.FileID]*openTable
	uses int64 // counts up
}

// An openTable is the table of a Go program.
type openTable struct {
	file   io.Closer
	module module
	used   int64 // goTables.mu guards it

	mu    sync.Mutex // of the table, which reads more of the file when it is used
	table *goTable
}

const (
	// maxGoTables bounds the Go programs whose files are held open.
	maxGoTables = 512
	// fileTimeout is how long reading a file of a process may take, beyond which
	// its file system is taken for one that does not answer.
	fileTimeout = 10 * time.Second
	// maxStuck bounds the goroutines that wait for file systems that do not answer.
	maxStuck = 64
)

func newGoTables(u *unreadables) *goTables {
	return &goTables{
		unreadable: u,
		guard:      untrusted.Guard{Limit: fileTimeout, Stuck: maxStuck, Shorten: true},
		byID:       map[libpf.FileID]*openTable{},
	}
}

// add keeps the table of a Go program and reports whether it keeps the file.
func (g *goTables) add(id libpf.FileID, m module, t *goTable, file io.Closer) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.byID[id]; ok {
		return false
	}
	if len(g.byID) >= maxGoTables {
		var oldest libpf.FileID
		for id, t := range g.byID {
			if o := g.byID[oldest]; o == nil || t.used < o.used {
				oldest = id
			}
		}
		g.drop(oldest)
	}
	g.uses++
	g.byID[id] = &openTable{table: t, module: m, file: file, used: g.uses}
	return true
}

// drop closes the file of a table. Who reads it gets an error. The caller holds
// mu.
func (g *goTables) drop(id libpf.FileID) {
	if t := g.byID[id]; t != nil {
		delete(g.byID, id)
		// Closing may wait for a file system that does not answer.
		go t.file.Close()
	}
}

// goBatch bounds the addresses that are looked up on one goroutine, within
// fileTimeout.
const goBatch = 256

// lines returns the functions at addresses of a Go program, one after the other;
// nil where they are not known. Many addresses at once cost less: each call
// needs a goroutine of its own. A table that cannot be read is dropped.
func (g *goTables) lines(id libpf.FileID, addrs ...uint64) [][]line {
	found := make([][]line, 0, len(addrs))
	for batch := range slices.Chunk(addrs, goBatch) {
		found = append(found, g.batch(id, batch)...)
	}
	return found
}

// batch returns the functions at up to goBatch addresses.
func (g *goTables) batch(id libpf.FileID, addrs []uint64) [][]line {
	none := make([][]line, len(addrs))
	g.mu.Lock()
	t := g.byID[id]
	if t == nil {
		g.mu.Unlock()
		return none
	}
	g.uses++
	t.used = g.uses
	g.mu.Unlock()

	found, err := untrusted.Do(&g.guard, func() ([][]line, error) { return t.lines(addrs) })
	if err == nil {
		return found
	}
	if g.unreadable.add(id, t.module, "go_table", err) {
		g.mu.Lock()
		if g.byID[id] == t {
			g.drop(id)
		}
		g.mu.Unlock()
	}
	return none
}

// lines looks up addresses. It returns an error if the table as a whole cannot be
// read. One malformed function may be among thousands of good ones.
func (t *openTable) lines(addrs []uint64) ([][]line, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := make([][]line, len(addrs))
	for i, addr := range addrs {
		lines, err := t.table.lines(addr)
		if t.table.expensive() {
			err = fmt.Errorf("%d bytes read for %d addresses: %w", t.table.spent, t.table.lookups, untrusted.ErrTooLarge)
		}
		switch {
		case err == nil:
			found[i] = lines
		case !errors.Is(err, errGoTable) && untrusted.Reason(err) != "":
			return nil, err
		}
	}
	return found, nil
}

// close closes the files that are held open.
func (g *goTables) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id := range g.byID {
		g.drop(id)
	}
}
