//go:build linux && (amd64 || arm64)

package sample

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/elfunwindinfo"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/tracer"
	"golang.org/x/sys/unix"
)

// tracerWith returns a tracer that has nothing but a provider of unwind tables.
func tracerWith(t *testing.T, provider nativeunwind.StackDeltaProvider) *tracer.Tracer {
	t.Helper()
	tr := new(tracer.Tracer)
	v := reflect.ValueOf(tr).Elem()
	for _, name := range providerPath {
		f := v.FieldByName(name)
		require.True(t, f.IsValid(), "the unwinder's %v has no field %s: see unwindtables_linux.go", v.Type(), name)
		f = reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()
		if f.Kind() == reflect.Pointer {
			f.Set(reflect.New(f.Type().Elem()))
			v = f.Elem()
		} else if provider != nil {
			f.Set(reflect.ValueOf(provider))
		}
	}
	return tr
}

// TestUnwinderTakesOurTables fails when a new version of the unwinder keeps its
// provider of unwind tables elsewhere. Go stacks would then lack callers.
func TestUnwinderTakesOurTables(t *testing.T) {
	library := elfunwindinfo.NewStackDeltaProvider()
	tr := tracerWith(t, library)
	require.NoError(t, useUnwindTables(tr, slog.New(slog.DiscardHandler), newMetrics(nil)))
	got, err := providerOf(tr)
	require.NoError(t, err)
	ours, ok := (*got).(*unwindTables)
	require.True(t, ok, "the provider is a %T", *got)
	require.Same(t, library, ours.StackDeltaProvider)

	require.Error(t, useUnwindTables(new(tracer.Tracer), slog.Default(), newMetrics(nil)), "no process manager")
	require.Error(t, useUnwindTables(tracerWith(t, nil), slog.Default(), newMetrics(nil)), "no provider")
}

// A brokenProvider panics, as the library may for a malformed file.
type brokenProvider struct{ panics any }

func (b brokenProvider) GetIntervalDataForFile(*pfelf.Reference) (*stackdeltatypes.IntervalData, error) {
	if b.panics != nil {
		panic(b.panics)
	}
	return &stackdeltatypes.IntervalData{NumDeltas: 1}, nil
}

func (brokenProvider) GetAndResetStatistics() nativeunwind.Statistics {
	return nativeunwind.Statistics{}
}

// TestUnwindTablesPanic checks that a panic in the library is an error of the
// file, and one in a refiner leaves the library's table.
func TestUnwindTablesPanic(t *testing.T) {
	u := &unwindTables{StackDeltaProvider: brokenProvider{panics: "makeslice: cap out of range"},
		metrics: newMetrics(nil), log: slog.New(slog.DiscardHandler)}
	ref := pfelf.NewReference("/bin/true", pfelf.SystemOpener)
	defer ref.Close()
	_, err := u.GetIntervalDataForFile(ref)
	var p *panicError
	require.ErrorAs(t, err, &p)
	require.ErrorContains(t, err, "makeslice: cap out of range")

	u.StackDeltaProvider = brokenProvider{}
	add := func(_ *pfelf.Reference, in *stackdeltatypes.IntervalData) (*stackdeltatypes.IntervalData, error) {
		return &stackdeltatypes.IntervalData{NumDeltas: in.NumDeltas + 1}, nil
	}
	fail := func(*pfelf.Reference, *stackdeltatypes.IntervalData) (*stackdeltatypes.IntervalData, error) {
		return nil, errors.New("no")
	}
	// What a file that was cut off while it is mapped does.
	file := filepath.Join(t.TempDir(), "cut")
	require.NoError(t, os.WriteFile(file, make([]byte, 8192), 0o600))
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	mapped, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ, unix.MAP_SHARED)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(mapped)) }()
	require.NoError(t, f.Truncate(0))
	fault := func(*pfelf.Reference, *stackdeltatypes.IntervalData) (*stackdeltatypes.IntervalData, error) {
		return &stackdeltatypes.IntervalData{NumDeltas: uint32(mapped[5000])}, nil
	}
	u.refiners = []refiner{{"a", add}, {"b", fail}, {"c", fault}, {"d", add}}
	table, err := u.GetIntervalDataForFile(ref)
	require.NoError(t, err)
	require.EqualValues(t, 3, table.NumDeltas)
	for labels, want := range map[[2]string]float64{
		{"library", "panic"}: 1, {"library", "ok"}: 1, {"a", "ok"}: 1, {"b", "error"}: 1, {"c", "panic"}: 1, {"d", "ok"}: 1,
	} {
		require.Equal(t, want, testutil.ToFloat64(u.metrics.unwindTables.WithLabelValues(labels[:]...)), labels)
	}
}
