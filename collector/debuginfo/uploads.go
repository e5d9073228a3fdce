package debuginfo

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/flameline/flameline/collector/untrusted"
)

const (
	metaSuffix = ".json"
	maxMeta    = 64 << 10 // bytes of one file with an Upload
	maxUploads = 32 << 10 // files, which are in memory with their names
	maxPending = 1024     // uploads that were begun and not finished
	maxText    = 1024     // bytes of a name or ID that an upload has

	// staleAfter is how long nothing may come of an upload before it may be begun again.
	staleAfter = 10 * time.Minute
)

// Errors of Uploads, for errors.Is.
var (
	ErrNotBegun = errors.New("no upload of this build ID was begun")
	ErrNoFile   = errors.New("the file of this build ID was not uploaded")
	ErrBusy     = errors.New("another upload of this build ID is under way")
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

// UploadOptions configure Uploads.
type UploadOptions struct {
	Dir string // created with the first file
	// MaxBytes bounds the size of all files together, MaxFileBytes that of one.
	MaxBytes, MaxFileBytes int64
	// MinFreeBytes is the free disk space that the store needs; twice as much is kept free.
	MinFreeBytes int64
	Logger       *slog.Logger // nil discards
}

// Uploads are debug files that were uploaded, on disk. They stay until they are deleted.
// It is safe for concurrent use.
type Uploads struct {
	o   UploadOptions
	log *slog.Logger

	mu         sync.Mutex
	files      map[string]*upload
	bytes      int64 // of all files, and of what is being written
	generation uint64
	changed    []func(buildID string)
}

// An upload is a file that is there or being uploaded. Uploads.mu guards it.
type upload struct {
	Upload
	active time.Time // when it was begun, or a call about it ended
	busy   bool      // a call writes its files; others leave it alone
	failed bool      // the last file was refused, or did not come whole
}

func (f *upload) finished() bool { return !f.Finished.IsZero() }

// OpenUploads opens a directory. What of it cannot be used is logged.
func OpenUploads(o UploadOptions) (*Uploads, error) {
	u := &Uploads{o: o, log: o.Logger, files: map[string]*upload{}}
	u.o.MaxFileBytes = min(o.MaxFileBytes, o.MaxBytes)
	if u.log == nil {
		u.log = slog.New(slog.DiscardHandler)
	}
	entries, err := os.ReadDir(o.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return u, nil
	}
	if err != nil {
		return nil, err
	}
	if err := makeDir(o.Dir); err != nil {
		return nil, err
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), metaSuffix)
		if !ok {
			continue
		}
		f, err := u.readUpload(id)
		if err != nil {
			u.log.Warn("an uploaded debug file is ignored; upload it again", "file", filepath.Join(o.Dir, e.Name()), "err", err)
			continue
		}
		u.files[id] = &upload{Upload: *f}
		u.bytes += f.Size
	}
	u.generation = uint64(len(u.files))
	for _, e := range entries { // of uploads that were not finished
		if id, ok := strings.CutSuffix(e.Name(), debugSuffix); ok && u.files[id] == nil {
			_ = os.Remove(filepath.Join(o.Dir, e.Name()))
		}
	}
	return u, nil
}

// readUpload reads what is known of a finished file, and looks whether the file is there.
func (u *Uploads) readUpload(id string) (*Upload, error) {
	if checked, err := CheckBuildID(id); err != nil || checked != id {
		return nil, errors.Join(fmt.Errorf("%.200q is not a build ID in lower case", id), err)
	}
	f, err := readMeta(u.path(id) + metaSuffix)
	if err != nil {
		return nil, err
	}
	if f.BuildID != id || f.Finished.IsZero() {
		return nil, fmt.Errorf("it is about the build ID %.200q, finished at %s", f.BuildID, f.Finished)
	}
	info, err := os.Stat(u.path(id) + debugSuffix)
	if err != nil {
		return nil, err
	}
	if info.Size() != f.Size {
		return nil, fmt.Errorf("the file has %d bytes, not %d", info.Size(), f.Size)
	}
	return f, nil
}

