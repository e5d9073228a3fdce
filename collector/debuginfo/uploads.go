package debuginfo

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flameline/flameline/collector/untrusted"
)

const (
	metaSuffix = ".json"
	maxMeta    = 64 << 10 // bytes of one file with an Upload
	maxPending = 1024     // uploads that were begun and not finished
	maxText    = 4096     // bytes of a name or ID that an upload has

	// staleAfter is how long an upload may take before it may be begun again.
	staleAfter = 10 * time.Minute
)

// Errors of Uploads, for errors.Is.
var (
	ErrNotBegun = errors.New("no upload of this build ID was begun")
	ErrNoFile   = errors.New("the file of this build ID was not uploaded")
	ErrFull     = errors.New("there is no room for further debug files")
)

// An Upload is an uploaded file, or one that is to come.
type Upload struct {
	BuildID   string `json:"build_id"` // GNU, in hexadecimal
	GoBuildID string `json:"go_build_id,omitempty"`
	FileID    string `json:"file_id,omitempty"` // of OpenTelemetry's profiler
	Name      string `json:"name,omitempty"`    // base name of the binary
	Type      int32  `json:"type"`              // of the sender's API, only kept

	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"` // zero: not yet
	Size     int64     `json:"size"`     // in bytes
}

// A State says what Begin found.
type State int

// States of a build ID.
const (
	Begun   State = iota // the file may be uploaded
	Pending              // another upload of it has begun
	Present              // the file is there
)

// Uploads are debug files that were uploaded, on disk. They stay until they are deleted.
// It is safe for concurrent use.
type Uploads struct {
	dir               string
	maxBytes, maxFile int64

	mu         sync.Mutex
	files      map[string]*Upload
	bytes      int64 // of all files, and of what is being written
	generation uint64
	changed    []func(buildID string)
}

// OpenUploads opens a directory, which is created with the first file. All files may have
// maxBytes together, and one maxFile.
func OpenUploads(dir string, maxBytes, maxFile int64) (*Uploads, error) {
	u := &Uploads{dir: dir, maxBytes: maxBytes, maxFile: min(maxFile, maxBytes), files: map[string]*Upload{}}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return u, nil
	}
	if err != nil {
		return nil, err
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), metaSuffix)
		if !ok {
			continue
		}
		f, err := readMeta(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("uploaded debug files: %w", err)
		}
		if f.BuildID != id {
			return nil, fmt.Errorf("uploaded debug files: %s: is about the build ID %.200q", e.Name(), f.BuildID)
		}
		u.files[id] = f
		u.bytes += f.Size
	}
	u.generation = uint64(len(u.files))
	for _, e := range entries { // of uploads that were not finished
		if id, ok := strings.CutSuffix(e.Name(), debugSuffix); ok && u.files[id] == nil {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	return u, nil
}

func readMeta(name string) (*Upload, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := &Upload{}
	if err := json.NewDecoder(io.LimitReader(f, maxMeta)).Decode(out); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out, nil
}

// OnChange has fn called with the build ID of each file that was uploaded or deleted.
func (u *Uploads) OnChange(fn func(buildID string)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.changed = append(u.changed, fn)
}

// Generation grows with each file that is uploaded or deleted. It is 0 only while there
// never was any.
func (u *Uploads) Generation() uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.generation
}

