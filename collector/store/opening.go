package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/guardfs"
	"github.com/flameline/flameline/collector/store/internal/layout"
)

// Names of Pebble's files.
const (
	optionsPrefix  = "OPTIONS-"
	manifestMarker = "manifest"
	formatMarker   = "format-version"
)

// files are the names in a store's directory, by kind.
type files struct {
	all, tables, logs, manifests, options []string
}

func listFiles(fs vfs.FS, dir string) (f files, err error) {
	f.all, err = fs.List(dir)
	slices.Sort(f.all)
	for _, name := range f.all {
		switch {
		case strings.HasSuffix(name, ".sst"):
			f.tables = append(f.tables, name)
		case strings.HasSuffix(name, ".log"):
			f.logs = append(f.logs, name)
		case strings.HasPrefix(name, guardfs.ManifestPrefix):
			f.manifests = append(f.manifests, name)
		case strings.HasPrefix(name, optionsPrefix):
			f.options = append(f.options, name)
		}
	}
	for _, list := range [][]string{f.tables, f.logs, f.manifests, f.options} {
		slices.SortFunc(list, func(a, b string) int { return cmp.Or(cmp.Compare(fileNumber(a), fileNumber(b)), cmp.Compare(a, b)) })
	}
	return f, err
}

// empty reports whether there are no files of a store.
func (f *files) empty() bool { return len(f.tables)+len(f.logs)+len(f.manifests) == 0 }

