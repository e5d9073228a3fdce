//go:build linux && (amd64 || arm64)

package sample

// A collector names the frames of what was tallied. It is used by one
// goroutine.
type collector struct {
	frames   *frames
	binaries *binaries
	metrics  *metrics
	scratch  []*location
}

// windows names the frames of tallied windows.
func (c *collector) windows(ts []*tally) []*window {
	ws := make([]*window, 0, len(ts))
	c.frames.prepare(ts)
	defer func() { c.frames.prepared = nil }()
	for _, t := range ts {
		w := newWindow(t.start)
		for _, e := range t.events {
			c.name(e)
			w.add(stacktrace{labels: e.labels, locations: c.scratch}, e.count)
		}
		ws = append(ws, w)
	}
	return ws
}

// name puts the locations of an event into scratch.
func (c *collector) name(e *tallied) {
	c.scratch = c.frames.locations(c.scratch[:0], e.frames, e.count)
	outcome := "complete"
	switch n := len(c.scratch); {
	case e.leaf != nil:
		// The binary of a new process was reported a moment after its samples,
		// so by now it is known.
		c.scratch = append(c.scratch, c.leafLocation(e.leaf, e.count), newProcess)
		outcome = "unknown_process"
	case n == 0:
		c.scratch = append(c.scratch, noStack)
		outcome = "partial"
	case c.scratch[n-1].kind == kindError:
		outcome = "partial"
	}
	if last := c.scratch[len(c.scratch)-1]; last.kind == kindError {
		c.metrics.unwindErrors.WithLabelValues(last.lines[0].function).Add(float64(e.count))
	}
	c.metrics.unwound.WithLabelValues(outcome).Add(float64(e.count))
}

// Notes that stand in for what could not be unwound.
var (
	newProcess = &location{kind: kindError, lines: []line{{function: "[stack incomplete: new process]"}}}
	noStack    = &location{kind: kindError, lines: []line{{function: "[no stack]"}}}
)

// leafLocation names the place in user space that a new process was at.
func (c *collector) leafLocation(p *place, n int64) *location {
	loc := &location{kind: kindNative, module: module{name: p.name, buildID: p.buildID}}
	addr := p.offset
	if e, a, ok := c.binaries.find(*p); ok {
		loc.module, addr = e.module, a
		c.frames.native(loc, e.id, a)
	}
	if loc.lines == nil {
		loc.unknown = true
		loc.address = addr
		loc.lines = []line{{function: unknownName(loc.module.name, addr)}}
	}
	loc = c.frames.intern(loc)
	c.frames.count(loc, n)
	return loc
}
