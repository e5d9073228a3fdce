// Package pebblefiles reads the files of a Pebble database without opening it.
package pebblefiles

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

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
	OptionsPrefix  = "OPTIONS-"
	tableSuffix    = ".sst"
	manifestMarker = "manifest"
	formatMarker   = "format-version"
)

// Directory are the names in a store's directory, by kind.
type Directory struct {
	All, Tables, Logs, Manifests, Options []string
}

// List lists the files of a directory by what they are.
func List(fs vfs.FS, dir string) (f Directory, err error) {
	f.All, err = fs.List(dir)
	slices.Sort(f.All)
	for _, name := range f.All {
		switch {
		case strings.HasSuffix(name, tableSuffix):
			f.Tables = append(f.Tables, name)
		case strings.HasSuffix(name, ".log"):
			f.Logs = append(f.Logs, name)
		case strings.HasPrefix(name, guardfs.ManifestPrefix):
			f.Manifests = append(f.Manifests, name)
		case strings.HasPrefix(name, OptionsPrefix):
			f.Options = append(f.Options, name)
		}
	}
	for _, list := range [][]string{f.Tables, f.Logs, f.Manifests, f.Options} {
		slices.SortFunc(list, func(a, b string) int { return cmp.Or(cmp.Compare(FileNumber(a), FileNumber(b)), cmp.Compare(a, b)) })
	}
	return f, err
}

// Empty reports whether there are no files of a store.
func (f *Directory) Empty() bool { return len(f.Tables)+len(f.Logs)+len(f.Manifests) == 0 }

// Used lists tables and logs: all of them, or without the tables that are not listed, if
// the list of tables is known. Those were compacted.
func (f *Directory) Used(listed map[string]KeyRange) []string {
	return slices.DeleteFunc(slices.Concat(f.Tables, f.Logs), func(name string) bool {
		_, ok := listed[name]
		return listed != nil && !ok && strings.HasSuffix(name, tableSuffix)
	})
}

// FileNumber is the number in the name of one of Pebble's files, 0 if there is none.
// Names have six digits, or more if the number has: as texts they are out of order.
func FileNumber(name string) (n uint64) {
	if _, err := fmt.Sscanf(name[strings.LastIndexByte(name, '-')+1:], "%d", &n); err != nil {
		return 0
	}
	return n
}

func (f *Directory) hasMarker(name string) bool {
	return slices.ContainsFunc(f.All, func(s string) bool { return strings.HasPrefix(s, "marker."+name+".") })
}

// Check refuses a directory whose options are corrupt, or in which Pebble would take damage
// for the end of the list of tables, or for an empty database. It returns the records of logs that Pebble may
// leave out without a word. The directory is locked.
func Check(fs vfs.FS, dir string, o *pebble.Options) (logs []corruption.Damage, err error) {
	f, err := List(fs, dir)
	if err != nil || f.Empty() {
		return nil, err
	}
	records := 0
	for _, name := range f.Logs {
		log, err := readLog(fs, dir, name)
		if err != nil {
			return nil, err
		}
		logs = append(logs, log.damage...)
		records += len(log.records)
	}
	if len(f.Tables)+records == 0 && !f.hasMarker(manifestMarker) {
		return nil, nil // its making was interrupted
	}
	for _, marker := range []string{manifestMarker, formatMarker} {
		if !f.hasMarker(marker) && (marker == manifestMarker || len(f.Tables) > 0) {
			return nil, corruption.ErrorOf(corruption.Damage{File: "marker." + marker, Reason: "the file is missing"})
		}
	}
	if n := len(f.Options); n > 0 {
		b, err := ReadFile(fs, fs.PathJoin(dir, f.Options[n-1]))
		if err == nil {
			err = o.CheckCompatibility(dir, string(b))
		}
		if err != nil {
			return nil, corruption.ErrorOf(corruption.Damage{File: f.Options[n-1], Reason: corruption.OneLine(err)})
		}
	}
	return logs, checkManifest(fs, dir, &f, o)
}

// checkManifest refuses a list of tables that ends before its end, unless what is missing
// is in the logs still: Pebble takes it for what a crash leaves, and deletes the tables
// that it does not name.
func checkManifest(fs vfs.FS, dir string, f *Directory, o *pebble.Options) error {
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
func findUnlisted(fs vfs.FS, dir string, f *Directory, o *pebble.Options) (found string, err error) {
	readOnly := o.Clone()
	readOnly.ReadOnly = true
	p, err := pebble.Open(dir, readOnly)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	listed, err := ListedTables(p)
	if err != nil {
		return "", err
	}
	last := uint64(0)
	for name := range listed {
		last = max(last, FileNumber(name))
	}
	for _, name := range f.Tables {
		if FileNumber(name) <= last {
			continue
		}
		t, err := openTable(fs, dir, name, KeyRange{})
		if err != nil {
			return "", err
		}
		for e := t.Next(); e != nil && found == ""; e = t.Next() {
			// What nothing but retention deletes.
			if len(e.Key) < 6 || e.kind != pebble.InternalKeyKindSet ||
				e.Key[4] != layout.KindSegment && (e.Key[4] != layout.KindRow || e.Key[5] != layout.LevelFine) {
				continue
			}
			_, closer, err := p.Get(e.Key)
			if errors.Is(err, pebble.ErrNotFound) {
				found = fmt.Sprintf("%s is not in it, which has %s", name, corruption.DescribeKey(e.Key))
				continue
			}
			if err == nil {
				err = closer.Close()
			}
			if err != nil {
				return "", errors.Join(err, t.Close())
			}
		}
		if err := t.Close(); err != nil || found != "" {
			return found, err
		}
	}
	return "", nil
}

// Explain adds to an error of pebble.Open what to do, unless it is the system's.
func Explain(err error) error {
	if errors.As(err, new(syscall.Errno)) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%s: %w", corruption.OneLine(err), corruption.ErrCorruptStore)
}

// ReadFile reads a whole file.
func ReadFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}
