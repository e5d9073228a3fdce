// Package view changes what a flame graph shows: which stacktraces count, which frames are
// hidden or folded, in which direction it is read, and how deep. Trees and options are
// plain data, so the server applies them to all stacktraces of a selection, and the data
// source to the answers of servers that cannot.
//
// Where trees come from, and how they are cut, sent and drawn, is left to others; so are
// labels, except for joining the graphs of their values (Join).
package view

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/flameline/flameline/pkg/profile"
)

// Bounds of options.
const (
	MaxPattern = 1024 // length of a regular expression, in bytes
	MaxName    = 4096 // length of a function's name, in bytes
	MaxLabels  = 4    // labels that a graph is grouped by
)

// Options are what a flame graph shows. The zero value shows everything. They are applied
// in the order of the fields.
//
// Focus, Ignore, Hide and ShowFrom are patterns: see Parse.
type Options struct {
	// Focus keeps the stacktraces that have a matching frame.
	Focus string
	// Ignore drops the stacktraces that have a matching frame.
	Ignore string
	// Hide removes matching frames. Their own value goes to the caller.
	Hide string
	// ShowFrom removes the frames above the outermost matching one, and drops stacktraces
	// without one.
	ShowFrom string
	// Fold are names of sets of functions: successive frames of a set become one frame with
	// the set's name in brackets.
	Fold []string
	// Function leaves the outermost call of this function, as named after folding, with all
	// that it calls; with Reverse, with all that call it. Other stacktraces are dropped.
	Function string
	// CollapseRecursion lets a call of a function that is on the stack already continue at
	// that frame, so that each function is on a path once.
	CollapseRecursion bool
	// Reverse puts the functions that stacktraces end in first, with their callers below.
	Reverse bool
	// MaxDepth is the number of levels below the root; 0 means all. Deeper calls are one
	// frame named Deeper.
	MaxDepth int64
}

// Deeper is the name of the frame that has the calls beyond MaxDepth.
const Deeper = "(deeper calls)"

// IsZero reports whether the options change nothing.
func (o *Options) IsZero() bool {
	return o.Focus == "" && o.Ignore == "" && o.Hide == "" && o.ShowFrom == "" && len(o.Fold) == 0 &&
		o.Function == "" && !o.CollapseRecursion && !o.Reverse && o.MaxDepth == 0
}

// A FieldError says which field of a view cannot be used, and why. Names are those of the
// API, such as show_from.
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }
func (e *FieldError) Unwrap() error { return e.Err }

// Bits of what a function matches. Those of sets follow.
const (
	focusBit uint32 = 1 << iota
	ignoreBit
	hideBit
	showFromBit
	firstSetBit
)

// A View is options that were checked. It is safe for concurrent use.
type View struct {
	Options
	rules []rule
	sets  []string // names of folded frames, by bit from firstSetBit on
}

// A rule gives a bit to the functions that match a pattern.
type rule struct {
	field string
	bit   uint32
	Pattern
}

// New checks options. Errors are FieldErrors.
func New(o Options) (*View, error) {
	v := &View{Options: o}
	for _, f := range []struct {
		field, text string
		bit         uint32
	}{{"focus", o.Focus, focusBit}, {"ignore", o.Ignore, ignoreBit}, {"hide", o.Hide, hideBit}, {"show_from", o.ShowFrom, showFromBit}} {
		if f.text == "" {
			continue
		}
		p, err := Parse(f.text)
		if err != nil {
			return nil, &FieldError{f.field, err}
		}
		v.rules = append(v.rules, rule{f.field, f.bit, p})
	}
	bit := firstSetBit
	for i, name := range o.Fold {
		set, ok := Sets[name]
		if !ok {
			return nil, &FieldError{"fold", fmt.Errorf("%q is not one of %s", name, setNames())}
		}
		if slices.Contains(o.Fold[:i], name) {
			continue
		}
		for kind, text := range set {
			v.rules = append(v.rules, rule{"fold", bit, Pattern{kind, regexp.MustCompile(text)}})
		}
		v.sets = append(v.sets, "["+name+"]")
		bit <<= 1
	}
	switch {
	case len(o.Function) > MaxName:
		return nil, &FieldError{"function", fmt.Errorf("%d bytes are more than %d", len(o.Function), MaxName)}
	case o.MaxDepth < 0:
		return nil, &FieldError{"max_depth", fmt.Errorf("%d is below 0", o.MaxDepth)}
	}
	return v, nil
}

