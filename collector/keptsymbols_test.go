package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	debuginfov1alpha1 "github.com/grafana/pyroscope/api/gen/proto/go/debuginfo/v1alpha1"
	"github.com/grafana/pyroscope/api/gen/proto/go/debuginfo/v1alpha1/debuginfov1alpha1connect"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/debuginfo"
	"github.com/flameline/flameline/collector/symbolize"
	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
)

const shapeBuildID = "abcdef0123456789abcdef0123456789abcdef01"

// compileShape makes a program with symbols, its debug file, and the addresses of two
// functions in it.
func compileShape(t *testing.T) (full, debug string, inner, outer uint64, f *elf.File) {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "shape.c")
	require.NoError(t, os.WriteFile(source, []byte(`
volatile long n;
__attribute__((noipa)) static void inner_work(long k) { for (long i = 0; i < k; i++) n += i * k; }
__attribute__((noipa)) static void outer_work(long k) { inner_work(k); n++; }
int main(void) { outer_work(9); return n == 0; }
`), 0o600))
	full, debug = filepath.Join(dir, "shape"), filepath.Join(dir, "shape.debug")
	for _, args := range [][]string{
		{"gcc", "-g", "-O2", "-Wl,--build-id=0x" + shapeBuildID, "-o", full, source},
		{"objcopy", "--only-keep-debug", full, debug},
	} {
		out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput() //nolint:gosec // fixed commands
		require.NoError(t, err, "%s", out)
	}
	f, err := elf.Open(full)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	symbols, err := f.Symbols()
	require.NoError(t, err)
	for _, s := range symbols {
		switch s.Name {
		case "inner_work":
			inner = s.Value
		case "outer_work":
			outer = s.Value
		}
	}
	require.NotZero(t, inner)
	require.NotZero(t, outer)
	return full, debug, inner, outer, f
}

// pushUnknown pushes a profile of a stripped program as the sampler does: with the addresses
// in the names, leaf first, and the build ID of the mapping.
func pushUnknown(t *testing.T, url, buildID string, at time.Time, stacks ...[]uint64) {
	t.Helper()
	p := &googlev1.Profile{
		StringTable: []string{"", "cpu", "nanoseconds", "shape", buildID},
		SampleType:  []*googlev1.ValueType{{Type: 1, Unit: 2}}, PeriodType: &googlev1.ValueType{Type: 1, Unit: 2},
		Mapping:   []*googlev1.Mapping{{Id: 1, Filename: 3, BuildId: 4, HasFunctions: true}},
		TimeNanos: at.UnixNano(), DurationNanos: 1e9,
	}
	for _, stack := range stacks {
		s := &googlev1.Sample{Value: []int64{10}}
		for _, address := range stack {
			id := uint64(len(p.Location) + 1)
			p.StringTable = append(p.StringTable, fmt.Sprintf("shape+0x%x", address))
			p.Function = append(p.Function, &googlev1.Function{Id: id, Name: int64(len(p.StringTable) - 1)})
			p.Location = append(p.Location, &googlev1.Location{Id: id, MappingId: 1, Address: address, Line: []*googlev1.Line{{FunctionId: id}}})
			s.LocationId = append(s.LocationId, id)
		}
		p.Sample = append(p.Sample, s)
	}
	pushProfile(t, url, "shape", p)
}

func pushProfile(t *testing.T, url, service string, p *googlev1.Profile) {
	t.Helper()
	raw, err := p.MarshalVT()
	require.NoError(t, err)
	_, err = pushv1connect.NewPusherServiceClient(http.DefaultClient, url).Push(t.Context(), connect.NewRequest(&pushv1.PushRequest{
		Series: []*pushv1.RawProfileSeries{{
			Labels:  []*typesv1.LabelPair{{Name: "__name__", Value: "process_cpu"}, {Name: "service_name", Value: service}},
			Samples: []*pushv1.RawSample{{RawProfile: raw}},
		}},
	}))
	require.NoError(t, err)
}

