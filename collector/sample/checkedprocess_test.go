//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/libpf"
	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/elfunwindinfo"
	"go.opentelemetry.io/ebpf-profiler/process"
	"go.opentelemetry.io/ebpf-profiler/processmanager"
	"go.opentelemetry.io/ebpf-profiler/remotememory"
	"go.opentelemetry.io/ebpf-profiler/tracer"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
)

// A mappedFile is a process that maps one file.
type mappedFile struct {
	process.Process
	path string
}

func (m mappedFile) PID() libpf.PID { return libpf.PID(os.Getpid()) }

func (m mappedFile) OpenMappingFile(*process.RawMapping) (process.ReadAtCloser, error) {
	return os.OpenFile(m.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

func checkedFileOf(path string, log *slog.Logger) (*checkedProcess, *fileChecks) {
	files := newFileChecks(newMetrics(nil), log)
	return &checkedProcess{Process: mappedFile{path: path}, guard: &untrusted.Guard{}, files: files, systems: &fileSystems{}}, files
}

// readAsUnwinder does with a file what the unwinder's library does with the file
// of a mapping.
func readAsUnwinder(p *checkedProcess) error {
	f, err := process.OpenELFMapping(p, &process.RawMapping{Path: "/x/burn"})
	if err != nil {
		return err
	}
	defer f.Close()
	_, _ = f.GetBuildID()
	_ = f.IsGolang()
	_, _ = f.GetGoBuildID()
	_ = f.GetAddressMapper()
	ref := pfelf.NewReferenceWithOpenFunc("/x/burn", p, func() (*pfelf.File, error) {
		return process.OpenELFMapping(p, &process.RawMapping{Path: "/x/burn"})
	})
	defer ref.Close()
	_ = f.DebuglinkFileName("/x/burn", ref)
	_, err = elfunwindinfo.ExtractELF(ref)
	for _, name := range []libpf.SymbolName{"_PyRuntime", "gHotSpotVMStructs", "lj_dispatch_update"} {
		_, _, _ = f.SymbolData(name, 1<<20)
	}
	_ = f.VisitSymbols(func(libpf.Symbol) bool { return true })
	_ = f.VisitTLSRelocations(func(pfelf.ElfReloc, string) bool { return true })
	return err
}

// TestUnwinderReadsCheckedFiles writes large numbers over the headers of a Go
// program and has the unwinder's library read the result. Of the library alone,
// hundreds of these files end the process. Those that the check lets pass, or
// that change after it, may panic: the reader of processes lives through that.
func TestUnwinderReadsCheckedFiles(t *testing.T) {
	p := loadGoProgram(t)
	name := filepath.Join(t.TempDir(), "burn")
	write := func(lie *goProgram) {
		data := bytes.Clone(p.data)
		for _, w := range lie.patches {
			copy(data[w.offset:], w.bytes)
		}
		require.NoError(t, os.WriteFile(name, data, 0o755))
		require.NoError(t, os.Truncate(name, lie.size))
	}
	write(p.with())
	checked, _ := checkedFileOf(name, slog.New(slog.DiscardHandler))
	require.NoError(t, readAsUnwinder(checked))

	lies := map[string]*goProgram{"two words": p.with().section(p.pclntabIndex, 4, 1<<63-1).table(0, (1<<63-1)/8)}
	for _, value := range []uint64{1 << 32, 1<<63 - 1, ^uint64(255)} {
		for section := range p.sectionCount {
			for word := 2; word < 5; word++ {
				lies[fmt.Sprintf("section %d word %d %#x", section, word, value)] = p.with().section(section, word, value)
			}
		}
		for program := range p.programCount {
			for word := range 6 {
				lies[fmt.Sprintf("program %d word %d %#x", program, word, value)] = p.with().put(p.programs+int64(program)*programHeaderSize+int64(word)*8, value)
			}
		}
		for word := range 8 {
			lies[fmt.Sprintf("table word %d %#x", word, value)] = p.with().table(word, value)
		}
	}
	refused := 0
	for label, lie := range lies {
		write(lie)
		checked, files := checkedFileOf(name, slog.New(slog.DiscardHandler))
		r := &processReader{files: files, lock: new(sync.RWMutex)}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r.guarded(func() { _ = readAsUnwinder(checked) })
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(128<<20), label)
		if len(files.bad) > 0 {
			refused++
			_, err := checked.OpenMappingFile(&process.RawMapping{Path: "/x/burn"})
			require.ErrorIs(t, err, untrusted.ErrMalformed, "%s: is read again", label)
		}
	}
	require.Greater(t, refused, len(lies)/3)
}

// TestCheckedFileIrregular has a process map what is no regular file.
func TestCheckedFileIrregular(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	checked, _ := checkedFileOf(fifo, slog.New(slog.DiscardHandler))
	_, err := checked.OpenMappingFile(&process.RawMapping{Path: fifo})
	require.ErrorIs(t, err, untrusted.ErrIrregular)
}

// TestProcessReaderPanic checks that a panic of the library is counted, named by
// the file that it read, and leaves no lock behind.
func TestProcessReaderPanic(t *testing.T) {
	var log bytes.Buffer
	m := newMetrics(nil)
	files := newFileChecks(m, slog.New(slog.NewTextHandler(&log, nil)))
	lock := new(sync.RWMutex)
	r := &processReader{files: files, lock: lock}
	version := fileVersion{fileKey{1, 2}, 3}
	r.guarded(func() {
		files.reading("/srv/evil.so", version)
		lock.Lock()
		panic("index out of range [-1]")
	})
	require.True(t, lock.TryLock(), "the library's lock is free")
	lock.Unlock()
	require.True(t, files.refused(version))
	require.False(t, files.refused(fileVersion{fileKey{1, 2}, 4}), "the file was replaced")
	require.Equal(t, 1.0, testutil.ToFloat64(m.unreadable.WithLabelValues("unwinder", "panic")))
	require.Contains(t, log.String(), "evil.so")
}

// TestUnwinderGivesItsProcesses fails when a new version of the unwinder keeps
// its list of processes elsewhere: a malformed file could end the service.
func TestUnwinderGivesItsProcesses(t *testing.T) {
	tr := new(tracer.Tracer)
	manager, err := fieldOf[*processmanager.ProcessManager](tr, "processManager")
	require.NoError(t, err)
	_, err = newProcessReader(tr, nil, nil, newMetrics(nil), slog.Default())
	require.Error(t, err, "no process manager")
	*manager = new(processmanager.ProcessManager)
	r, err := newProcessReader(tr, unwinderTimes{pidCleanup: time.Hour}, nil, newMetrics(nil), slog.Default())
	require.NoError(t, err)
	require.Same(t, *manager, r.manager)
	require.Equal(t, "sync.RWMutex", reflect.TypeOf(r.lock).Elem().String())
}

// unansweredFile is a process whose file is on a file system that does not answer.
type unansweredFile struct {
	process.Process
	release chan struct{}
	asked   *atomic.Int32
}

func (unansweredFile) PID() libpf.PID { return libpf.PID(os.Getpid()) }

func (u unansweredFile) GetMappingFileLastModified(*process.RawMapping) int64 {
	u.asked.Add(1)
	<-u.release
	return 7
}

// TestSilentDevice checks that a file system which did not answer is not asked
// again, and is counted and named once.
func TestSilentDevice(t *testing.T) {
	var log bytes.Buffer
	files := newFileChecks(newMetrics(nil), slog.New(slog.NewTextHandler(&log, nil)))
	release, asked := make(chan struct{}), new(atomic.Int32)
	guard := &untrusted.Guard{Limit: time.Millisecond}
	c := &checkedProcess{Process: unansweredFile{release: release, asked: asked}, guard: guard, files: files, systems: &fileSystems{}}
	const silent, other = 0xfff01, 0xfff02
	for range 5 {
		require.Zero(t, c.GetMappingFileLastModified(&process.RawMapping{Device: silent}))
	}
	require.Equal(t, 1, guard.Waiting())
	require.Equal(t, 1.0, testutil.ToFloat64(files.metrics.unreadable.WithLabelValues("unwinder", "timeout")))
	require.Contains(t, log.String(), "on file system 4095:1")
	require.Zero(t, c.GetMappingFileLastModified(&process.RawMapping{Device: other}), "another one is asked")
	require.Equal(t, 2, guard.Waiting())
	close(release)
	require.Eventually(t, func() bool { return guard.Waiting() == 0 }, time.Minute, time.Millisecond)
	require.EqualValues(t, 2, asked.Load())
	guard.Limit = 0
	c.systems.silent[silent] = time.Now()
	require.EqualValues(t, 7, c.GetMappingFileLastModified(&process.RawMapping{Device: silent}), "it is asked again in the end")
}

// endedProcess is a process that ends while its files are read.
type endedProcess struct {
	process.Process
	memory io.ReaderAt
}

func (endedProcess) PID() libpf.PID { return libpf.PID(os.Getpid()) }

func (endedProcess) OpenMappingFile(*process.RawMapping) (process.ReadAtCloser, error) {
	return nil, &os.PathError{Op: "open", Path: "/proc/1/map_files/1-2", Err: unix.ESRCH}
}

func (endedProcess) CalculateMappingFileID(*process.RawMapping) (libpf.FileID, error) {
	return libpf.FileID{}, errors.New("failed to get mapping file: no such process") // the library drops the cause
}

func (e endedProcess) GetRemoteMemory() remotememory.RemoteMemory {
	return remotememory.RemoteMemory{ReaderAt: e.memory}
}

func (endedProcess) IterateMappings(callback func(m process.RawMapping) bool) (uint32, error) {
	callback(process.RawMapping{Path: process.VdsoPathName, Vaddr: 0, Length: 64})
	callback(process.RawMapping{Path: "/bin/true", Vaddr: 4096, Length: 4096})
	return 0, nil
}

// TestEndedProcessBlamesNoFile checks that the library does not remember files of a
// process that ended meanwhile as unreadable: other processes map them too. Those that
// are not ELF files it does remember.
func TestEndedProcessBlamesNoFile(t *testing.T) {
	files := newFileChecks(newMetrics(nil), slog.New(slog.DiscardHandler))
	memories := newRemoteMemories(newMetrics(nil), slog.New(slog.DiscardHandler))
	vdso := &vdsoState{}
	of := func(p process.Process) *checkedProcess {
		return &checkedProcess{
			Process: p, guard: &untrusted.Guard{}, maps: &untrusted.Guard{}, files: files, systems: &fileSystems{},
			memories: memories, state: memories.of(p.PID()), vdso: vdso,
		}
	}
	ended := of(endedProcess{memory: strings.NewReader("")})
	mapping := &process.RawMapping{Path: "/bin/true"}
	_, err := process.OpenELFMapping(ended, mapping)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = ended.CalculateMappingFileID(mapping)
	require.ErrorIs(t, err, os.ErrNotExist)
	text := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, []byte("#!/bin/sh\n"), 0o600))
	_, err = process.OpenELFMapping(of(mappedFile{path: text}), mapping)
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrNotExist)

	paths := func(c *checkedProcess) (paths []string) {
		_, err := c.IterateMappings(func(m process.RawMapping) bool {
			paths = append(paths, m.Path)
			return true
		})
		require.NoError(t, err)
		return paths
	}
	require.Equal(t, []string{"/bin/true"}, paths(ended))
	all := []string{process.VdsoPathName, "/bin/true"}
	require.Equal(t, all, paths(of(endedProcess{memory: strings.NewReader(strings.Repeat("x", 64))})))
	require.Equal(t, all, paths(ended), "the library knows it by now")
}