// ErrPlaces says that files and binaries are not known.
var ErrPlaces = errors.New("files and binaries of functions are not known here; use a pattern of function names")

// NeedsPlaces returns the error of the first field that needs files or binaries of
// functions, nil if none does.
func (v *View) NeedsPlaces() error {
	for _, r := range v.rules {
		if r.Kind != Function {
			return &FieldError{r.field, ErrPlaces}
		}
	}
	return nil
}

// Matches returns a bit for each pattern of a kind that a text matches.
func (v *View) Matches(kind Kind, text string) (bits uint32) {
	for i := range v.rules {
		if r := &v.rules[i]; r.Kind == kind && bits&r.bit == 0 && r.re.MatchString(text) {
			bits |= r.bit
		}
	}
	return bits
}

// Marks are the bits of functions, by name, from the files and binaries that they are in.
type Marks map[string]uint32

// has reports whether the view has a step of a bit.
func (v *View) has(bit uint32) bool {
	return slices.ContainsFunc(v.rules, func(r rule) bool { return r.bit == bit })
}

// set returns the name of the folded frame for bits, "" for none. Of several sets the first
// counts.
func (v *View) set(bits uint32) string {
	for i, name := range v.sets {
		if bits&(firstSetBit<<i) != 0 {
			return name
		}
	}
	return ""
}

// A Graph is a flame graph to which trees are added, with the stacktraces and frames that
// a view shows. What is dropped is own value of the root, whose total stays that of all
// that was added. It is not safe for concurrent use.
type Graph struct {
	// Room is called each time before the graph grows by a number of nodes; an error ends
	// Add or Tree. nil means no limit.
	Room func(nodes int64) error

	view   *View
	marks  Marks
	b      *profile.DiffBuilder
	room   int
	onPath []int32 // by name of b, of collapsed recursion: its frame on the path, 0 for none
	rest   string  // name of rest nodes, "" for none
}

// NewGraph returns an empty graph. marks may be nil.
func NewGraph(v *View, marks Marks) *Graph {
	return &Graph{view: v, marks: marks, b: profile.NewDiffBuilder()}
}

// roomStep is the number of nodes that Graph.Room is asked for at a time.
const roomStep = 4096

// child is DiffBuilder.Child, with room for the node.
func (g *Graph) child(parent, name int32) (int32, error) {
	if g.b.Len() >= g.room {
		if g.Room != nil {
			if err := g.Room(roomStep); err != nil {
				return 0, err
			}
		}
		g.room += roomStep
	}
	return g.b.Child(parent, name), nil
}

// Tree returns the graph with up to maxNodes nodes besides the root and rest nodes; 0 means
// all. It is cut as profile.DiffTree.TruncateFunctions does, unless it is reversed. The
// graph must not be used afterwards.
func (g *Graph) Tree(maxNodes int64) (*profile.DiffTree, error) {
	t := g.b.Tree()
	if g.rest != "" {
		t.Rest = int32(max(slices.Index(t.Names, g.rest), 0))
	}
	switch {
	case g.view.Reverse:
		return reverse(t, g.view.MaxDepth, maxNodes, g.Room)
	case maxNodes <= 0:
		return t, nil
	case t.Rest != 0:
		return t.Truncate(maxNodes + 1), nil
	}
	if g.Room != nil && int64(len(t.Nodes)) > maxNodes {
		if err := g.Room(int64(len(t.Nodes))); err != nil { // for the cut
			return nil, err
		}
	}
	return t.TruncateFunctions(maxNodes), nil
}