// flameline runs a command of the program in this process.
func flameline(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// TestUploadedSymbolsNameOldProfiles uploads the debug file of a program whose profiles are
// stored already.
func TestUploadedSymbolsNameOldProfiles(t *testing.T) {
	full, debug, inner, outer, shape := compileShape(t)
	dir := filepath.Join(t.TempDir(), "store")
	serve := func() *process {
		p := launch(t, nil, "--storage.path", dir, "--ebpf.enabled", "false")
		p.waitReady(t)
		return p
	}
	p := serve()
	now, old := time.Now(), time.Now().Add(-72*time.Hour)
	// Two addresses of the caller, and of the callee, are one call each.
	pushUnknown(t, p.url, shapeBuildID, now, []uint64{inner, outer}, []uint64{inner + 4, outer + 4})
	pushUnknown(t, p.url, shapeBuildID, old, []uint64{inner + 1, outer + 1})
	// Another build of the program, at the same address as the first has nothing.
	pushUnknown(t, p.url, "0123456789", now, []uint64{inner + 2})
	// Without functions, as other profilers send: an address in a process.
	const loaded = 0x7f0000000000
	var code *elf.Prog
	for _, prog := range shape.Progs {
		if prog.Type == elf.PT_LOAD && prog.Flags&elf.PF_X != 0 {
			code = prog
		}
	}
	pushProfile(t, p.url, "other", &googlev1.Profile{
		StringTable: []string{"", "cpu", "nanoseconds", "/usr/bin/shape", shapeBuildID},
		SampleType:  []*googlev1.ValueType{{Type: 1, Unit: 2}}, PeriodType: &googlev1.ValueType{Type: 1, Unit: 2},
		Mapping:   []*googlev1.Mapping{{Id: 1, Filename: 3, BuildId: 4, MemoryStart: loaded, MemoryLimit: loaded + 0x10000, FileOffset: code.Off}},
		Location:  []*googlev1.Location{{Id: 1, MappingId: 1, Address: loaded + inner - code.Vaddr}},
		Sample:    []*googlev1.Sample{{LocationId: []uint64{1}, Value: []int64{5}}},
		TimeNanos: now.Add(-time.Second).UnixNano(), DurationNanos: 1e9,
	})

	unknown := functions(t, p.url, old)
	require.Len(t, unknown, 7, "%v", unknown)
	for name := range unknown {
		require.True(t, strings.HasPrefix(name, "shape+0x"), name)
	}

	sel := &flamelinev1.Selection{ProfileTypeID: "process_cpu:cpu:nanoseconds:cpu:nanoseconds", LabelSelector: "{}", Start: now.Add(-time.Minute).UnixMilli(), End: now.Add(time.Minute).UnixMilli()}
	queries := flamelinev1connect.NewQueryServiceClient(http.DefaultClient, p.url)
	unnamed := func(want int64) {
		t.Helper()
		graph, err := queries.FlameGraph(t.Context(), connect.NewRequest(&flamelinev1.FlameGraphRequest{Selection: sel}))
		require.NoError(t, err)
		require.Len(t, graph.Msg.Unnamed, 1)
		require.Equal(t, "shape", graph.Msg.Unnamed[0].Reason)
		require.Equal(t, want, graph.Msg.Unnamed[0].Value)
		require.Empty(t, graph.Msg.Cut)
	}
	unnamed(35)

	code1, out, errs := flameline(t, "symbols", "upload", "--server", p.url, full)
	require.Zero(t, code1, errs)
	require.Contains(t, out, shapeBuildID)
	_, out, _ = flameline(t, "symbols", "upload", "--server", p.url, full)
	require.Contains(t, out, "not sent")
	want := map[string]int64{"inner_work": 35, "outer_work": 0, fmt.Sprintf("shape+0x%x", inner+2): 10}
	named := func(url string) {
		t.Helper()
		require.Equal(t, want, functions(t, url, old), "of several days")
		require.Equal(t, map[string]int64{"inner_work": 25, "outer_work": 0, fmt.Sprintf("shape+0x%x", inner+2): 10}, functions(t, url, now))
	}
	named(p.url)

	unnamed(10)

	table, err := queries.Functions(t.Context(), connect.NewRequest(&flamelinev1.FunctionsRequest{Selection: sel}))
	require.NoError(t, err)
	totals := map[string]int64{}
	for _, f := range table.Msg.Functions {
		totals[f.Name] = f.Total.Value
	}
	require.Equal(t, map[string]int64{"inner_work": 25, "outer_work": 20, fmt.Sprintf("shape+0x%x", inner+2): 10}, totals)
	merged, err := querierv1connect.NewQuerierServiceClient(http.DefaultClient, p.url).SelectMergeProfile(t.Context(), connect.NewRequest(&querierv1.SelectMergeProfileRequest{
		ProfileTypeID: sel.ProfileTypeID, LabelSelector: "{}", Start: sel.Start, End: sel.End,
	}))
	require.NoError(t, err)
	require.Contains(t, merged.Msg.StringTable, "inner_work")
	require.Contains(t, merged.Msg.StringTable, "outer_work")

	// What is uploaded outlives a restart, and leaves the store sound.
	p.end(syscall.SIGTERM)
	status, out, errs := flameline(t, "store", "verify", dir)
	require.Zero(t, status, out+errs)
	p = serve()
	named(p.url)
	_, out, _ = flameline(t, "symbols", "list", "--server", p.url)
	require.Contains(t, out, shapeBuildID)
	require.Contains(t, out, " shape\n")

	status, _, errs = flameline(t, "symbols", "delete", "--server", p.url, shapeBuildID)
	require.Zero(t, status, errs)
	require.Equal(t, unknown, functions(t, p.url, old))

	// The debug file alone names the sampler's addresses.
	status, _, errs = flameline(t, "symbols", "upload", "--server", p.url, debug)
	require.Zero(t, status, errs)
	require.Equal(t, map[string]int64{
		"inner_work": 20, "outer_work": 0, fmt.Sprintf("shape+0x%x", inner): 5, fmt.Sprintf("shape+0x%x", inner+2): 10,
	}, functions(t, p.url, now))
}

// TestUploadRefuses tries uploads that are not taken.
func TestUploadRefuses(t *testing.T) {
	full, _, _, _, _ := compileShape(t)
	config := filepath.Join(t.TempDir(), "flameline.yml")
	require.NoError(t, os.WriteFile(config, []byte("symbols:\n  max_file_bytes: 4000\nlimits:\n  max_request_bytes: 1000\n"), 0o600))
	p := launch(t, nil, "--config.file", config, "--storage.path", filepath.Join(t.TempDir(), "store"), "--ebpf.enabled", "false")
	p.waitReady(t)
	status, _, errs := flameline(t, "symbols", "upload", "--server", p.url, full, config)
	require.Equal(t, 1, status)
	require.Contains(t, errs, "symbols.max_file_bytes")
	require.Contains(t, errs, config+": is not an ELF file")

	client := debuginfov1alpha1connect.NewDebuginfoServiceClient(http.DefaultClient, p.url)
	begin := func(f *debuginfov1alpha1.FileMetadata) (*debuginfov1alpha1.ShouldInitiateUploadResponse, error) {
		r, err := client.ShouldInitiateUpload(t.Context(), connect.NewRequest(&debuginfov1alpha1.ShouldInitiateUploadRequest{File: f}))
		if err != nil {
			return nil, err
		}
		return r.Msg, nil
	}
	for _, f := range []*debuginfov1alpha1.FileMetadata{
		nil, {GnuBuildId: "abcd"}, {GnuBuildId: "../..", Type: 1}, {GnuBuildId: strings.Repeat("a", 300), Type: 1}, {GnuBuildId: "abcd", Type: 1, Name: strings.Repeat("a", 900)},
	} {
		_, err := begin(f)
		if f != nil && len(f.Name) > 0 { // within the limit on names
			require.NoError(t, err)
			continue
		}
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), "%v", f)
	}
	r, err := begin(&debuginfov1alpha1.FileMetadata{Type: 1})
	require.NoError(t, err)
	require.False(t, r.ShouldInitiateUpload)
	post := func(id, body string) int {
		resp, err := http.Post(p.url+"/debuginfo.v1alpha1.DebuginfoService/Upload/"+id, "", strings.NewReader(body))
		require.NoError(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	require.Equal(t, http.StatusPreconditionFailed, post("beef", "x"))
	require.Equal(t, http.StatusBadRequest, post("abcd", "not an ELF file"))
	require.Equal(t, http.StatusBadRequest, post("abcd/../x", "x"))
	// What another client is uploading is not there yet, and the command says so.
	_, err = begin(&debuginfov1alpha1.FileMetadata{GnuBuildId: shapeBuildID, Type: 1, Name: "\x1b[31m"})
	require.NoError(t, err)
	status, _, errs = flameline(t, "symbols", "upload", "--server", p.url, full)
	require.Equal(t, 1, status)
	require.Contains(t, errs, "another upload of this file has begun: the server does not have the file")
	_, out, _ := flameline(t, "symbols", "list", "--server", p.url)
	require.Contains(t, out, "  being uploaded  0 bytes  ?[31m\n")
	_, err = client.UploadFinished(t.Context(), connect.NewRequest(&debuginfov1alpha1.UploadFinishedRequest{GnuBuildId: "abcd"}))
	require.Equal(t, connect.CodeFailedPrecondition, connect.CodeOf(err))
}

// TestUploadsLeaveDiskSpace uploads a file larger than the disk. Profiles and smaller files
// are taken afterwards.
func TestUploadsLeaveDiskSpace(t *testing.T) {
	if testing.Short() && os.Geteuid() != 0 {
		t.Skip("left out by -short without root: it mounts a small file system")
	}
	require.Zero(t, os.Geteuid(), "this test mounts a small file system, which needs root")
	dir := t.TempDir()
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"))
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	full, _, inner, outer, _ := compileShape(t)
	data, err := os.ReadFile(full)
	require.NoError(t, err)
	large := filepath.Join(t.TempDir(), "large")
	require.NoError(t, os.WriteFile(large, append(data, make([]byte, 30<<20)...), 0o600))
	p := launch(t, nil, "--storage.path", filepath.Join(dir, "store"), "--ebpf.enabled", "false")
	p.waitReady(t)
	status, _, errs := flameline(t, "symbols", "upload", "--server", p.url, large)
	require.Equal(t, 1, status)
	require.Contains(t, errs, "503")
	require.Contains(t, errs, "twice storage.min_free_bytes")
	left, err := os.ReadDir(filepath.Join(dir, "store", "symbols", "uploads"))
	require.NoError(t, err)
	require.Empty(t, left)
	now := time.Now()
	pushUnknown(t, p.url, shapeBuildID, now, []uint64{inner, outer})
	status, _, errs = flameline(t, "symbols", "upload", "--server", p.url, full)
	require.Zero(t, status, errs)
	require.Equal(t, map[string]int64{"inner_work": 10, "outer_work": 0}, functions(t, p.url, now))
}

// TestDebuginfodNamesPrograms has the service fetch the debug file of a stripped program.
func TestDebuginfodNamesPrograms(t *testing.T) {
	full, debug, inner, _, _ := compileShape(t)
	stripped := filepath.Join(t.TempDir(), "shape")
	out, err := exec.CommandContext(t.Context(), "strip", "-o", stripped, full).CombinedOutput()
	require.NoError(t, err, "%s", out)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/buildid/"+shapeBuildID+"/debuginfo" {
			http.NotFound(w, r)
			return
		}
		http.ServeFile(w, r, debug)
	}))
	t.Cleanup(server.Close)

	c := config.Default()
	c.Storage.Path = t.TempDir()
	c.Symbols.DebuginfodURLs = []string{server.URL}
	k, err := openSymbols(c, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, k.Close()) })
	s := k.symbolizer(symbolize.Options{})
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	s.Add(symbolize.FileID{1}, symbolize.Binary{Path: stripped})
	var lines []symbolize.Line
	require.Eventually(t, func() bool {
		var ok bool
		lines, ok = s.Lookup(symbolize.FileID{1}, inner)
		return ok
	}, 30*time.Second, time.Millisecond)
	require.Equal(t, "inner_work", lines[0].Function)
	require.NotZero(t, lines[0].Line)
	require.True(t, strings.HasSuffix(lines[0].File, "shape.c"), lines[0].File)
}

