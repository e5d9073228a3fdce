//go:build !(linux && (amd64 || arm64))

package sample

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

// A Source samples a machine. On this system there is none.
type Source struct{}

// Supported returns an error: sampling needs Linux on amd64 or arm64.
func Supported() error {
	return fmt.Errorf("%w: it needs Linux on amd64 or arm64, this is %s/%s: use scrape_configs or push profiles",
		ErrUnsupported, runtime.GOOS, runtime.GOARCH)
}

// Requirements has the error of Supported.
func Requirements() []Requirement { return []Requirement{{"system", Supported}} }

// CheckOtherUsers returns nil.
func CheckOtherUsers() error { return nil }

// Start returns the error of Supported.
func Start(context.Context, Options) (*Source, error) { return nil, Supported() }

// Began returns no time.
func (*Source) Began() time.Time { return time.Time{} }

// Done is never closed.
func (*Source) Done() <-chan struct{} { return nil }

// AllocationsFound returns false.
func (*Source) AllocationsFound() bool { return false }

// AllocProbes returns the error of Supported.
func AllocProbes(int) ([]ProbedFile, error) { return nil, Supported() }

// Close does nothing.
func (*Source) Close() error { return nil }

// Read does nothing.
func (*Source) Read(context.Context, ...int) {}

// Measure returns the error of Supported.
func (*Source) Measure(...int) error { return Supported() }
