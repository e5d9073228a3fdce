package java

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// maxLibraryBytes bounds the library of async-profiler.
	maxLibraryBytes = 64 << 20
	logName         = "log"
	// chunkSize is the size of a chunk that async-profiler ends by itself, so that each
	// can be read at once.
	chunkSize = "8m"
)

// A library is async-profiler's shared library, in memory.
type library struct {
	name string // of its copies
	data []byte
}

// readLibrary reads async-profiler's library. Copies have a name that depends on the
// content: a JVM that has loaded one keeps it, and the dynamic linker takes a name that
// it knows for what it has loaded.
func readLibrary(path string) (*library, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("java.async_profiler: %w", err)
	}
	if len(b) > maxLibraryBytes {
		return nil, fmt.Errorf("java.async_profiler: %s has %d bytes, more than %d", path, len(b), maxLibraryBytes)
	}
	if !strings.HasPrefix(string(b), "\x7fELF") {
		return nil, fmt.Errorf("java.async_profiler: %s is not a shared library; it is lib/libasyncProfiler.so of a release of async-profiler", path)
	}
	return &library{fmt.Sprintf("%s%.8x.so", libraryPrefix, sha256.Sum256(b)), b}, nil
}

// asyncProfiler records with async-profiler, of which it loads a copy into the JVM.
type asyncProfiler struct {
	*attachment
	folder  *folder
	library *library
	o       *Options

	file  int   // number of the recording
	read  int64 // offset in it up to which it was read
	begun bool
}

func (r *asyncProfiler) allocInterval() int64 { return r.o.AllocInterval }

func (r *asyncProfiler) oldThreads() map[uint64]bool { return nil }

func (r *asyncProfiler) recording() string { return "recording-" + strconv.Itoa(r.file) + ".jfr" }

func (r *asyncProfiler) start(ctx context.Context) error {
	if err := r.folder.removeFiles(r.library.name); err != nil {
		return &Error{NoFolder, err}
	}
	// The same file stays if it is there, so that it is not loaded a second time.
	if !r.folder.has(r.library.name, r.library.data) {
		if err := r.folder.write(r.library.name, 0o500, r.library.data); err != nil {
			return err
		}
	}
	// An earlier collector may have crashed while it recorded.
	for _, file := range r.profilers {
		if strings.HasPrefix(file, r.folder.path+"/") {
			r.stopOld(ctx, file)
		}
	}
	return r.begin(ctx)
}

// stopOld stops the recording of an earlier collector, if it still runs, which the
// library does not tell from one that does not.
func (r *asyncProfiler) stopOld(ctx context.Context, file string) {
	_, _ = r.command(ctx, "load", file, "true", "stop,jfr,log="+r.folder.path+"/"+logName) // begin reports what remains
}

// begin starts a recording.
func (r *asyncProfiler) begin(ctx context.Context) error {
	r.file++
	r.read = 0
	// The timeout ends a recording that is not ended by us.
	err := r.run(ctx, fmt.Sprintf("start,alloc=%d,live,lock=%dus,jfr,chunksize=%s,timeout=%d,file=%s/%s",
		r.o.AllocInterval, r.o.LockThreshold.Microseconds(), chunkSize, int((r.o.LiveWindow+2*r.o.Interval+time.Minute)/time.Second), r.folder.path, r.recording()))
	r.begun = err == nil
	return err
}

// run has async-profiler execute a command, and reads what it says if it fails.
func (r *asyncProfiler) run(ctx context.Context, command string) error {
	reply, err := r.command(ctx, "load", r.folder.path+"/"+r.library.name, "true", command+",log="+r.folder.path+"/"+logName)
	if err != nil {
		return err
	}
	verb, _, _ := strings.Cut(command, ",")
	code, err := reply.agentCode()
	if err != nil {
		return because(Refused, "async-profiler: %w; is the library for the C library and processor of the JVM, and /tmp mounted without noexec?", err)
	}
	if code != 0 {
		text, _ := r.folder.read(logName, maxTextBytes) // the code says enough without it
		return because(Refused, "async-profiler: %s: code %d: %s", verb, code, oneLine(string(text)))
	}
	return nil
}

func (r *asyncProfiler) collect(ctx context.Context, take func(recorded)) error {
	if err := r.run(ctx, "dump,jfr"); err != nil {
		return err
	}
	return r.take(take)
}

// take reads what is finished of the recording.
func (r *asyncProfiler) take(take func(recorded)) error {
	var err error
	r.read, err = r.folder.readChunks(r.guard, r.recording(), r.read, r.o.MaxChunkBytes, nil, take)
	return err
}

func (r *asyncProfiler) renew(ctx context.Context, take func(recorded)) error {
	old, offset := r.recording(), r.read
	if err := r.end(ctx); err != nil {
		return err
	}
	// The next recording begins before the last one is read: nothing is recorded between.
	err := r.begin(ctx)
	_, e := r.folder.readChunks(r.guard, old, offset, r.o.MaxChunkBytes, nil, take)
	return errors.Join(err, e, r.folder.remove(old))
}

func (r *asyncProfiler) stop(ctx context.Context, take func(recorded)) error {
	if !r.begun {
		return nil
	}
	err := r.end(ctx)
	if e := r.take(take); err == nil && !errors.Is(e, fs.ErrNotExist) {
		err = e
	}
	return err
}

func (r *asyncProfiler) end(ctx context.Context) error {
	err := r.run(ctx, "stop,jfr")
	r.begun = err != nil && r.begun
	return err
}