// TestUploadsHaveLines uploads the debug file of a stripped program: when the program is
// sampled, its functions have files and lines.
func TestUploadsHaveLines(t *testing.T) {
	full, debug, inner, _, _ := compileShape(t)
	stripped := filepath.Join(t.TempDir(), "shape")
	out, err := exec.CommandContext(t.Context(), "strip", "-o", stripped, full).CombinedOutput()
	require.NoError(t, err, "%s", out)
	c := config.Default()
	c.Storage.Path = t.TempDir()
	k, err := openSymbols(c, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, k.Close()) })
	s := k.symbolizer(symbolize.Options{})
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	s.Add(symbolize.FileID{1}, symbolize.Binary{Path: stripped})
	_, ok := s.Lookup(symbolize.FileID{1}, inner)
	require.False(t, ok)

	_, err = k.uploads.Begin(debuginfo.Upload{BuildID: shapeBuildID})
	require.NoError(t, err)
	f, err := os.Open(debug)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, k.uploads.Write(shapeBuildID, f, -1))
	require.NoError(t, k.uploads.Finish(shapeBuildID))
	lines, ok := s.Lookup(symbolize.FileID{1}, inner)
	require.True(t, ok)
	require.Equal(t, "inner_work", lines[0].Function)
	require.True(t, strings.HasSuffix(lines[0].File, "shape.c"), lines[0].File)
	require.EqualValues(t, 3, lines[0].Line)
}
