// Package debuginfo keeps debug files on disk, by build ID and within bounds of
// size: those that were uploaded (Uploads), and those that debuginfod servers
// have (Client).
//
// It leaves to symbolize what is in the files, and to server how they are
// uploaded.
package debuginfo

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/flameline/flameline/collector/untrusted"
)

// checkBudget is what finding the build ID in a file may cost.
var checkBudget = untrusted.Budget{Bytes: 64 << 20, Time: 10 * time.Second}

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

// write copies at most limit bytes into a new file beside a name, checks that they
// are an ELF file with the build ID, and gives them the name. It returns the size.
func write(name, buildID string, from io.Reader, limit int64) (n int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "*"+partSuffix)
	if err != nil {
		return 0, err
	}
	tmp := f.Name()
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	n, err = io.Copy(f, io.LimitReader(from, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("more than %d bytes: %w", limit, untrusted.ErrTooLarge)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = checkFile(tmp, buildID)
	}
	if err != nil {
		return 0, err
	}
	return n, os.Rename(tmp, name)
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
