package tools

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/flameline/flameline/collector/fold"
	"github.com/flameline/flameline/collector/render"
	"github.com/flameline/flameline/pkg/profile"
)

// ConvertOptions are the arguments of `flameline convert`.
type ConvertOptions struct {
	Read  ReadOptions
	In    string // file to read
	Type  string // profile type that is shown, where the format has one; "" for the default
	Title string
	Out   Output
	// Note is told what was left out or corrected.
	Note func(string)
}

// Convert reads a file of any format and writes it in another one.
func Convert(ctx context.Context, o ConvertOptions) error {
	format, err := o.Out.format(render.Folded)
	if err != nil {
		return err
	}
	in, err := Read(ctx, o.In, o.Read)
	if err != nil {
		return err
	}
	for _, n := range in.Notes {
		o.Note(in.Name + ": " + n)
	}
	if in.Sides != nil {
		c := comparison(in.title(o.Title), "two columns of "+in.title(""), profile.Diff(in.Sides[0], in.Sides[1]), countType)
		return o.Out.write(func(w io.Writer) error { return render.WriteDiff(w, format, c) })
	}
	d, err := in.document(o.Type, format)
	if err != nil {
		return fmt.Errorf("%s: %w", in.Name, err)
	}
	if o.Title != "" {
		d.Title = o.Title
	}
	if types := typesOf(in.Profiles); len(types) > 1 && format != render.Pprof && o.Type == "" {
		var names []string
		for _, t := range types {
			names = append(names, nameOf(t, types))
		}
		o.Note(fmt.Sprintf("%s: shows %s; --type selects one of %s", in.Name, d.Type.SampleType, strings.Join(names, ", ")))
	}
	return o.Out.write(func(w io.Writer) error { return render.Write(w, format, d) })
}

// title returns a title, by default the file's name.
func (in *Input) title(given string) string {
	switch {
	case given != "":
		return given
	case in.Name == "standard input":
		return "profile"
	}
	if in.Range.valid() {
		return in.Name
	}
	return filepath.Base(in.Name)
}

// countType is the type of folded stacks, whose numbers count anything.
var countType = profile.Type{SampleType: "samples", SampleUnit: "count"}

// perfType is the type of the output of `perf script`: the event, in its own unit, which
// is time for clocks that say how long a sample's period is, and else a count.
func perfType(s *fold.Stacks) profile.Type {
	t := countType
	event, _, _ := strings.Cut(s.Event, ":")
	if event == "" {
		return t
	}
	t.SampleType = event
	if s.Periods && (event == "cpu-clock" || event == "task-clock") {
		t.SampleUnit = "nanoseconds"
	}
	return t
}

// kinds are the types that a file has.
func (in *Input) kinds() []profile.Type {
	if in.Stacks != nil {
		return []profile.Type{perfType(in.Stacks)}
	}
	return typesOf(in.Profiles)
}

// kind returns the type that a user named, or the default.
func (in *Input) kind(named string) (profile.Type, error) {
	if in.Stacks == nil {
		return chooseType(in.Profiles, named)
	}
	if t := perfType(in.Stacks); named == "" || named == t.SampleType {
		return t, nil
	}
	return profile.Type{}, usage("--type: %q is not in the file, which has %s", named, in.Stacks.Event)
}

// tree returns the stacktraces of one type.
func (in *Input) tree(named string) (*profile.Tree, profile.Type, error) {
	t, err := in.kind(named)
	if err != nil {
		return nil, t, err
	}
	if in.Stacks != nil {
		return in.Stacks.Tree, t, nil
	}
	return treeOf(in.Profiles, t), t, nil
}

// document returns what a format needs of a file.
func (in *Input) document(named string, format render.Format) (*render.Document, error) {
	tree, t, err := in.tree(named)
	if err != nil {
		return nil, err
	}
	d := &render.Document{Title: in.title(""), Type: t, Tree: tree}
	if in.Stacks != nil {
		d.Folded = in.Stacks.WriteFolded
		if format != render.Folded {
			d.Tree = validNames(tree)
		}
		return d, nil
	}
	start, length := spanOf(in.Profiles)
	if start > 0 {
		d.Start = time.Unix(0, start)
		d.Subtitle = d.Start.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	d.Duration = time.Duration(length)
	if length > 0 {
		d.Subtitle = strings.TrimPrefix(d.Subtitle+", "+d.Duration.Round(time.Millisecond).String(), ", ")
	}
	if format == render.Pprof {
		if d.Pprof, err = mergePprof(in.Profiles); err != nil {
			return nil, err
		}
	}
	return d, nil
}
