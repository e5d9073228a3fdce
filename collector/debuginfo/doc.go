// Package debuginfo keeps debug files on disk, by build ID and within bounds of
// size: those that were uploaded (Uploads), and those that debuginfod servers
// have (Client).
//
// It leaves to symbolize what is in the files, and to server how they are
// uploaded.
package debuginfo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/untrusted"
)

// checkBudget is what finding the build ID in a file may cost.
var checkBudget = untrusted.Budget{Bytes: 64 << 20, Time: 10 * time.Second}

// ErrDiskFull says that too little of the disk is free.
var ErrDiskFull = errors.New("disk full")

// partSuffix is that of a file that is being written.
const partSuffix = ".part"

var buildIDForm = regexp.MustCompile(`^[0-9a-f]{4,128}$`)

// CheckBuildID returns a build ID in the form that names files: in lower case.
func CheckBuildID(id string) (string, error) {
	id = strings.ToLower(id)
	if !buildIDForm.MatchString(id) || len(id)%2 != 0 {
		return "", fmt.Errorf("build ID %.200q: has to be 2 to 64 bytes in hexadecimal", id)
	}
	return id, nil
}

// ReadBuildID returns the GNU build ID of an ELF file in hexadecimal, "" if it has
// none. Errors wrap those of package untrusted if the file is not as it should be.
func ReadBuildID(f io.ReaderAt, size int64) (string, error) {
	g := &untrusted.Guard{}
	return untrusted.Do(g, func() (string, error) {
		e, err := untrusted.NewELF(untrusted.NewReader(f, size, checkBudget))
		if err != nil {
			return "", err
		}
		return untrusted.BuildID(e), nil
	})
}

// checkFile returns an error unless a file is an ELF file with a build ID.
func checkFile(name, buildID string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	got, err := ReadBuildID(f, info.Size())
	switch {
	case err != nil:
		return err
	case got == "":
		return fmt.Errorf("the file has no build ID, want %s: %w", buildID, untrusted.ErrMalformed)
	case got != buildID:
		return fmt.Errorf("the file has the build ID %s, want %s: %w", got, buildID, untrusted.ErrMalformed)
	}
	return nil
}

// receive copies at most limit bytes into a new file in a directory, and checks that they
// are an ELF file with the build ID. The caller renames or removes the file, of n bytes.
// Its bytes are on disk, its name need not be.
func receive(dir, buildID string, from io.Reader, limit int64) (name string, n int64, err error) {
	f, err := os.CreateTemp(dir, "*"+partSuffix)
	if err != nil {
		return "", 0, err
	}
	name = f.Name()
	defer func() {
		if err != nil {
			_ = os.Remove(name)
		}
	}()
	n, err = io.Copy(f, io.LimitReader(from, limit+1))
	if err == nil && n > limit {
		err = tooLarge(limit)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = checkFile(name, buildID)
	}
	return name, n, err
}

func tooLarge(limit int64) error {
	return fmt.Errorf("more than %d bytes: %w", limit, untrusted.ErrTooLarge)
}

// A space is the disk of a directory. Twice minFree bytes of it are kept free, of a small
// disk at most a tenth: the store refuses profiles below minFree, and debug files have to
// stop before.
type space struct {
	dir     string
	minFree int64 // 0 for none
}

// check returns an error that wraps ErrDiskFull if too little is free. A disk that cannot
// say is taken for an empty one.
func (s space) check() error {
	if s.minFree <= 0 {
		return nil
	}
	u, err := vfs.Default.GetDiskUsage(s.dir)
	if err != nil || u.TotalBytes == 0 {
		return nil //nolint:nilerr // as the comment says
	}
	if least := min(2*uint64(s.minFree), u.TotalBytes/10); u.AvailBytes < least {
		return fmt.Errorf("%w: %d bytes are free in %s, %d have to be (twice storage.min_free_bytes)", ErrDiskFull, u.AvailBytes, s.dir, least)
	}
	return nil
}

// spaceEvery is after how many bytes the free space is looked at again.
const spaceEvery = 1 << 20

// A guarded reader fails as soon as too little of the disk is free for what is read.
type guarded struct {
	io.Reader
	space space
	left  int // bytes until the next look
}

func (g *guarded) Read(p []byte) (int, error) {
	if g.left <= 0 {
		if err := g.space.check(); err != nil {
			return 0, err
		}
		g.left = spaceEvery
	}
	n, err := g.Reader.Read(p)
	g.left -= n
	return n, err
}

// syncDir puts the names in a directory on disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir makes a directory, and removes from it what an interrupted write left.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("directory of debug files: %w", err)
	}
	parts, err := filepath.Glob(filepath.Join(dir, "*"+partSuffix))
	for _, name := range parts {
		_ = os.Remove(name)
	}
	return err
}
