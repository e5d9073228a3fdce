package debuginfo

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/untrusted"
)

func openUploads(t *testing.T, dir string, maxBytes, maxFile int64) *Uploads {
	t.Helper()
	u, err := OpenUploads(UploadOptions{Dir: dir, MaxBytes: maxBytes, MaxFileBytes: maxFile})
	require.NoError(t, err)
	return u
}

func (u *Uploads) put(t *testing.T, id string, data []byte) error {
	t.Helper()
	state, err := u.Begin(Upload{BuildID: id, Name: "x", Type: 1})
	require.NoError(t, err)
	require.Equal(t, Begun, state)
	if err := u.Write(id, bytes.NewReader(data), int64(len(data))); err != nil {
		return err
	}
	return u.Finish(id)
}

func TestUploads(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "uploads")
	u := openUploads(t, dir, 1<<30, 1<<30)
	require.NoDirExists(t, dir, "there is none before the first file")
	require.Zero(t, u.Generation())
	var changed []string
	u.OnChange(func(id string) { changed = append(changed, id) })
	a, b := program(t, idA), program(t, idB)
	require.NoError(t, u.put(t, idA, a))
	require.True(t, u.Has(idA))
	require.Equal(t, []string{idA}, changed)

	// What is there is not taken again; what is not finished does not count.
	state, err := u.Begin(Upload{BuildID: idA})
	require.NoError(t, err)
	require.Equal(t, Present, state)
	require.ErrorIs(t, u.Write(idA, bytes.NewReader(a), -1), ErrNotBegun)
	require.ErrorIs(t, u.Finish(idA), ErrNotBegun)
	_, err = u.Begin(Upload{BuildID: idB})
	require.NoError(t, err)
	state, err = u.Begin(Upload{BuildID: idB})
	require.NoError(t, err)
	require.Equal(t, Pending, state)
	require.ErrorIs(t, u.Finish(idB), ErrNoFile)
	require.NoError(t, u.Write(idB, bytes.NewReader(b), -1))
	require.False(t, u.Has(idB))
	_, err = u.Open(idB)
	require.ErrorIs(t, err, os.ErrNotExist)

	// The next one has what was finished.
	next := openUploads(t, dir, 1<<30, 1<<30)
	require.NotZero(t, next.Generation())
	list := next.List()
	require.Len(t, list, 1)
	require.Equal(t, idA, list[0].BuildID)
	require.EqualValues(t, len(a), list[0].Size)
	f, err := next.Open(idA)
	require.NoError(t, err)
	got, err := io.ReadAll(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, a, got)
	require.NoFileExists(t, filepath.Join(dir, idB+debugSuffix))
	before := next.Generation()
	require.NoError(t, next.Delete(idA))
	require.Greater(t, next.Generation(), before)
	require.Zero(t, next.bytes)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)

}

// TestDamagedUploadsAreIgnored opens directories in which a file was lost or cut.
func TestDamagedUploadsAreIgnored(t *testing.T) {
	a, b := program(t, idA), program(t, idB)
	for name, damage := range map[string]func(dir string) error{
		"another build ID": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, idA+metaSuffix), []byte(`{"build_id":"`+idB+`"}`), 0o600)
		},
		"empty":   func(dir string) error { return os.Truncate(filepath.Join(dir, idA+metaSuffix), 0) },
		"cut":     func(dir string) error { return os.Truncate(filepath.Join(dir, idA+debugSuffix), 10) },
		"no file": func(dir string) error { return os.Remove(filepath.Join(dir, idA+debugSuffix)) },
		"no name": func(dir string) error {
			return os.Rename(filepath.Join(dir, idA+metaSuffix), filepath.Join(dir, "x"+metaSuffix))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			u := openUploads(t, dir, 1<<30, 1<<30)
			require.NoError(t, u.put(t, idA, a))
			require.NoError(t, u.put(t, idB, b))
			require.NoError(t, damage(dir))
			var log bytes.Buffer
			u, err := OpenUploads(UploadOptions{Dir: dir, MaxBytes: 1 << 30, MaxFileBytes: 1 << 30, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			require.NoError(t, err)
			require.Contains(t, log.String(), metaSuffix)
			require.False(t, u.Has(idA))
			require.True(t, u.Has(idB))
			require.EqualValues(t, len(b), u.bytes)
			require.NoError(t, u.put(t, idA, a))
			require.True(t, openUploads(t, dir, 1<<30, 1<<30).Has(idA))
		})
	}
}

