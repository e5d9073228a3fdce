//go:build linux && (amd64 || arm64)

package sample

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/elfunwindinfo"
)

// BenchmarkGoTable makes the unwind table of a Go program: of this one, or of
// that in FLAMELINE_GO_PROGRAM. It reports the number of rules.
func BenchmarkGoTable(b *testing.B) {
	bin, err := os.Executable()
	require.NoError(b, err)
	if other := os.Getenv("FLAMELINE_GO_PROGRAM"); other != "" {
		bin = other
	}
	ref := pfelf.NewReference(bin, pfelf.SystemOpener)
	defer ref.Close()
	library, err := elfunwindinfo.NewStackDeltaProvider().GetIntervalDataForFile(ref)
	require.NoError(b, err)
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			again := pfelf.NewReference(bin, pfelf.SystemOpener)
			_, err := elfunwindinfo.NewStackDeltaProvider().GetIntervalDataForFile(again)
			require.NoError(b, err)
			again.Close()
		}
		b.ReportMetric(float64(library.NumDeltas), "rules")
	})
	b.Run("Go", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			table, err := refineGo(ref, library)
			require.NoError(b, err)
			b.ReportMetric(float64(table.NumDeltas), "rules")
		}
	})
}
