package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/collector/symbolize"
)

// jemallocDump returns a heap profile of a running program with jemalloc, as the program
// wrote it.
func jemallocDump(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	binary, dump := filepath.Join(dir, "program"), filepath.Join(dir, "heap")
	out, err := exec.Command("gcc", "-O1", "-fno-builtin", "-o", binary, "-x", "c", "scrape/testdata/jemalloc.c.txt", "-ljemalloc").CombinedOutput()
	require.NoError(t, err, "Debian's package is libjemalloc-dev: %s", out)
	cmd := exec.Command(binary, dump)
	cmd.Env = append(os.Environ(), "MALLOC_CONF=prof:true,lg_prof_sample:13")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	answers, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	read := bufio.NewReader(answers)
	for _, command := range []string{"keep 100000", "heap"} {
		fmt.Fprintln(in, command)
		line, err := read.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "0\n", line)
	}
	text, err := os.ReadFile(dump)
	require.NoError(t, err)
	return text
}

func decodeHeap(t *testing.T, text []byte) *googlev1.Profile {
	t.Helper()
	p, _, err := ingest.Pprof(text, ingest.Limits{})
	require.NoError(t, err)
	return p
}

// A native profile gets its functions from the files of its process, and from no other
// process.
func TestLocalSymbols(t *testing.T) {
	text := jemallocDump(t)
	symbols := symbolize.New(symbolize.Options{})
	defer symbols.Close()
	s := newLocalSymbols("/proc", symbols)

	p := decodeHeap(t, text)
	lookup := s.lookup(p)
	require.NotNil(t, lookup)
	ingest.NameAddresses(p, lookup, ingest.Limits{})
	functions := map[uint64]string{}
	for _, f := range p.Function {
		functions[f.Id] = p.StringTable[f.Name]
	}
	stack := func(s *googlev1.Sample) string {
		var names []string
		for _, id := range s.LocationId {
			for _, l := range p.Location {
				if l.Id == id && len(l.Line) > 0 {
					names = append(names, functions[l.Line[0].FunctionId])
				}
			}
		}
		return strings.Join(names, ";")
	}
	var total, kept int64
	for _, sample := range p.Sample {
		total += sample.Value[1]
		if strings.Contains(stack(sample), "keep;fill;main") {
			kept += sample.Value[1]
		}
	}
	require.InEpsilon(t, 6_400_000, kept, 0.2, "of %d bytes", total)

	for name, change := range map[string]func(string) string{
		"another process": func(s string) string {
			lines := strings.Split(s, "\n")
			for i, line := range lines {
				if strings.HasSuffix(line, vdsoMapping) {
					lines[i] = "7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 " + vdsoMapping
				}
			}
			return strings.Join(lines, "\n")
		},
		"another file": func(s string) string { return strings.ReplaceAll(s, "/program\n", "/other\n") },
		"no vdso":      func(s string) string { return strings.ReplaceAll(s, vdsoMapping, "") },
		"no mappings":  func(s string) string { before, _, _ := strings.Cut(s, "MAPPED_LIBRARIES"); return before },
	} {
		require.Nil(t, s.lookup(decodeHeap(t, []byte(change(string(text))))), name)
	}
}
