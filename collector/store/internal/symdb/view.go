package symdb

// A Size is how much a partition holds.
type Size struct{ Nodes, Calls, Strings int64 }

// SizeOf counts what memory depends on.
func SizeOf(v *View) Size {
	return Size{int64(len(v.Nodes)), int64(len(v.Calls)), int64(len(v.Strings))}
}

// Below marks the calls of stacktraces that begin with a call site.
func (v *View) Below(callSite []string) []bool {
	in := make([]bool, len(v.Calls))
	depth := make([]int32, len(v.Calls)) // how much of the call site was met, -1 for none
	for i := 1; i < len(v.Calls); i++ {
		c := v.Calls[i]
		d := depth[c.Parent]
		switch {
		case in[c.Parent]:
			in[i] = true
		case d >= 0 && v.Strings[c.Name] == callSite[d]:
			depth[i] = d + 1
			in[i] = int(d)+1 == len(callSite)
		default:
			depth[i] = -1
		}
	}
	return in
}

// Having tells of each call which functions it is below or is itself: bit k is set for
// functions[k]. With own it tells which function it is. There are at most 64 functions.
// found has the bits of all functions that there are.
func (v *View) Having(functions []string, own bool) (by []uint64, found uint64) {
	bits := map[string]uint64{}
	for k, name := range functions {
		bits[name] |= 1 << k
	}
	ofString := make([]uint64, len(v.Strings))
	for s, name := range v.Strings {
		ofString[s] = bits[name]
	}
	by = make([]uint64, len(v.Calls))
	for i := 1; i < len(v.Calls); i++ {
		c := v.Calls[i]
		by[i] = ofString[c.Name]
		found |= by[i]
		if !own {
			by[i] |= by[c.Parent]
		}
	}
	return by, found
}

// Under returns by node the node itself, or 0 if its stacktrace does not begin with a call
// site; nil if there is none. callOf has the call of each node: View.CallOf, or that of
// another view whose calls these are.
func (v *View) Under(callOf []uint32, callSite []string) []uint32 {
	if len(callSite) == 0 {
		return nil
	}
	in, under := v.Below(callSite), make([]uint32, len(callOf))
	for n, call := range callOf {
		if in[call] {
			under[n] = uint32(n)
		}
	}
	return under
}
