package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/pkg/profile"
)

// A SampleType describes one sample type of a pushed pprof profile, in the part
// sample_type_config.
type SampleType struct {
	Units       string `json:"units"`
	DisplayName string `json:"display-name"`
	Aggregation string `json:"aggregation"`
	Cumulative  bool   `json:"cumulative"`
	Sampled     bool   `json:"sampled"`
}

// usualSampleTypes are the defaults for a push without sample_type_config.
var usualSampleTypes = map[string]SampleType{
	"samples":     {DisplayName: "cpu"},
	"goroutine":   {DisplayName: "goroutines"},
	"contentions": {DisplayName: "mutex_count"},
	"delay":       {DisplayName: "mutex_duration"},
}

// SampleTypes reads the part sample_type_config: a JSON object with a SampleType per
// sample type. It returns nil for nil.
func SampleTypes(b []byte, l Limits) (map[string]SampleType, error) {
	if len(b) == 0 {
		return nil, nil
	}
	// A map's entry takes about as much as its key and value, twice.
	if err := CheckJSON(b, l, 2*int64(unsafe.Sizeof(SampleType{}))); err != nil {
		return nil, fmt.Errorf("sample_type_config: %w", err)
	}
	var out map[string]SampleType
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("sample_type_config: %w", jsonError(err))
	}
	return out, nil
}

// PushedPprof reads a pprof profile as Pprof does, and treats it as Pyroscope's /ingest
// treats those of its SDKs: the first part of the profile type follows from types, which
// SampleTypes has read, and from the sample types; a profile without a time gets the
// push's; functions of Python and Ruby are named "file name", except Python's with an
// absolute path.
func PushedPprof(body []byte, types map[string]SampleType, m Push, l Limits) (ps []profile.Profile, size int, err error) {
	if len(body) == 0 {
		return nil, 0, nil
	}
	_, named := types["inuse-space"]
	dotnet := m.SpyName == "dotnetspy" || m.SpyName == "unknown" && named
	repair := func(*googlev1.Profile) {}
	if dotnet {
		repair = numberFunctions
	}
	p, size, err := readPprof(body, l, repair)
	if err != nil {
		return nil, 0, err
	}
	p.TimeNanos, p.DurationNanos = m.profileTime(p.TimeNanos, p.DurationNanos, l.Report)
	switch m.SpyName {
	case "pyspy", "rbspy", "scripting":
		if err := nameByFile(p, m.SpyName == "pyspy", l); err != nil {
			return nil, 0, fmt.Errorf("pprof: %w", err)
		}
	}
	if dotnet {
		underscore(p)
	}
	return []profile.Profile{{Labels: m.named(metricOf(p, types)), Pprof: p}}, size, nil
}

// metricOf returns the first part of the profile type, as Pyroscope's
// pkg/og/convert/pprof does.
func metricOf(p *googlev1.Profile, types map[string]SampleType) string {
	if types == nil {
		types = usualSampleTypes
	}
	name := ""
	for _, t := range p.SampleType {
		if name = p.StringTable[t.Type]; name == "wall" {
			return name
		}
	}
	for _, t := range p.SampleType {
		name = p.StringTable[t.Type]
		if shown := types[name].DisplayName; shown != "" {
			name = shown
		}
		switch {
		case name == "off_cpu": // of our recordings
			return name
		case strings.Contains(name, "cpu"):
			return "process_cpu"
		case strings.Contains(name, "alloc_"), strings.Contains(name, "inuse_"), name == "space", name == "objects":
			return "memory"
		case strings.Contains(name, "mutex_"):
			return "mutex"
		case strings.Contains(name, "block_"):
			return "block"
		case strings.Contains(name, "goroutines"):
			return "goroutines"
		}
	}
	return name
}

// nameByFile puts the file before each function's name, since scripting languages often
// have functions of the same name in different files. If short is set, functions in
// files with absolute paths keep their names.
func nameByFile(p *googlev1.Profile, short bool, l Limits) error {
	type pair struct{ file, name int64 }
	names := map[pair]int64{}
	var bytes int64
	for _, f := range p.Function {
		file := p.StringTable[f.Filename]
		if file == "" || short && filepath.IsAbs(file) {
			continue
		}
		key := pair{f.Filename, f.Name}
		n, ok := names[key]
		if !ok {
			name := file + " " + p.StringTable[f.Name]
			if exceeds(len(name), l.MaxSymbolBytes) {
				return fmt.Errorf("function %.64q: the name with the file has %d bytes, more than %d (limits.max_symbol_bytes)", p.StringTable[f.Name], len(name), l.MaxSymbolBytes)
			}
			if bytes += int64(len(name)); exceeds(bytes, l.MaxProfileBytes) {
				return tooLarge(l.MaxProfileBytes)
			}
			n = int64(len(p.StringTable))
			p.StringTable = append(p.StringTable, name)
			names[key] = n
		}
		f.Name = n
	}
	return nil
}

// numberFunctions gives IDs to the functions of .NET's old agent, which have none; lines
// refer to them by the IDs of locations.
func numberFunctions(p *googlev1.Profile) {
	if len(p.Function) != len(p.Location) || slices.ContainsFunc(p.Function, func(f *googlev1.Function) bool { return f.Id != 0 }) {
		return
	}
	for i, l := range p.Location {
		p.Function[i].Id = l.Id
	}
}

// underscore writes the sample types of .NET's agent, such as inuse-space, with
// underscores as others do.
func underscore(p *googlev1.Profile) {
	for _, t := range p.SampleType {
		if name := p.StringTable[t.Type]; strings.Contains(name, "-") {
			t.Type = int64(len(p.StringTable))
			p.StringTable = append(p.StringTable, strings.ReplaceAll(name, "-", "_"))
		}
	}
}

// errPrevious refuses pushes of SDKs from before 2023.
var errPrevious = errors.New("prev_profile: the server does not subtract a previous profile; update the SDK, which does that itself")

// PprofForm reads a form's parts profile, which is a pprof profile, and
// sample_type_config.
func PprofForm(parts map[string][]byte, m Push, l Limits) (ps []profile.Profile, size int, err error) {
	if len(parts["prev_profile"]) > 0 {
		return nil, 0, errPrevious
	}
	body, ok := parts["profile"]
	if !ok {
		names := make([]string, 0, len(parts))
		for name := range parts {
			names = append(names, name)
		}
		slices.Sort(names)
		return nil, 0, fmt.Errorf("profile: the form has no part of this name, only %q", names)
	}
	for name := range parts {
		if name != "profile" && name != "prev_profile" && name != "sample_type_config" {
			l.Report.Skip("part", name+" of the form", 1)
		}
	}
	types, err := SampleTypes(parts["sample_type_config"], l)
	if err != nil {
		return nil, 0, err
	}
	return PushedPprof(body, types, m, l)
}
