package ingest

import (
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/google/pprof/profile"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// maxFrameWork bounds the cost of drop_frames and keep_frames: the instructions of the
// compiled expressions times the bytes of all names.
const maxFrameWork = 4 << 30

// dropFrames applies the regular expressions drop_frames and keep_frames of a valid
// profile, as `go tool pprof` does: a matching function is removed with everything it
// calls, so that the value of an allocator's internals counts for their caller.
// Expressions that cannot be used are skipped, and the report says so.
func dropFrames(p *googlev1.Profile, r *Report) {
	drop, keep, err := frameExpressions(p)
	if err != nil {
		r.Skip("frames", err.Error(), 1)
		return
	}
	// The library's profile has only the parts that the library looks at.
	functions := make(map[uint64]*profile.Function, len(p.Function))
	for _, f := range p.Function {
		functions[f.Id] = &profile.Function{ID: f.Id, Name: p.StringTable[f.Name]}
	}
	like := &profile.Profile{Location: make([]*profile.Location, len(p.Location)), Sample: make([]*profile.Sample, len(p.Sample))}
	locations := make(map[uint64]*profile.Location, len(p.Location))
	for i, l := range p.Location {
		to := &profile.Location{ID: l.Id, Line: make([]profile.Line, len(l.Line))}
		for j, line := range l.Line {
			to.Line[j].Function = functions[line.FunctionId]
		}
		like.Location[i], locations[l.Id] = to, to
	}
	for i, s := range p.Sample {
		to := &profile.Sample{Location: make([]*profile.Location, len(s.LocationId))}
		for j, id := range s.LocationId {
			to.Location[j] = locations[id]
		}
		like.Sample[i] = to
	}
	like.Prune(drop, keep)
	// The library removes frames at the leaf, which comes first.
	for i, l := range p.Location {
		l.Line = l.Line[len(l.Line)-len(like.Location[i].Line):]
	}
	for i, s := range p.Sample {
		s.LocationId = s.LocationId[len(s.LocationId)-len(like.Sample[i].Location):]
	}
}

// frameExpressions compiles drop_frames and keep_frames. keep is nil if the profile has
// none.
func frameExpressions(p *googlev1.Profile) (drop, keep *regexp.Regexp, err error) {
	instructions := 0
	compile := func(text, field string) (*regexp.Regexp, error) {
		text = "^(" + text + ")$"
		parsed, err := syntax.Parse(text, syntax.Perl)
		if err != nil {
			return nil, fmt.Errorf("%s, which is not a regular expression", field)
		}
		prog, err := syntax.Compile(parsed.Simplify())
		if err != nil {
			return nil, fmt.Errorf("%s, which is not a regular expression", field)
		}
		instructions += len(prog.Inst)
		return regexp.Compile(text)
	}
	if drop, err = compile(p.StringTable[p.DropFrames], "drop_frames"); err != nil {
		return nil, nil, err
	}
	if text := p.StringTable[p.KeepFrames]; text != "" {
		if keep, err = compile(text, "keep_frames"); err != nil {
			return nil, nil, err
		}
	}
	bytes := 0
	for _, f := range p.Function {
		bytes += len(p.StringTable[f.Name])
	}
	if bytes > 0 && instructions > maxFrameWork/bytes {
		return nil, nil, fmt.Errorf("drop_frames, which would take too long for the names of this profile")
	}
	return drop, keep, nil
}
