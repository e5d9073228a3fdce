package profile

// The headers of requests for flame graphs, and of their answers, that tell about what
// is cut off. Servers and clients that do not know them ignore them.
const (
	// HeaderRest, with the value RestFunctions, asks for a flame graph that is cut by
	// DiffTree.TruncateFunctions. The answer has the same if own values of functions can
	// be added up.
	HeaderRest    = "Flameline-Rest"
	RestFunctions = "functions"
	// HeaderRestName is the name of the rest nodes of an answer. Without it nothing was
	// cut off, unless the server is another.
	HeaderRestName = "Flameline-Rest-Name"
)

// RestName is the name of rest nodes in a tree that has functions of the names that
// taken reports: OtherName, or that in as many parentheses as make it a name which
// no function has.
func RestName(taken func(name string) bool) string {
	name := OtherName
	for taken(name) {
		name = "(" + name + ")"
	}
	return name
}

// RestName is the name of rest nodes, "" if nothing was cut off.
func (t *Tree) RestName() string { return nameOfRest(t.Names, t.Rest) }

// RestName is the name of rest nodes, "" if nothing was cut off.
func (t *DiffTree) RestName() string { return nameOfRest(t.Names, t.Rest) }

func nameOfRest(names []string, rest int32) string {
	if rest == 0 {
		return ""
	}
	return names[rest]
}

// IsRest reports whether a node is a rest node.
func (t *Tree) IsRest(n *Node) bool { return t.Rest != 0 && n.Name == t.Rest }

// IsRest reports whether a node is a rest node.
func (t *DiffTree) IsRest(n *DiffNode) bool { return t.Rest != 0 && n.Name == t.Rest }