// TestLongestTextsAreKept has names whose JSON is longest.
func TestLongestTextsAreKept(t *testing.T) {
	dir, text := t.TempDir(), strings.Repeat("\x01", maxText)
	u := openUploads(t, dir, 1<<30, 1<<30)
	_, err := u.Begin(Upload{BuildID: idA, Name: text, GoBuildID: text, FileID: text})
	require.NoError(t, err)
	require.NoError(t, u.Write(idA, bytes.NewReader(program(t, idA)), -1))
	require.NoError(t, u.Finish(idA))
	list := openUploads(t, dir, 1<<30, 1<<30).List()
	require.Len(t, list, 1)
	require.Equal(t, text, list[0].Name)
	_, err = u.Begin(Upload{BuildID: idB, Name: text + "x"})
	require.ErrorContains(t, err, "1025 bytes are more than 1024")
	_, err = u.Begin(Upload{BuildID: idB, Name: "x\xff"})
	require.ErrorContains(t, err, "is not UTF-8")
}

// TestOneWriteAtATime has calls about a file that another call is writing.
func TestOneWriteAtATime(t *testing.T) {
	dir := t.TempDir()
	u := openUploads(t, dir, 1<<30, 1<<30)
	data := program(t, idA)
	_, err := u.Begin(Upload{BuildID: idA})
	require.NoError(t, err)
	from, to := io.Pipe()
	written := make(chan error)
	go func() { written <- u.Write(idA, from, -1) }()
	_, err = to.Write(data[:100])
	require.NoError(t, err)
	u.mu.Lock()
	u.files[idA].active = time.Now().Add(-2 * staleAfter)
	u.mu.Unlock()
	require.ErrorIs(t, u.Write(idA, bytes.NewReader(data), -1), ErrBusy)
	require.ErrorIs(t, u.Finish(idA), ErrBusy)
	require.ErrorIs(t, u.Delete(idA), ErrBusy)
	state, err := u.Begin(Upload{BuildID: idA})
	require.NoError(t, err)
	require.Equal(t, Pending, state, "it is slow, but it goes on")
	_, err = to.Write(data[100:])
	require.NoError(t, err)
	require.NoError(t, to.Close())
	require.NoError(t, <-written)
	require.NoError(t, u.Write(idA, bytes.NewReader(data), -1), "once more")
	require.EqualValues(t, len(data), u.bytes)
	require.NoError(t, u.Finish(idA))
	generation := u.Generation()
	require.NoError(t, u.Delete(idB), "not there")
	require.Equal(t, generation, u.Generation())

	// Of a file that did not come whole nothing is left, and it may be begun again at once.
	_, err = u.Begin(Upload{BuildID: idB})
	require.NoError(t, err)
	require.NoError(t, u.Write(idB, bytes.NewReader(program(t, idB)), -1))
	require.ErrorIs(t, u.Write(idB, broken{}, -1), errBroken)
	require.NoFileExists(t, filepath.Join(dir, idB+debugSuffix))
	require.EqualValues(t, len(data), u.bytes)
	state, err = u.Begin(Upload{BuildID: idB})
	require.NoError(t, err)
	require.Equal(t, Begun, state)
}

// TestUploadsAreBounded has files beyond the bounds, and senders that stop half-way; what
// they took is given back.
func TestUploadsAreBounded(t *testing.T) {
	a, b := program(t, idA), program(t, idB)
	u := openUploads(t, t.TempDir(), int64(len(a)+len(b)/2), int64(len(a)+100))
	require.NoError(t, u.put(t, idA, a))
	err := u.put(t, idB, b)
	require.ErrorIs(t, err, ErrFull)
	require.ErrorIs(t, u.Write(idB, bytes.NewReader(b), -1), ErrFull, "without a size")
	require.ErrorIs(t, u.Write(idB, broken{}, 1<<40), untrusted.ErrTooLarge, "nothing is read")
	require.ErrorIs(t, u.Write(idB, io.MultiReader(bytes.NewReader(b[:10]), broken{}), -1), errBroken)
	require.Equal(t, untrusted.Reason(untrusted.ErrMalformed), untrusted.Reason(u.Write(idB, bytes.NewReader(b[:100]), -1)))
	require.EqualValues(t, len(a), u.bytes)
	require.NoError(t, u.Delete(idA))
	require.NoError(t, u.Write(idB, bytes.NewReader(b), -1))
	require.NoError(t, u.Finish(idB))
	require.EqualValues(t, len(b), u.bytes)

	// An upload that has taken too long may be begun again.
	_, err = u.Begin(Upload{BuildID: idC})
	require.NoError(t, err)
	u.files[idC].active = time.Now().Add(-2 * staleAfter)
	state, err := u.Begin(Upload{BuildID: idC})
	require.NoError(t, err)
	require.Equal(t, Begun, state)
	require.ErrorContains(t, openUploads(t, t.TempDir(), 1<<30, 50).put(t, idA, a), "more than 50 bytes")
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }
