package profile

// Headers of requests for flame graphs, and of their answers, about calls that are cut
// off. Other servers and clients ignore them.
const (
	// HeaderRest with the value RestFunctions asks for a flame graph that is cut by
	// DiffTree.TruncateFunctions. The answer has the same header if the self values of
	// functions can be added up.
	HeaderRest    = "Flameline-Rest"
	RestFunctions = "functions"
	// HeaderRestName is the answer's header with the name of rest nodes. An answer of
	// Flameline without it was not cut.
	HeaderRestName = "Flameline-Rest-Name"
)

// RestName returns the name for rest nodes in a tree whose functions have the names that
// taken reports: OtherName, in parentheses until no function has the name.
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
