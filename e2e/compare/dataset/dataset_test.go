package dataset

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// parse reads a profile with pprof's own package, which checks all references.
func parse(t *testing.T, p Profile, at time.Time) *profile.Profile {
	t.Helper()
	b, err := p.At(at)
	require.NoError(t, err)
	out, err := profile.ParseData(b)
	require.NoError(t, err)
	require.NoError(t, out.CheckValid())
	return out
}

func TestGeneratedProfilesLookReal(t *testing.T) {
	set, err := Generate(Options{Services: 2, Pods: 2, Minutes: 10})
	require.NoError(t, err)
	require.Len(t, set.Profiles, 2*2*60)
	require.Equal(t, []string{"cart", "checkout"}, set.Services())
	require.Len(t, set.Of("cart"), 2*60)

	stacks, samples := map[string]bool{}, 0
	functions := map[string]bool{}
	for _, p := range set.Of("cart") {
		require.Less(t, p.Offset, set.Length)
		got := parse(t, p, noon)
		require.Equal(t, noon.UnixNano(), got.TimeNanos)
		require.Equal(t, "cpu", got.PeriodType.Type)
		samples += len(got.Sample)
		for _, s := range got.Sample {
			require.Equal(t, []int64{s.Value[0], s.Value[0] * 1e7}, s.Value)
			key := ""
			for _, l := range s.Location {
				key += fmt.Sprint(l.Address, " ")
			}
			stacks[key] = true
		}
		for _, f := range got.Function {
			functions[f.Name] = true
		}
	}
	mean := samples / len(set.Of("cart"))
	require.True(t, 400 < mean && mean < 500, "stacks of a profile: %d", mean)
	require.Greater(t, len(stacks), 3500, "stacks of a service in ten minutes")
	require.Greater(t, len(functions), 1500, "functions of a service in ten minutes")
}

func TestGenerateTwice(t *testing.T) {
	var first []byte
	for range 2 {
		set, err := Generate(Options{Services: 1, Pods: 1, Minutes: 1})
		require.NoError(t, err)
		b, err := set.Profiles[3].At(noon)
		require.NoError(t, err)
		if first != nil {
			require.True(t, bytes.Equal(first, b), "the same options gave other bytes")
		}
		first = b
	}
}

func TestGenerateNothing(t *testing.T) {
	_, err := Generate(Options{Services: 1, Pods: 0, Minutes: 1})
	require.ErrorContains(t, err, "0 pods")
}

// folder writes profiles as a folder with a manifest.
func folder(t *testing.T, profiles []Profile, change func(*entry)) string {
	t.Helper()
	dir := t.TempDir()
	var lines bytes.Buffer
	for i, p := range profiles {
		b, err := p.At(noon)
		require.NoError(t, err)
		raw, err := decompress(b)
		require.NoError(t, err)
		e := entry{File: fmt.Sprintf("%d.pb.gz", i), Labels: map[string]string{}, OffsetMs: p.Offset.Milliseconds(), RawBytes: int64(len(raw))}
		for _, l := range p.Labels {
			e.Labels[l.Name] = l.Value
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, e.File), b, 0o644))
		if change != nil {
			change(&e)
		}
		require.NoError(t, json.NewEncoder(&lines).Encode(e))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, manifest), lines.Bytes(), 0o644))
	return dir
}

func TestReadFolder(t *testing.T) {
	made, err := Generate(Options{Services: 2, Pods: 1, Minutes: 2})
	require.NoError(t, err)
	read, err := Read(folder(t, made.Profiles, nil))
	require.NoError(t, err)
	require.Equal(t, made.Length, read.Length)
	require.Len(t, read.Profiles, len(made.Profiles))
	for i, p := range read.Profiles {
		require.Equal(t, made.Profiles[i].Labels, p.Labels)
		require.Equal(t, made.Profiles[i].Offset, p.Offset)
		at := noon.Add(time.Hour)
		want, got := parse(t, made.Profiles[i], at), parse(t, p, at)
		require.Equal(t, want.String(), got.String())
	}
}

func TestReadNamesWhatIsWrong(t *testing.T) {
	made, err := Generate(Options{Services: 1, Pods: 1, Minutes: 1})
	require.NoError(t, err)
	for want, change := range map[string]func(*entry){
		`manifest.jsonl:1: file "../x" is not below`:    func(e *entry) { e.File = "../x" },
		"manifest.jsonl:1: labels have no service_name": func(e *entry) { delete(e.Labels, "service_name") },
		"manifest.jsonl:1: offset_ms is negative":       func(e *entry) { e.OffsetMs = -1 },
	} {
		_, err := Read(folder(t, made.Profiles, change))
		require.ErrorContains(t, err, want)
	}
	_, err = Read(t.TempDir())
	require.ErrorIs(t, err, os.ErrNotExist)

	set, err := Read(folder(t, made.Profiles, func(e *entry) { e.RawBytes++ }))
	require.NoError(t, err)
	_, err = set.Profiles[0].At(noon)
	require.ErrorContains(t, err, "manifest.jsonl says")
}

func TestRetimeOfBrokenBytes(t *testing.T) {
	_, err := retime([]byte{0x0a, 0x7f, 1}, noon)
	require.ErrorContains(t, err, "field at byte 0")
}
