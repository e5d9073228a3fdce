package calltree

import "github.com/flameline/flameline/collector/store/internal/symdb"

// Combine adds up values of several partitions into one, whose view has calls and strings
// alone. Of one partition it adds up calls of the same caller and name; if there are
// several, none may have such calls. It frees what it was given.
func Combine(partials []*Values, sides int) (*Values, error) {
	c := combined{d: symdb.NewDictionary(), sides: sides, from: make([]source, 1), partials: make([]combinedPartial, 1, len(partials)+1)}
	for s := range sides {
		c.self[s] = []int64{0}
	}
	for _, p := range partials {
		c.add(p, len(partials) == 1)
	}
	v := c.d.View // without what was needed to find names
	out := New(&v, sides)
	for s := range sides {
		copy(out.Self[s], c.self[s])
	}
	for _, p := range partials {
		p.Free()
	}
	return out, out.Sum()
}

// combined are the calls of partials, added up. Callees of a call are looked up by their
// names only once a second partial has the call too, so what one partial alone calls is
// copied without a search.
type combined struct {
	d        *symdb.Dictionary // with the calls and their names
	callees  symdb.Pairs       // the calls that are looked up, by caller and name
	sides    int
	self     [2][]int64 // by side and call
	from     []source   // by call
	partials []combinedPartial
}

// A source is the first partial that had a call, and its number there. The partial is 0
// if the callees of the call are looked up.
type source struct{ partial, call uint32 }

type combinedPartial struct {
	*Values
	to []uint32 // by call: that of all partials
}

// add adds a partial. mayRepeat says that it may have several calls of one caller and name.
func (c *combined) add(p *Values, mayRepeat bool) {
	of := source{partial: uint32(len(c.partials))}
	if mayRepeat {
		of.partial = 0
	}
	to, names := make([]uint32, len(p.View.Calls)), make([]uint32, len(p.View.Strings)) // names by string, plus one
	c.partials = append(c.partials, combinedPartial{p, to})
	for i, k := range p.View.Calls {
		if p.Ranks[i].size == 0 {
			continue
		}
		if i > 0 {
			if names[k.Name] == 0 {
				names[k.Name] = c.d.AddHashed(p.View.Strings[k.Name], p.View.Hashes[k.Name]) + 1
			}
			of.call = uint32(i)
			to[i] = c.call(symdb.Call{Parent: to[k.Parent], Name: names[k.Name] - 1}, of)
		}
		for s := range c.sides {
			c.self[s][to[i]] += p.Self[s][i]
		}
	}
}

// call returns the number of a call, which it adds if there is none.
func (c *combined) call(k symdb.Call, of source) uint32 {
	n := uint32(len(c.d.Calls))
	if up := &c.from[k.Parent]; up.partial == 0 || up.partial != of.partial {
		if up.partial != 0 {
			first := c.partials[up.partial]
			for i := first.Ranks[up.call].Child; i != 0; i = first.Ranks[i].Next {
				c.callees.Add(k.Parent, c.d.Calls[first.to[i]].Name, first.to[i])
			}
			up.partial = 0
		}
		if found := c.callees.Add(k.Parent, k.Name, n); found != n {
			return found
		}
	}
	c.d.Calls, c.from = append(c.d.Calls, k), append(c.from, of)
	for s := range c.sides {
		c.self[s] = append(c.self[s], 0)
	}
	return n
}