func readMeta(name string) (*Upload, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := &Upload{}
	if err := json.NewDecoder(io.LimitReader(f, maxMeta)).Decode(out); err != nil {
		return nil, err
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
		switch {
		case len(text) > maxText:
			return 0, fmt.Errorf("name or ID of a file: %d bytes are more than %d", len(text), maxText)
		case !utf8.ValidString(text):
			return 0, fmt.Errorf("name or ID of a file: %q is not UTF-8", text)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if known := u.files[id]; known != nil {
		switch {
		case known.finished():
			return Present, nil
		case known.busy, !known.failed && now.Sub(known.active) < staleAfter:
			return Pending, nil
		}
		u.forget(id)
	}
	pending := 0
	for k, p := range u.files {
		switch {
		case p.finished():
		case !p.busy && now.Sub(p.active) >= staleAfter:
			u.forget(k)
		default:
			pending++
		}
	}
	switch {
	case pending >= maxPending:
		return 0, fmt.Errorf("%d uploads have begun and not ended: %w", pending, ErrFull)
	case len(u.files) >= maxUploads:
		return 0, fmt.Errorf("there are %d files: %w; delete some", len(u.files), ErrFull)
	}
	f.BuildID, f.Started, f.Finished, f.Size = id, now, time.Time{}, 0
	u.files[id] = &upload{Upload: f, active: now}
	return Begun, nil
}

// forget removes a file that is not busy. The caller holds mu.
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

func (u *Uploads) path(id string) string { return filepath.Join(u.o.Dir, id) }

// claim returns an upload that was begun, and keeps other calls from it until done.
func (u *Uploads) claim(buildID string) (*upload, error) {
	id, err := CheckBuildID(buildID)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	f := u.files[id]
	switch {
	case f == nil || f.finished():
		return nil, ErrNotBegun
	case f.busy:
		return nil, ErrBusy
	}
	f.busy = true
	return f, nil
}

// done ends a claim.
func (u *Uploads) done(f *upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f.busy, f.active = false, time.Now()
}

// Write reads the file of an upload that was begun. Its size in bytes is what the sender
// announced, or negative. A file that is not an ELF file with the build ID is refused.
func (u *Uploads) Write(buildID string, from io.Reader, size int64) (err error) {
	f, err := u.claim(buildID)
	if err != nil {
		return err
	}
	defer u.done(f)
	name := u.path(f.BuildID) + debugSuffix
	_ = os.Remove(name) // of an earlier call
	u.mu.Lock()
	u.bytes -= f.Size
	f.Size, f.failed = 0, true
	full := size > u.o.MaxBytes-u.bytes
	u.mu.Unlock()
	switch {
	case size > u.o.MaxFileBytes:
		return tooLarge(u.o.MaxFileBytes)
	case full:
		return u.full()
	}
	if err := os.MkdirAll(u.o.Dir, 0o700); err != nil {
		return err
	}
	r := &reserving{Reader: &guarded{Reader: from, space: space{u.o.Dir, u.o.MinFreeBytes}}, uploads: u}
	tmp, size, err := receive(u.o.Dir, f.BuildID, r, u.o.MaxFileBytes)
	if err == nil {
		if err = os.Rename(tmp, name); err != nil {
			_ = os.Remove(tmp)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bytes -= r.taken
	if err == nil {
		u.bytes += size
		f.Size, f.failed = size, false
	}
	return err
}

func (u *Uploads) full() error {
	return fmt.Errorf("%w: %w of %d bytes", ErrFull, untrusted.ErrTooLarge, u.o.MaxBytes)
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
	if u.bytes += int64(n); u.bytes > u.o.MaxBytes {
		return 0, u.full()
	}
	return n, err
}

// Finish ends an upload whose file was written. The file is on disk afterwards.
func (u *Uploads) Finish(buildID string) error {
	f, err := u.claim(buildID)
	if err != nil {
		return err
	}
	defer u.done(f)
	if f.Size == 0 {
		return ErrNoFile
	}
	done := f.Upload
	done.Finished = time.Now()
	if err := u.writeMeta(&done); err != nil {
		return err
	}
	u.mu.Lock()
	f.Upload = done
	u.generation++
	changed := u.changed
	u.mu.Unlock()
	for _, fn := range changed {
		fn(f.BuildID)
	}
	return nil
}

func (u *Uploads) writeMeta(f *Upload) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	name := u.path(f.BuildID) + metaSuffix
	tmp, err := os.CreateTemp(u.o.Dir, "*"+partSuffix)
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err == nil {
		err = syncDir(u.o.Dir)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		_ = os.Remove(name)
	}
	return err
}

// Delete removes a file, if it is there.
func (u *Uploads) Delete(buildID string) error {
	id, err := CheckBuildID(buildID)
	if err != nil {
		return err
	}
	u.mu.Lock()
	f := u.files[id]
	if f == nil || f.busy {
		u.mu.Unlock()
		if f != nil {
			return ErrBusy
		}
		return nil
	}
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
		out = append(out, f.Upload)
	}
	slices.SortFunc(out, func(a, b Upload) int { return cmp.Compare(a.BuildID, b.BuildID) })
	return out
}

// Has reports whether the file of a build ID is there.
func (u *Uploads) Has(buildID string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	f := u.files[strings.ToLower(buildID)]
	return f != nil && f.finished()
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
