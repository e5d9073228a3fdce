package tools

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/bits"
	"strings"
	"time"

	"github.com/flameline/flameline/collector/render"
	"github.com/flameline/flameline/pkg/profile"
)

// Table is the format of a comparison for terminals: a table of functions.
const Table render.Format = "table"

// DiffOutputs are the formats of comparisons.
var DiffOutputs = append([]string{string(Table)}, render.DiffFormats...)

// DiffOptions are the arguments of `flameline diff`.
type DiffOptions struct {
	Read ReadOptions
	// Sides are files, or selectors of profiles on a server; the left one is the
	// baseline.
	Sides [2]string
	// Server answers selectors, Ranges are their times.
	Server *Server
	Ranges [2]Range
	Type   string
	Title  string
	// Normalize scales the left side to the total of the right one, PerSecond to its
	// duration: what is compared then are shares, or rates.
	Normalize, PerSecond bool
	// Elided shows only what is on the left and not on the right.
	Elided bool
	Top    int // functions in the table
	Out    Output
	Note   func(string)
}

// A side is one of two profiles.
type side struct {
	title    string
	tree     *profile.Tree
	kind     profile.Type
	duration time.Duration
}

// Diff compares two profiles.
func Diff(ctx context.Context, o DiffOptions) error {
	if o.Normalize && o.PerSecond {
		return usage("--normalize and --per-second exclude each other: one compares shares, the other rates")
	}
	if o.Sides[0] == "-" && o.Sides[1] == "-" {
		return usage("only one side can be the standard input")
	}
	format, err := o.format()
	if err != nil {
		return err
	}
	var ins [2]*Input
	for i, name := range o.Sides {
		if ins[i], err = o.read(ctx, name, o.Ranges[i]); err != nil {
			return err
		}
	}
	kinds, err := o.kinds(ins)
	if err != nil {
		return err
	}
	var sides [2]*side
	for i, in := range ins {
		sides[i] = in.side(kinds[i])
	}
	l, r := sides[0], sides[1]
	switch {
	case o.PerSecond && (l.duration <= 0 || r.duration <= 0):
		return fmt.Errorf("--per-second: %s does not say how long it was recorded", map[bool]string{true: l.title, false: r.title}[l.duration <= 0])
	case o.PerSecond:
		err = scaleTree(l.tree, int64(r.duration), int64(l.duration))
	case o.Normalize && l.tree.Total() > 0:
		l.kind = r.kind
		err = scaleTree(l.tree, r.tree.Total(), l.tree.Total())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", l.title, err)
	}
	diff := profile.Diff(l.tree, r.tree)
	title := o.Title
	if title == "" {
		if title = l.title; l.title != r.title {
			title += " and " + r.title
		}
	}
	subtitle := fmt.Sprintf("left %s, right %s", profile.FormatValue(l.tree.Total(), l.kind.SampleUnit), profile.FormatValue(r.tree.Total(), r.kind.SampleUnit))
	if o.Elided {
		d := &render.Document{
			Title: "Vanished: " + title, Type: l.kind, Tree: elided(diff),
			Subtitle: "on the left and not on the right, of " + profile.FormatValue(l.tree.Total(), l.kind.SampleUnit),
		}
		return o.Out.write(func(w io.Writer) error {
			if format == Table {
				return writeTable(w, profile.Diff(d.Tree, profile.NewBuilder(0).Tree()), l.kind.SampleUnit, o.Top)
			}
			return render.Write(w, format, d)
		})
	}
	return o.Out.write(func(w io.Writer) error {
		if format == Table {
			return writeTable(w, diff, l.kind.SampleUnit, o.Top)
		}
		return render.WriteDiff(w, format, comparison(title, subtitle, diff, l.kind))
	})
}

func comparison(title, subtitle string, d *profile.DiffTree, t profile.Type) *render.Comparison {
	return &render.Comparison{Title: title, Subtitle: subtitle, Tree: d, Type: t}
}

// format returns the format that was asked for; by default a table on a terminal, folded
// stacks in a pipe.
func (o *DiffOptions) format() (render.Format, error) {
	if o.Out.To == string(Table) || o.Out.To == "" && o.Out.toStdout() && o.Out.Terminal {
		return Table, nil
	}
	f, err := o.Out.format(render.Folded)
	if err != nil {
		return f, err
	}
	switch f {
	case render.Folded, render.SVG, render.HTML:
		return f, nil
	}
	return f, usage("a comparison cannot be written as %s, only as %s", f, strings.Join(DiffOutputs, ", "))
}

// read reads a file, or asks the server if the name is a selector and no file.
func (o *DiffOptions) read(ctx context.Context, name string, r Range) (*Input, error) {
	var in *Input
	var err error
	if isQuery(name) {
		in, err = o.Server.Query(ctx, name, r)
	} else {
		in, err = Read(ctx, name, o.Read)
	}
	if err != nil {
		return nil, err
	}
	for _, n := range in.Notes {
		o.Note(in.Name + ": " + n)
	}
	if in.Sides != nil {
		return nil, fmt.Errorf("%s: is a comparison of two profiles itself; `flameline convert` draws it", in.Name)
	}
	return in, nil
}

// side returns a file's stacktraces of a type.
func (in *Input) side(t profile.Type) *side {
	s := &side{title: in.title(""), kind: t}
	if in.Stacks != nil {
		s.tree = in.Stacks.Tree
	} else {
		s.tree = treeOf(in.Profiles, t)
	}
	s.tree = validNames(s.tree)
	_, length := spanOf(in.Profiles)
	if s.duration = time.Duration(length); in.Range.valid() {
		s.duration = in.Range.Until.Sub(in.Range.From)
	}
	return s
}