// fileNumber is the number in the name of one of Pebble's files, 0 if there is none.
// Names have six digits, or more if the number has: as texts they are out of order.
func fileNumber(name string) (n uint64) {
	from := strings.IndexAny(name, digits)
	if from < 0 {
		return 0
	}
	name = name[from:]
	if end := strings.IndexFunc(name, func(r rune) bool { return !strings.ContainsRune(digits, r) }); end >= 0 {
		name = name[:end]
	}
	n, err := strconv.ParseUint(name, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

const digits = "0123456789"

func (f *files) hasMarker(name string) bool {
	return slices.ContainsFunc(f.all, func(s string) bool { return strings.HasPrefix(s, "marker."+name+".") })
}

// checkDirectory refuses a directory in which Pebble would take damage for the end of the
// list of tables, or for an empty database. It returns the records of logs that Pebble may
// leave out without a word. The directory is locked.
func checkDirectory(fs vfs.FS, dir string, o *pebble.Options) (logs []corruption.Damage, err error) {
	f, err := listFiles(fs, dir)
	if err != nil || f.empty() {
		return nil, err
	}
	records := 0
	for _, name := range f.logs {
		log, err := readLog(fs, dir, name)
		if err != nil {
			return nil, err
		}
		logs = append(logs, log.damage...)
		records += len(log.records)
	}
	if len(f.tables)+records == 0 && !f.hasMarker(manifestMarker) {
		return nil, nil // its making was interrupted
	}
	for _, marker := range []string{manifestMarker, formatMarker} {
		if !f.hasMarker(marker) && (marker == manifestMarker || len(f.tables) > 0) {
			return nil, corruption.ErrorOf(corruption.Damage{File: "marker." + marker, Reason: "the file is missing"})
		}
	}
	return logs, checkManifest(fs, dir, &f, o)
}

// checkManifest refuses a list of tables that ends before its end, unless what is missing
// is in the logs still: Pebble takes it for what a crash leaves, and deletes the tables
// that it does not name.
func checkManifest(fs vfs.FS, dir string, f *files, o *pebble.Options) error {
	name, err := atomicfs.ReadMarker(fs, dir, manifestMarker)
	if err != nil {
		return err
	}
	m, err := fs.Open(fs.PathJoin(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return corruption.ErrorOf(corruption.Damage{File: name, Reason: "the file is missing"})
	}
	if err != nil {
		return err
	}
	defer m.Close()
	r := record.NewReader(m, 0)
	n := -1
	for ; err == nil; n++ {
		var edit io.Reader
		if edit, err = r.Next(); err == nil {
			_, err = io.Copy(io.Discard, edit)
		}
	}
	switch {
	case n == 0:
		return corruption.ErrorOf(corruption.Damage{File: name, Reason: "it cannot be read from its start"})
	case errors.Is(err, io.EOF):
		return nil
	}
	unlisted, err := findUnlisted(fs, dir, f, o)
	if err != nil {
		return fmt.Errorf("%w: %w", corruption.ErrorOf(corruption.Damage{File: name, Reason: fmt.Sprintf("it ends early, at record %d", n)}), err)
	}
	if unlisted != "" {
		return corruption.ErrorOf(corruption.Damage{File: name, Reason: fmt.Sprintf("it ends early, at record %d: %s", n, unlisted)})
	}
	return nil
}

// findUnlisted looks for newer tables than those of the database that hold what it lacks.
func findUnlisted(fs vfs.FS, dir string, f *files, o *pebble.Options) (found string, err error) {
	readOnly := o.Clone()
	readOnly.ReadOnly = true
	p, err := pebble.Open(dir, readOnly)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	listed, err := tablesOf(p)
	if err != nil {
		return "", err
	}
	last := uint64(0)
	for name := range listed {
		last = max(last, fileNumber(name))
	}
	for _, name := range f.tables {
		if fileNumber(name) <= last {
			continue
		}
		t, err := openTable(fs, dir, name, tableRange{})
		if err != nil {
			return "", err
		}
		for e := t.next(); e != nil && found == ""; e = t.next() {
			// What nothing but retention deletes.
			if len(e.key) < 6 || e.kind != pebble.InternalKeyKindSet ||
				e.key[4] != layout.KindSegment && (e.key[4] != layout.KindRow || e.key[5] != layout.LevelFine) {
				continue
			}
			_, closer, err := p.Get(e.key)
			if errors.Is(err, pebble.ErrNotFound) {
				found = fmt.Sprintf("%s is not in it, which has %s", name, corruption.DescribeKey(e.key))
				continue
			}
			if err != nil {
				return "", errors.Join(err, t.close())
			}
			if err := closer.Close(); err != nil {
				return "", errors.Join(err, t.close())
			}
		}
		if err := t.close(); err != nil || found != "" {
			return found, err
		}
	}
	return "", nil
}

// explain adds to an error of pebble.Open which file is at fault, if it is a file.
func explain(fs vfs.FS, dir string, o *pebble.Options, err error) error {
	f, listed := listFiles(fs, dir)
	if listed != nil || f.empty() {
		return err
	}
	if n := len(f.options); n > 0 {
		b, read := readFile(fs, fs.PathJoin(dir, f.options[n-1]))
		if read == nil {
			read = errors.Join(o.Clone().Parse(string(b), nil), o.CheckCompatibility(dir, string(b)))
		}
		if read != nil {
			return corruption.ErrorOf(corruption.Damage{File: f.options[n-1], Reason: corruption.OneLine(read)})
		}
	}
	for i, name := range f.logs {
		log, read := readLog(fs, dir, name)
		if read != nil || !pebble.IsCorruptionError(err) {
			continue
		}
		if len(log.damage) > 0 {
			return corruption.ErrorOf(log.damage[0])
		}
		if log.end >= 0 && i < len(f.logs)-1 {
			return corruption.ErrorOf(corruption.Damage{File: name, Offset: log.end, Bytes: log.bytes - log.end, Reason: "the log has no end, though there is a newer one"})
		}
	}
	// Pebble has compared its list with the tables that are there.
	if lenient := o.Clone(); !o.DisableConsistencyCheck {
		lenient.DisableConsistencyCheck, lenient.ReadOnly = true, true
		if p, opened := pebble.Open(dir, lenient); opened == nil {
			return errors.Join(fmt.Errorf("%s: %w", corruption.OneLine(err), corruption.ErrCorruptStore), p.Close())
		}
	}
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%s: %w", corruption.OneLine(err), corruption.ErrCorruptStore)
	}
	return err
}

func readFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}