// Begin begins an upload, if the file is neither there nor being uploaded.
func (u *Uploads) Begin(f Upload) (State, error) {
	id, err := CheckBuildID(f.BuildID)
	if err != nil {
		return 0, err
	}
	for _, text := range []string{f.Name, f.GoBuildID, f.FileID} {
		if len(text) > maxText {
			return 0, fmt.Errorf("name or ID of a file: %d bytes are more than %d", len(text), maxText)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if known := u.files[id]; known != nil {
		if !known.Finished.IsZero() {
			return Present, nil
		}
		if now.Sub(known.Started) < staleAfter {
			return Pending, nil
		}
	}
	pending := 0
	for k, p := range u.files {
		if p.Finished.IsZero() {
			if pending++; now.Sub(p.Started) >= staleAfter {
				u.forget(k)
			}
		}
	}
	if pending >= maxPending {
		return 0, fmt.Errorf("%d uploads have begun and not ended: %w", pending, ErrFull)
	}
	f.BuildID, f.Started, f.Finished, f.Size = id, now, time.Time{}, 0
	u.files[id] = &f
	return Begun, nil
}

// forget removes a file. The caller holds mu.
func (u *Uploads) forget(id string) {
	f := u.files[id]
	if f == nil {
		return
	}
	u.bytes -= f.Size
	delete(u.files, id)
	_ = os.Remove(u.path(id) + metaSuffix)
	_ = os.Remove(u.path(id) + debugSuffix)
}

func (u *Uploads) path(id string) string { return filepath.Join(u.dir, id) }

// Write reads the file of an upload that was begun. A file that is not an ELF file with
// the build ID is refused.
func (u *Uploads) Write(buildID string, from io.Reader) error {
	id, err := CheckBuildID(buildID)
	if err != nil {
		return err
	}
	u.mu.Lock()
	f := u.files[id]
	if f == nil || !f.Finished.IsZero() {
		u.mu.Unlock()
		return ErrNotBegun
	}
	u.bytes -= f.Size
	f.Size = 0
	u.mu.Unlock()
	if err := os.MkdirAll(u.dir, 0o700); err != nil {
		return err
	}
	r := &reserving{Reader: from, uploads: u}
	size, err := write(u.path(id)+debugSuffix, id, r, u.maxFile)
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil || u.files[id] != f || !f.Finished.IsZero() {
		u.bytes -= r.taken
		if err == nil {
			err = ErrNotBegun
		}
		return err
	}
	u.bytes += size - r.taken
	f.Size = size
	return nil
}

// reserving reads what is written, and takes room for it.
type reserving struct {
	io.Reader
	uploads *Uploads
	taken   int64
}

func (r *reserving) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	u := r.uploads
	u.mu.Lock()
	defer u.mu.Unlock()
	r.taken += int64(n)
	if u.bytes += int64(n); u.bytes > u.maxBytes {
		return 0, fmt.Errorf("%w: %w of %d bytes", ErrFull, untrusted.ErrTooLarge, u.maxBytes)
	}
	return n, err
}

// Finish ends an upload whose file was written.
func (u *Uploads) Finish(buildID string) error {
	id, err := CheckBuildID(buildID)
	if err != nil {
		return err
	}
	u.mu.Lock()
	f := u.files[id]
	switch {
	case f == nil || !f.Finished.IsZero():
		u.mu.Unlock()
		return ErrNotBegun
	case f.Size == 0:
		u.mu.Unlock()
		return ErrNoFile
	}
	done := *f
	done.Finished = time.Now()
	err = writeMeta(u.path(id)+metaSuffix, &done)
	if err == nil {
		*f = done
		u.generation++
	}
	changed := u.changed
	u.mu.Unlock()
	if err != nil {
		return err
	}
	for _, fn := range changed {
		fn(id)
	}
	return nil
}

func writeMeta(name string, f *Upload) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+partSuffix, data, 0o600); err != nil {
		return err
	}
	return os.Rename(name+partSuffix, name)
}

// Delete removes a file, if it is there.
func (u *Uploads) Delete(buildID string) error {
	id, err := CheckBuildID(buildID)
	if err != nil {
		return err
	}
	u.mu.Lock()
	u.forget(id)
	u.generation++
	changed := u.changed
	u.mu.Unlock()
	for _, fn := range changed {
		fn(id)
	}
	return nil
}

// List returns all files, those that are being uploaded included, by build ID.
func (u *Uploads) List() []Upload {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := make([]Upload, 0, len(u.files))
	for _, f := range u.files {
		out = append(out, *f)
	}
	slices.SortFunc(out, func(a, b Upload) int { return cmp.Compare(a.BuildID, b.BuildID) })
	return out
}

// Has reports whether the file of a build ID is there.
func (u *Uploads) Has(buildID string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	f := u.files[strings.ToLower(buildID)]
	return f != nil && !f.Finished.IsZero()
}

// Open opens the file of a build ID, which the caller closes. An error wraps
// os.ErrNotExist if it is not there.
func (u *Uploads) Open(buildID string) (*os.File, error) {
	id, err := CheckBuildID(buildID)
	if err != nil {
		return nil, err
	}
	if !u.Has(id) {
		return nil, fmt.Errorf("debug file of build ID %s: %w", id, os.ErrNotExist)
	}
	return os.Open(u.path(id) + debugSuffix)
}
