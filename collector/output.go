package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/render"
	"github.com/flameline/flameline/collector/tools"
)

// An outputFile is where a one-shot tool writes its result.
type outputFile struct {
	path   string // "-" is the standard output, "" a new file
	format render.Format
}

// newOutputFile reads the flags -o and --to.
func newOutputFile(path, to string) (*outputFile, error) {
	o := &outputFile{path: path}
	var err error
	switch {
	case to != "":
		o.format, err = render.ParseFormat(to)
	case path == "":
		o.format = render.SVG
	case path == "-":
		o.format = render.Folded
	default:
		if o.format, err = render.ByExtension(path); err != nil {
			err = fmt.Errorf("-o %w; --to says the format", err)
		}
	}
	return o, err
}

// standard reports whether the result goes to the standard output.
func (o *outputFile) standard() bool { return o.path == "-" }

// check finds out early what would make writing fail late.
func (o *outputFile) check(stdout io.Writer) error {
	if o.standard() {
		if o.format.Binary() && isTerminal(stdout) {
			return fmt.Errorf("%s is binary and the standard output a terminal: name a file with -o", o.format)
		}
		return nil
	}
	dir := filepath.Dir(o.path)
	if o.path == "" {
		dir = "."
	}
	if info, err := os.Stat(dir); err != nil {
		return fmt.Errorf("-o: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("-o: %s is not a directory", dir)
	}
	if info, err := os.Stat(o.path); err == nil && info.IsDir() {
		return fmt.Errorf("-o: %s is a directory: name a file in it", o.path)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return fmt.Errorf("-o: files cannot be made in %s: %w", dir, err)
	}
	return nil
}

// write writes the document of the format. A regular file appears when it is complete.
func (o *outputFile) write(stdout io.Writer, document func(render.Format) *render.Document) error {
	d := document(o.format)
	if o.path == "" {
		o.path = newFileName(d.Title, time.Now())
	}
	if o.standard() {
		return writeTo(stdout, o.format, d)
	}
	if info, err := os.Stat(o.path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(o.path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(writeTo(f, o.format, d), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(o.path), "."+filepath.Base(o.path)+".*")
	if err != nil {
		return tools.WriteError(o.path, err)
	}
	err = errors.Join(writeTo(f, o.format, d), give(f), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), o.path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return tools.WriteError(o.path, err)
	}
	return nil
}

func writeTo(w io.Writer, f render.Format, d *render.Document) error {
	b := bufio.NewWriter(w)
	if err := render.Write(b, f, d); err != nil {
		return err
	}
	return b.Flush()
}

// give sets the usual permissions of new files, and gives a file to the user who called
// sudo.
func give(f *os.File) error {
	mask := unix.Umask(0)
	unix.Umask(mask)
	if err := f.Chmod(os.FileMode(0o666 &^ mask)); err != nil {
		return err
	}
	uid, err1 := strconv.Atoi(os.Getenv("SUDO_UID"))
	gid, err2 := strconv.Atoi(os.Getenv("SUDO_GID"))
	if os.Geteuid() != 0 || err1 != nil || err2 != nil {
		return nil //nolint:nilerr // nobody called sudo
	}
	return f.Chown(uid, gid)
}

// written says where the result is.
func (o *outputFile) written() string {
	if o.standard() {
		return fmt.Sprintf("written to the standard output as %s", o.format)
	}
	return "wrote " + o.path
}

// newFileName makes the name of a file from what was recorded and when.
func newFileName(title string, at time.Time) string {
	title, _, _ = strings.Cut(title, ":")
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' {
			return r
		}
		return '-'
	}, title), "-.")
	return fmt.Sprintf("flameline-%.40s-%s.svg", name, at.Format("20060102-150405"))
}