// kinds chooses the types to compare: those that the flag names, or the default of each
// side. If these cannot be compared since one is in another unit, it takes a type that
// both sides have, and a note says so.
func (o *DiffOptions) kinds(ins [2]*Input) (kinds [2]profile.Type, err error) {
	for i, in := range ins {
		if kinds[i], err = in.kind(o.Type); err != nil {
			return kinds, fmt.Errorf("%s: %w", in.Name, err)
		}
	}
	units := sameUnits(kinds[0], kinds[1])
	if units != nil && o.Type == "" && !o.Normalize {
		if both, ok := sharedTypes(ins); ok {
			var instead []string
			for i, in := range ins {
				if both[i] != kinds[i] {
					instead = append(instead, fmt.Sprintf("%s of %s", kinds[i].SampleType, in.Name))
				}
			}
			o.Note(fmt.Sprintf("compares %s (%s), which both have, and not %s", both[0].SampleType, both[0].SampleUnit, strings.Join(instead, " and ")))
			return both, nil
		}
	}
	differ := ins[0].measures(kinds[0]) != "" && ins[1].measures(kinds[1]) != "" && ins[0].measures(kinds[0]) != ins[1].measures(kinds[1])
	switch names := [2]string{ins[0].title(""), ins[1].title("")}; {
	case differ && o.Normalize:
		o.Note(fmt.Sprintf("compares the shares of different things: of %s in %s and of %s in %s", kinds[0].SampleType, names[0], kinds[1].SampleType, names[1]))
	case o.Normalize: // shares have no unit
	case units != nil:
		return kinds, fmt.Errorf("%s and %s: %w", names[0], names[1], units)
	case differ:
		return kinds, fmt.Errorf("%s has %s and %s has %s, which measure different things; --type selects a type of both, and --normalize compares shares", names[0], kinds[0].SampleType, names[1], kinds[1].SampleType)
	}
	return kinds, nil
}

// sharedTypes returns a type that both sides have, with the same name and unit.
func sharedTypes(ins [2]*Input) (both [2]profile.Type, ok bool) {
	for _, l := range ins[0].kinds() {
		for _, r := range ins[1].kinds() {
			if l.SampleType == r.SampleType && sameUnits(l, r) == nil {
				return [2]profile.Type{l, r}, true
			}
		}
	}
	return both, false
}

// measures names what the values of a type are of, "" if they may be of anything: folded
// stacks have only numbers, and the counts of perf are numbers of samples. CPU time has
// several names.
func (in *Input) measures(t profile.Type) string {
	switch {
	case in.Stacks != nil && t.SampleUnit == "count", in.Format == folded, in.Format == flameHTML:
		return ""
	case t.SampleType == "cpu-clock" || t.SampleType == "task-clock":
		return "cpu"
	case t.SampleType == "samples" && t.SampleUnit != "count": // of time, by older SDKs
		return ""
	}
	return t.SampleType
}

// sameUnits returns an error for types whose values cannot be compared.
func sameUnits(l, r profile.Type) error {
	ld, ls := profile.ParseUnit(l.SampleUnit)
	rd, rs := profile.ParseUnit(r.SampleUnit)
	if ld == rd && ls == rs {
		return nil
	}
	return fmt.Errorf("the units differ: %s in %s, and %s in %s; --type selects a type of both, and --normalize compares shares", l.SampleType, l.SampleUnit, r.SampleType, r.SampleUnit)
}

// scaleTree multiplies the values of a tree by n/d. Rounding errors are carried from node
// to node, so that the total is right.
func scaleTree(t *profile.Tree, n, d int64) error {
	var whole, rest uint64 // of what is not yet given out, in parts of d
	for i := range t.Nodes {
		hi, lo := bits.Mul64(uint64(t.Nodes[i].Self), uint64(n))
		lo, carry := bits.Add64(lo, rest, 0)
		if hi += carry; hi >= uint64(d) {
			return fmt.Errorf("a value times %d/%d is more than %d", n, d, int64(math.MaxInt64))
		}
		whole, rest = bits.Div64(hi, lo, uint64(d))
		if whole > math.MaxInt64/2 {
			return fmt.Errorf("a value times %d/%d is more than %d", n, d, int64(math.MaxInt64/2))
		}
		t.Nodes[i].Self = int64(whole)
	}
	for i := range t.Nodes {
		t.Nodes[i].Total = t.Nodes[i].Self
	}
	for i := len(t.Nodes) - 1; i > 0; i-- {
		t.Nodes[t.Nodes[i].Parent].Total += t.Nodes[i].Total
	}
	return nil
}

// elided returns the tree of the calls that are on the left and not on the right, below
// their callers, which have no value of their own.
func elided(d *profile.DiffTree) *profile.Tree {
	b := profile.NewBuilder(len(d.Nodes))
	at := make([]int32, len(d.Nodes))
	gone := make([]bool, len(d.Nodes))
	for i := len(d.Nodes) - 1; i > 0; i-- { // callees first
		n := &d.Nodes[i]
		if n.Self > 0 && n.TotalRight == 0 {
			gone[i] = true
		}
		if gone[i] {
			gone[n.Parent] = true
		}
	}
	for i := 1; i < len(d.Nodes); i++ {
		n := &d.Nodes[i]
		if !gone[i] {
			continue
		}
		at[i] = b.Child(at[n.Parent], b.Name(d.Names[n.Name]))
		if n.TotalRight == 0 {
			b.Add(at[i], n.Self)
		}
	}
	return b.Tree()
}
