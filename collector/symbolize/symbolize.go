// Package symbolize turns addresses in native code into functions: from the
// symbol tables of a binary, of its MiniDebugInfo and of its separate debug
// file, all read through the root of the process that runs it, and from perf
// maps for just-in-time compiled code. Source lines and inlined functions come
// from DWARF, of which only the units that have the code are read. C++ and Rust
// names are demangled.
//
// Addresses of binaries are ELF virtual addresses: what st_value holds, the
// same in every process that maps the file, whatever its load bias, segments
// or base. The unwinder reports native frames that way, with return addresses
// already moved back into the call.
//
// It leaves unwinding, kernel, Go and interpreted frames to sample, and what
// to show for an unknown address to the caller.
package symbolize

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flameline/flameline/collector/funcname"
)

// A FileID identifies the content of a binary: the unwinder's hash of the
// executable. Processes that map the same file share one table.
type FileID [16]byte

// A Line is one function at an address, and the place within it. File and Line
// are empty where there is no debug information.
type Line struct {
	Function string // demangled
	File     string
	Line     int64
}

// A Reader reads a binary. *os.File is one.
type Reader interface {
	io.ReaderAt
	io.Closer
}

// A Binary says where to find a binary; it owns nothing.
type Binary struct {
	// Name is the module's base name, for messages only.
	Name string
	// Path is the binary's path as the process sees it in /proc/PID/maps.
	Path string
	// PID is a process that maps the binary; 0 if there is none.
	PID int
	// Start and End are the addresses of one mapping of the binary in that
	// process, as in /proc/PID/maps. With them a deleted or replaced binary
	// is read through /proc/PID/map_files; both are 0 if unknown.
	Start, End uint64
	// BuildID is the GNU build ID in hexadecimal; "" reads it from the file.
	BuildID string
	// Open, if set, takes the place of Path, PID, Start and End. It is called
	// when the table is built, perhaps again after the table was dropped, and
	// returns the reader and its size in bytes.
	Open func() (Reader, int64, error)
}

// A Style says how much of a C++ or Rust name is kept.
type Style = funcname.Style

// Styles of demangled names, which collector/funcname describes.
const (
	Templates = funcname.Templates
	Short     = funcname.Short
	Full      = funcname.Full
)

// Options configure a Symbolizer; the zero value is useful.
type Options struct {
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers nothing
	// ProcRoot is where procfs is mounted; "" is /proc.
	ProcRoot string
	// CacheBytes bounds the memory of symbol tables; 0 is 32 MiB. The table
	// in use stays even if it is larger on its own; perf maps take up to a
	// quarter more.
	CacheBytes int64
	// IdleTimeout drops tables that no Lookup used for as long; 0 is 10 min.
	IdleTimeout time.Duration
	// RetryAfter is how long a binary that could not be read is not tried
	// again; 0 is 1 min.
	RetryAfter time.Duration
	// OpenFiles bounds the descriptors that are held for binaries whose
	// processes may end before they are read; 0 is 256.
	OpenFiles int
	// NoLines reads functions only: neither source lines nor inlined calls.
	NoLines bool
	// InflateDir is where compressed DWARF is inflated to, into files without a
	// name. It is made for the first of them. "" inflates up to 16 MiB of a binary into memory, for each read of it,
	// and reads no lines of binaries with more.
	InflateDir string
	// InflateBytes bounds these files together; 0 is 1 GiB.
	InflateBytes int64
	// DebugFiles has debug files of binaries that have no symbols but those of exported
	// functions; nil has none. Once one comes that was not there, call Renew.
	DebugFiles DebugFiles
	// Style of C++ and Rust names; the zero value is Templates.
	Style Style
}

// DebugFiles are separate debug files by build ID, beside those that are installed.
type DebugFiles interface {
	// OpenDebugFile opens the file of a build ID, in hexadecimal, without waiting for
	// it. An error wraps os.ErrNotExist if there is no such file now.
	OpenDebugFile(buildID string) (*os.File, error)
}

// New returns a Symbolizer. It is safe for concurrent use and is closed by the
// caller.
func New(o Options) *Symbolizer { return newSymbolizer(o) }
