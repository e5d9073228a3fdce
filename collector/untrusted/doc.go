// Package untrusted reads files that belong to profiled processes, which
// anybody may have made: executables, libraries, debug files, perf maps, files
// in procfs. It bounds what such a file may cost before anything is allocated:
// sizes are compared with the size that the file really has, reading has a
// budget of bytes and of time, and a panic or a call that does not return stays
// with the file that caused it.
//
// It leaves what is in the files to its callers, who keep files that turned out
// to be unreadable from being tried again at once.
package untrusted

import "errors"

// Reasons why a file is not read, for errors.Is.
var (
	// ErrMalformed says that the file contradicts itself or its size.
	ErrMalformed = errors.New("malformed")
	// ErrTooLarge says that reading the file exceeds a bound on bytes.
	ErrTooLarge = errors.New("exceeds a bound")
	// ErrTimeout says that reading the file takes too long.
	ErrTimeout = errors.New("takes too long")
	// ErrBusy says that too many other files do not answer.
	ErrBusy = errors.New("too many files do not answer")
	// ErrIrregular says that the file is a device, a pipe or a directory.
	ErrIrregular = errors.New("not a regular file")
)

// Reason names an error's reason in one word, as the value of a metric's label:
// malformed, too_large, timeout, busy, irregular, panic; "" for other errors,
// such as those of files that are gone or that have nothing to read.
func Reason(err error) string {
	var p *PanicError
	switch {
	case errors.As(err, &p):
		return "panic"
	case errors.Is(err, ErrTooLarge):
		return "too_large"
	case errors.Is(err, ErrTimeout):
		return "timeout"
	case errors.Is(err, ErrBusy):
		return "busy"
	case errors.Is(err, ErrIrregular):
		return "irregular"
	case errors.Is(err, ErrMalformed):
		return "malformed"
	}
	return ""
}
