package symdb

import "github.com/flameline/flameline/collector/store/internal/reuse"

// A source has symbols by numbers of its own, as a dictionary has: 0 of strings is "", of
// mappings none.
type source interface {
	Sizes() Sizes
	addString(i uint32, to *Dictionary) uint32
	function(i uint32) Function
	mapping(i uint32) Mapping
	location(i uint32, lines []Line) (Location, []Line) // the lines are appended
}

// A Copier adds what is needed of a source's symbols to a dictionary. Its tables hold, by
// number in the source, the number in the dictionary plus one, 0 for what was not needed yet.
// It can be used again, for its memory.
type Copier struct {
	from                                    source
	by                                      *Fingerprinter // nil if symbols are known by their numbers
	to                                      *Dictionary
	strings, functions, mappings, locations []uint32
	lines                                   []Line
}

// Begin begins to copy from a view, whose locations by has the fingerprints of, to a
// dictionary. Everything in the dictionary is to be copied so.
func (c *Copier) Begin(from *View, by *Fingerprinter, to *Dictionary) {
	c.begin(from, to)
	c.by = by
}

func (c *Copier) begin(from source, to *Dictionary) {
	c.from, c.to = from, to
	n := from.Sizes()
	c.strings, c.functions = reuse.Zeroed(c.strings, n.strings), reuse.Zeroed(c.functions, n.functions)
	c.mappings, c.locations = reuse.Zeroed(c.mappings, n.mappings), reuse.Zeroed(c.locations, n.locations)
}

func (c *Copier) string(i uint32) uint32 {
	if i == 0 {
		return 0
	}
	if c.strings[i] == 0 {
		c.strings[i] = c.from.addString(i, c.to) + 1
	}
	return c.strings[i] - 1
}

func (c *Copier) function(i uint32) uint32 {
	to, next := &c.functions[i], uint32(len(c.to.Functions))+1
	if *to == 0 && c.by != nil {
		*to = c.to.tables().functions.AddPrint(c.by.functions[i], next)
	}
	if *to == 0 || *to == next {
		f := c.from.function(i)
		f.Name, f.SystemName, f.File = c.string(f.Name), c.string(f.SystemName), c.string(f.File)
		if *to == next {
			c.to.Functions = append(c.to.Functions, f)
		} else {
			*to = c.to.AddFunction(f) + 1
		}
	}
	return *to - 1
}

func (c *Copier) mapping(i uint32) uint32 {
	if i == 0 {
		return 0
	}
	if c.mappings[i] == 0 {
		m := c.from.mapping(i)
		m.File, m.BuildID = c.string(m.File), c.string(m.BuildID)
		c.mappings[i] = c.to.AddMapping(m) + 1
	}
	return c.mappings[i] - 1
}

// read returns a location, and its lines in c.lines, by numbers of the dictionary.
func (c *Copier) read(i uint32) (l Location) {
	l, c.lines = c.from.location(i, c.lines[:0])
	l.Mapping = c.mapping(l.Mapping)
	for j := range c.lines {
		c.lines[j].Function = c.function(c.lines[j].Function)
	}
	return l
}

func (c *Copier) location(i uint32) uint32 {
	if c.locations[i] == 0 {
		c.locations[i] = c.to.AddLocation(c.read(i), c.lines) + 1
	}
	return c.locations[i] - 1
}

// Location returns the dictionary's number of a location, which is added without a name if
// its fingerprint is new.
func (c *Copier) Location(i uint32, print uint64) uint32 {
	to := &c.locations[i]
	if *to == 0 {
		next := uint32(len(c.to.Locations)) + 1
		if *to = c.to.tables().locations.AddPrint(print, next); *to == next {
			l := c.read(i)
			l.Name = 0
			c.to.appendLocation(l, c.lines)
		}
	}
	return *to - 1
}

func (v *View) addString(i uint32, to *Dictionary) uint32 {
	return to.AddHashed(v.Strings[i], v.Hashes[i])
}

func (v *View) function(i uint32) Function { return v.Functions[i] }
func (v *View) mapping(i uint32) Mapping   { return v.Mappings[i] }

func (v *View) location(i uint32, lines []Line) (Location, []Line) {
	l := v.Locations[i]
	return l, append(lines, v.Lines[l.First:l.End]...)
}
