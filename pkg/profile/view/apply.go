package view

import (
	"slices"

	"github.com/flameline/flameline/pkg/profile"
)

// A shown is what the frames of a function become.
type shown struct {
	known bool
	plain bool   // it is one function: not a folded set, not a rest node
	bits  uint32 // what it matches
	name  int32  // of the graph
}

// What is true of a stacktrace from the root to a frame.
const (
	focused = 1 << iota // a frame matched Focus
	from                // a frame matched ShowFrom
	found               // a frame is Function
)

// A caller is a call on the path from the root to the one that is added. Its frame, if it
// has one of its own, gets a node when a stacktrace through it is kept.
type caller struct {
	frame int32 // number of the caller on the path with the frame that this call is part of
	up    int32 // of the call's own frame: that of the frame above
	node  int32 // of the call's own frame: in the graph, -1 for none yet
	name  int32 // of the node
	depth int64 // of the frame

	next  int32 // its callee that comes next, 0 for none
	last  int32 // name of the last frame that is shown, before recursion is collapsed; -1 for none
	added int32 // name that it put on the path, -1 for none
	state uint8
}

// A walk adds a tree to a graph.
type walk struct {
	*Graph
	tree   profile.CallTree
	texts  []string
	rest   int32
	wanted int32 // name of Function, -1 for none
	needs  uint8 // the state of stacktraces that are kept
	names  []shown
	path   []caller
	todo   []int32 // buffer of made
}

// Add adds the stacktraces of a tree. rest is the index of the name of rest nodes, 0 for
// none.
func (g *Graph) Add(t profile.CallTree, rest int32) error {
	w := walk{Graph: g, tree: t, texts: t.Names(), rest: rest, wanted: -1}
	w.names = make([]shown, len(w.texts))
	if rest != 0 {
		g.rest = w.texts[rest]
	}
	if g.view.has(focusBit) {
		w.needs |= focused
	}
	if g.view.has(showFromBit) {
		w.needs |= from
	}
	if g.view.Function != "" {
		w.needs |= found
		w.wanted = g.b.Name(g.view.Function)
	}
	g.b.Add(0, t.Self(0))
	first, _ := t.Next(0)
	w.path = append(w.path, caller{next: first, last: -1, added: -1})
	for len(w.path) > 0 {
		up := &w.path[len(w.path)-1]
		call := up.next
		if call == 0 {
			if up.added >= 0 {
				g.onPath[up.added] = 0
			}
			w.path = w.path[:len(w.path)-1]
			continue
		}
		callee, sibling := t.Next(call)
		up.next = sibling
		if err := w.enter(call, callee); err != nil {
			return err
		}
	}
	return nil
}

// enter puts a call on the path, below the last one, and adds its own value. It leaves out a
// call that is dropped with all below it.
func (w *walk) enter(call, callee int32) error {
	_, name := w.tree.Call(call)
	s := w.shown(name)
	if s.bits&ignoreBit != 0 {
		w.b.Add(0, w.tree.Total(call))
		return nil
	}
	c := w.path[len(w.path)-1]
	c.next, c.added = callee, -1
	if s.bits&focusBit != 0 {
		c.state |= focused
	}
	if w.isShown(&c, s) {
		folded := !s.plain && name != w.rest && s.name == c.last
		if c.last = s.name; !folded {
			w.place(&c, s)
		}
	}
	w.path = append(w.path, c)
	own := w.tree.Self(call)
	if own == [2]int64{} {
		return nil
	}
	to := int32(0)
	if c.state&w.needs == w.needs {
		var err error
		if to, err = w.made(c.frame); err != nil {
			return err
		}
	}
	w.b.Add(to, own)
	return nil
}

// isShown reports whether a frame is shown, and takes it into account in the state of its
// stacktrace.
func (w *walk) isShown(c *caller, s shown) bool {
	if s.bits&hideBit != 0 {
		return false
	}
	if s.bits&showFromBit != 0 {
		c.state |= from
	}
	if w.needs&from != 0 && c.state&from == 0 {
		return false
	}
	if w.wanted < 0 {
		return true
	}
	before := c.state&found != 0
	// A folded frame is found at its first function; its others are part of it.
	if s.name == w.wanted {
		c.state |= found
	}
	if w.view.Reverse {
		return !before
	}
	return c.state&found != 0
}

// place finds the frame of a call that is put on the path next, below that of its caller.
func (w *walk) place(c *caller, s shown) {
	g := w.Graph
	if g.view.CollapseRecursion && s.plain {
		for int(s.name) >= len(g.onPath) {
			g.onPath = append(g.onPath, 0)
		}
		if at := g.onPath[s.name]; at != 0 {
			c.frame, c.depth = at, w.path[at].depth
			return
		}
		g.onPath[s.name], c.added = int32(len(w.path)), s.name
	}
	c.up, c.frame, c.node, c.name = c.frame, int32(len(w.path)), -1, s.name
	c.depth++
	switch most := g.view.MaxDepth; {
	case most == 0 || g.view.Reverse || c.depth <= most:
	case c.depth == most+1:
		c.name = g.b.Name(Deeper)
	default:
		c.name = -1 // it is part of the frame above
	}
}

// made returns the node of a frame on the path, with which the nodes of the frames above are
// made.
func (w *walk) made(frame int32) (int32, error) {
	w.todo = w.todo[:0]
	for w.path[frame].node < 0 {
		w.todo = append(w.todo, frame)
		frame = w.path[frame].up
	}
	node := w.path[frame].node
	for _, frame := range slices.Backward(w.todo) {
		c := &w.path[frame]
		if c.node = node; c.name >= 0 {
			var err error
			if c.node, err = w.child(node, c.name); err != nil {
				return 0, err
			}
		}
		node = c.node
	}
	return node, nil
}

// shown returns what the frames of a function become.
func (w *walk) shown(name int32) shown {
	s := &w.names[name]
	if s.known {
		return *s
	}
	text := w.texts[name]
	if s.known = true; w.rest != 0 && name == w.rest {
		s.name = w.b.Name(text)
		return *s
	}
	s.bits = w.view.Matches(Function, text) | w.marks[text]
	if set := w.view.set(s.bits); set != "" {
		s.name = w.b.Name(set)
		return *s
	}
	s.plain, s.name = true, w.b.Name(text)
	return *s
}
