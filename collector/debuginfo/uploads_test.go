package debuginfo

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/untrusted"
)

func openUploads(t *testing.T, dir string, maxBytes, maxFile int64) *Uploads {
	t.Helper()
	u, err := OpenUploads(dir, maxBytes, maxFile)
	require.NoError(t, err)
	return u
}

func (u *Uploads) put(t *testing.T, id string, data []byte) error {
	t.Helper()
	state, err := u.Begin(Upload{BuildID: id, Name: "x", Type: 1})
	require.NoError(t, err)
	require.Equal(t, Begun, state)
	if err := u.Write(id, bytes.NewReader(data)); err != nil {
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
	require.ErrorIs(t, u.Write(idA, bytes.NewReader(a)), ErrNotBegun)
	require.ErrorIs(t, u.Finish(idA), ErrNotBegun)
	_, err = u.Begin(Upload{BuildID: idB})
	require.NoError(t, err)
	state, err = u.Begin(Upload{BuildID: idB})
	require.NoError(t, err)
	require.Equal(t, Pending, state)
	require.ErrorIs(t, u.Finish(idB), ErrNoFile)
	require.NoError(t, u.Write(idB, bytes.NewReader(b)))
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

	require.NoError(t, os.WriteFile(filepath.Join(dir, idA+metaSuffix), []byte(`{"build_id":"`+idB+`"}`), 0o600))
	_, err = OpenUploads(dir, 1, 1)
	require.ErrorContains(t, err, idA)
}

// TestUploadsAreBounded has files beyond the bounds, and senders that stop half-way; what
// they took is given back.
func TestUploadsAreBounded(t *testing.T) {
	a, b := program(t, idA), program(t, idB)
	u := openUploads(t, t.TempDir(), int64(len(a)+len(b)/2), int64(len(a)+100))
	require.NoError(t, u.put(t, idA, a))
	err := u.put(t, idB, b)
	require.ErrorIs(t, err, ErrFull)
	require.ErrorIs(t, u.Write(idB, io.MultiReader(bytes.NewReader(b[:10]), broken{})), errBroken)
	require.Equal(t, untrusted.Reason(untrusted.ErrMalformed), untrusted.Reason(u.Write(idB, bytes.NewReader(b[:100]))))
	require.EqualValues(t, len(a), u.bytes)
	require.NoError(t, u.Delete(idA))
	require.NoError(t, u.Write(idB, bytes.NewReader(b)))
	require.NoError(t, u.Finish(idB))
	require.EqualValues(t, len(b), u.bytes)

	// An upload that has taken too long may be begun again.
	_, err = u.Begin(Upload{BuildID: idC})
	require.NoError(t, err)
	u.files[idC].Started = time.Now().Add(-2 * staleAfter)
	state, err := u.Begin(Upload{BuildID: idC})
	require.NoError(t, err)
	require.Equal(t, Begun, state)
	require.ErrorContains(t, openUploads(t, t.TempDir(), 1<<30, 50).put(t, idA, a), "more than 50 bytes")
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }
