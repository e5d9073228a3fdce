package tools

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/flameline/flameline/collector/render"
)

// An Output is where a result goes.
type Output struct {
	File string // "" and - are the standard output
	To   string // format; "" follows from File's extension
	// Stdout is the standard output, Terminal whether it is one.
	Stdout   io.Writer
	Terminal bool
}

func (o *Output) toStdout() bool { return o.File == "" || o.File == "-" || o.File == "/dev/stdout" }

// format returns the format that was asked for. Without any, the standard output gets
// fallback.
func (o *Output) format(fallback render.Format) (f render.Format, err error) {
	switch {
	case o.To != "":
		f, err = render.ParseFormat(o.To)
	case o.toStdout():
		f = fallback
	default:
		f, err = render.ByExtension(o.File)
	}
	if err != nil {
		return "", &UsageError{err}
	}
	if f.Binary() && o.toStdout() && o.Terminal {
		return "", usage("%s is binary, and the standard output is a terminal; name a file by -o", f)
	}
	return f, nil
}

// write writes the result. A file is replaced once its content is complete; what is no
// file, such as a pipe, is written directly.
func (o *Output) write(content func(io.Writer) error) error {
	if o.toStdout() {
		return content(o.Stdout)
	}
	if fi, err := os.Stat(o.File); err == nil && !fi.Mode().IsRegular() {
		f, err := os.OpenFile(o.File, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(content(f), f.Close())
	}
	// Created by name rather than by os.CreateTemp, so that the umask decides who may
	// read it.
	part := filepath.Join(filepath.Dir(o.File), fmt.Sprintf(".%s.%d.part", filepath.Base(o.File), os.Getpid()))
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return WriteError(o.File, err)
	}
	defer func() { _ = os.Remove(part) }() // if it was not renamed
	if err := errors.Join(content(f), f.Close()); err != nil {
		return WriteError(o.File, err)
	}
	if err := os.Rename(part, o.File); err != nil {
		return WriteError(o.File, err)
	}
	return nil
}

// WriteError is an error of writing a file, with its name rather than that of the file
// that becomes it.
func WriteError(name string, err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		err = path.Err
	case errors.As(err, &link):
		err = link.Err
	}
	return fmt.Errorf("write %s: %w", name, err)
}
