package main

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/debuginfo"
	"github.com/flameline/flameline/collector/symbolize"
)

const (
	// uploadedSymbolBytes bounds the symbol tables of uploaded files.
	uploadedSymbolBytes = 16 << 20
	// maxNamed bounds the names that are remembered for queries.
	maxNamed = 64 << 10
)

// keptSymbols are the debug files that the service keeps: they name functions of stripped
// programs when these are sampled, and those that were uploaded also what profiles have
// stored as module+0xaddress. The zero value keeps none. It is safe for concurrent use.
type keptSymbols struct {
	uploads *debuginfo.Uploads // nil: none are taken
	client  *debuginfo.Client  // nil: no servers
	// uploaded looks up addresses in uploaded files.
	uploaded *symbolize.Symbolizer
	// inflateDir is where compressed debug information is inflated to; "" without one.
	inflateDir string

	mu          sync.Mutex
	symbolizers []*symbolize.Symbolizer
	generation  uint64
	named       map[namedAddress]string // of the generation
}

// A namedAddress is an address in a binary.
type namedAddress struct {
	buildID string
	address uint64
	inFile  bool // an offset in the file, not an ELF virtual address
}

// openSymbols opens the directory of debug files. An agent takes no uploads: its server
// does.
func openSymbols(c *config.Config, logger *slog.Logger, reg prometheus.Registerer) (*keptSymbols, error) {
	o := c.Symbols
	dir := cmp.Or(o.Path, filepath.Join(c.Storage.Path, "symbols"))
	k := &keptSymbols{inflateDir: filepath.Join(dir, "inflated")}
	var err error
	if o.MaxUploadBytes > 0 && c.Push.URL == "" {
		k.uploads, err = debuginfo.OpenUploads(debuginfo.UploadOptions{
			Dir: filepath.Join(dir, "uploads"), MaxBytes: int64(o.MaxUploadBytes), MaxFileBytes: int64(o.MaxFileBytes),
			MinFreeBytes: int64(c.Storage.MinFreeBytes), Logger: logger.With("component", "uploads"),
		})
		if err != nil {
			return nil, fmt.Errorf("symbols.path: %w", err)
		}
		k.uploads.OnChange(k.renew)
		k.uploaded = symbolize.New(symbolize.Options{
			Logger: logger.With("component", "symbolize"), CacheBytes: uploadedSymbolBytes, NoLines: true,
		})
	}
	if len(o.DebuginfodURLs) == 0 {
		return k, nil
	}
	k.client, err = debuginfo.NewClient(debuginfo.Options{
		URLs: o.DebuginfodURLs, Dir: filepath.Join(dir, "debuginfod"), Timeout: time.Duration(o.DebuginfodTimeout),
		MaxBytes: int64(o.DebuginfodCacheBytes), MaxFileBytes: int64(o.MaxFileBytes), MinFreeBytes: int64(c.Storage.MinFreeBytes), Arrived: k.renew,
		Logger: logger.With("component", "debuginfod"), Registerer: reg,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("symbols: %w", err), k.Close())
	}
	return k, nil
}

// symbolizer returns a new symbolizer that reads the files that are kept. The caller
// closes it.
func (k *keptSymbols) symbolizer(o symbolize.Options) *symbolize.Symbolizer {
	if k.uploads != nil || k.client != nil {
		o.DebugFiles = k
	}
	o.InflateDir = k.inflateDir
	s := symbolize.New(o)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.symbolizers = append(k.symbolizers, s)
	return s
}

// renew has symbolizers read a file that came.
func (k *keptSymbols) renew(buildID string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.symbolizers {
		s.Renew(buildID)
	}
}

// OpenDebugFile opens the file of a build ID.
func (k *keptSymbols) OpenDebugFile(buildID string) (f *os.File, err error) {
	err = os.ErrNotExist
	if k.uploads != nil {
		f, err = k.uploads.Open(buildID)
	}
	if k.client != nil && errors.Is(err, os.ErrNotExist) {
		f, err = k.client.Open(buildID)
	}
	return f, err
}

// Generation implements store.Names.
func (k *keptSymbols) Generation() uint64 {
	if k.uploads == nil {
		return 0
	}
	return k.uploads.Generation()
}

// Known implements store.Names.
func (k *keptSymbols) Known(buildID string) bool { return k.uploads != nil && k.uploads.Has(buildID) }

// Function implements store.Names.
func (k *keptSymbols) Function(buildID string, address uint64, inFile bool) string {
	if k.uploads == nil {
		return ""
	}
	key, generation := namedAddress{buildID, address, inFile}, k.uploads.Generation()
	k.mu.Lock()
	if k.generation != generation || len(k.named) >= maxNamed {
		k.generation, k.named = generation, map[namedAddress]string{}
	}
	name, ok := k.named[key]
	k.mu.Unlock()
	if ok {
		return name
	}
	name = k.function(buildID, generation, address, inFile)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.generation == generation {
		k.named[key] = name
	}
	return name
}

func (k *keptSymbols) function(buildID string, generation, address uint64, inFile bool) string {
	b := symbolize.Binary{Name: buildID, BuildID: buildID, Open: func() (symbolize.Reader, int64, error) {
		f, err := k.uploads.Open(buildID)
		if err != nil {
			return nil, 0, err
		}
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, 0, err
		}
		return f, info.Size(), nil
	}}
	if inFile {
		segments, err := symbolize.Segments("/proc", b)
		if err != nil {
			return ""
		}
		found := false
		for _, s := range segments { // those of a file without code have no bytes
			if address >= s.Offset && address-s.Offset < s.Size {
				address, found = address-s.Offset+s.Address, true
				break
			}
		}
		if !found {
			return ""
		}
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", generation, buildID))
	id := symbolize.FileID(sum[:16])
	k.uploaded.Add(id, b)
	lines, ok := k.uploaded.Lookup(id, address)
	if !ok || len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1].Function
}

// Close ends what is being fetched. Symbolizers are closed by those who made them, before.
func (k *keptSymbols) Close() (err error) {
	if k.client != nil {
		err = k.client.Close()
	}
	if k.uploaded != nil {
		err = errors.Join(err, k.uploaded.Close())
	}
	return err
}
