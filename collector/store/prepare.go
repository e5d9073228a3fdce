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
)

// ErrManifest is wrapped by errors about a list of tables that cannot be relied
// on. Its text says what to do.
var ErrManifest = errors.New("the list of tables is damaged: restore a backup, or make a new store of what can be read by `flameline store repair DIR NEWDIR`")

// Names of Pebble's files.
const (
	manifestPrefix = "MANIFEST-"
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
		case strings.HasPrefix(name, manifestPrefix):
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

// prepare looks at what Pebble would stumble over, or worse, would take for an
// empty directory, and puts right what can be. It returns the damage. The
// directory is locked.
func prepare(fs vfs.FS, dir string, o *pebble.Options) (all []Damage, err error) {
	f, err := listFiles(fs, dir)
	if err != nil {
		return nil, err
	}
	if len(f.tables)+len(f.logs)+len(f.manifests) == 0 {
		return nil, nil // a new store
	}
	d, err := prepareMarkers(fs, dir, &f)
	if err != nil {
		return nil, err
	}
	all = append(all, d...)
	if d, err = prepareOptions(fs, dir, &f, o); err != nil {
		return nil, err
	}
	all = append(all, d...)
	d, epochs, err := mendLogs(fs, dir, f.logs)
	if err != nil {
		return nil, err
	}
	all = append(all, d...)
	if len(d) > 0 {
		if err := planMend(fs, dir, epochs); err != nil {
			return nil, err
		}
	}
	return all, checkManifest(fs, dir, o)
}

// prepareMarkers puts back markers that are missing: empty files whose names say
// which manifest and which format hold.
func prepareMarkers(fs vfs.FS, dir string, f *files) (all []Damage, err error) {
	put := func(name, value string) error {
		m, _, err := atomicfs.LocateMarker(fs, dir, name)
		if err != nil {
			return err
		}
		all = append(all, Damage{File: "marker." + name, Reason: "the file is missing; it is made anew for " + value})
		return errors.Join(m.Move(value), m.Close())
	}
	if !f.hasMarker(manifestMarker) {
		if len(f.manifests) == 0 {
			return nil, fmt.Errorf("%s: MANIFEST and its marker are missing: %w", dir, ErrManifest)
		}
		if err := put(manifestMarker, f.manifests[len(f.manifests)-1]); err != nil {
			return nil, err
		}
	}
	// Without tables it may be a store whose making was interrupted.
	if !f.hasMarker(formatMarker) && len(f.tables) > 0 {
		if err := put(formatMarker, pebble.FormatNewest.String()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// prepareOptions sets aside options that Pebble cannot read. It needs none: they
// only tell how the store was written last.
func prepareOptions(fs vfs.FS, dir string, f *files, o *pebble.Options) ([]Damage, error) {
	if len(f.options) == 0 {
		return nil, nil
	}
	name := f.options[len(f.options)-1]
	b, err := readFile(fs, fs.PathJoin(dir, name))
	if err != nil {
		return nil, err
	}
	if err = o.Clone().Parse(string(b), nil); err == nil {
		err = o.CheckCompatibility(dir, string(b))
	}
	if err == nil {
		return nil, nil
	}
	kept, aside := setAside(fs, dir, name)
	if aside = errors.Join(aside, fs.Remove(fs.PathJoin(dir, name))); aside != nil {
		return nil, aside
	}
	return []Damage{{File: name, Reason: "options cannot be read; nothing is lost: " + oneLine(err), Kept: kept}}, nil
}

// checkManifest refuses a manifest that ends before its end, unless what is
// missing is in the logs still. Pebble takes it for what a crash leaves, and
// deletes the tables that it does not name.
func checkManifest(fs vfs.FS, dir string, o *pebble.Options) error {
	name, err := atomicfs.ReadMarker(fs, dir, manifestMarker)
	if err != nil {
		return err
	}
	f, err := fs.Open(fs.PathJoin(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is missing: %w", name, ErrManifest)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	r := record.NewReader(f, 0)
	n := 0
	for ; err == nil; n++ {
		var edit io.Reader
		if edit, err = r.Next(); err == nil {
			_, err = io.Copy(io.Discard, edit)
		}
	}
	if errors.Is(err, io.EOF) && n > 1 {
		return nil
	}
	if n <= 1 {
		return fmt.Errorf("%s cannot be read from its start: %w", name, ErrManifest)
	}
	if lost := lostTables(fs, dir, o); lost != nil {
		return fmt.Errorf("%s ends early, at record %d: %w: %w", name, n, lost, ErrManifest)
	}
	return nil
}

// lostTables looks for tables that the manifest names and that are not there,
// and for newer ones that it does not name and that hold what the store lacks.
func lostTables(fs vfs.FS, dir string, o *pebble.Options) (err error) {
	readOnly := o.Clone()
	readOnly.ReadOnly = true
	p, err := pebble.Open(dir, readOnly)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	named, err := tablesOf(p)
	if err != nil {
		return err
	}
	last, known := uint64(0), map[string]bool{}
	for _, t := range named {
		last, known[t.name] = max(last, fileNumber(t.name)), true
		if _, err := fs.Stat(fs.PathJoin(dir, t.name)); err != nil {
			return err
		}
	}
	f, err := listFiles(fs, dir)
	if err != nil {
		return err
	}
	for _, name := range f.tables {
		if known[name] || fileNumber(name) < last {
			continue
		}
		s, err := openTable(fs, dir, name)
		if err != nil {
			return err
		}
		for e := s.next(); e != nil && err == nil; e = s.next() {
			if e.kind != pebble.InternalKeyKindSet {
				continue
			}
			var closer io.Closer
			if _, closer, err = p.Get(e.key); err == nil {
				err = closer.Close()
			} else if errors.Is(err, pebble.ErrNotFound) {
				err = fmt.Errorf("%s holds %s", name, describeKey(e.key))
			}
		}
		if err = errors.Join(err, s.close()); err != nil {
			return err
		}
	}
	return nil
}
