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
		w := newWindowOf(t.start, t.kind)
		for _, e := range t.events {
			if e.labels.IsEmpty() {
				continue // of a process that is left out
			}
			c.name(e)
			if t.kind == cpuKind {
				c.countOutcome(e)
			}
			if e.cause != (cause{}) {
				c.scratch = append(c.scratch, reasonOf(c.scratch, e.cause))
			}
			w.addValues(stacktrace{labels: e.labels, locations: c.scratch, spans: e.spans}, e.values, e.count, e.ticks)
		}
		ws = append(ws, w)
	}
	return ws
}

// name puts the locations of an event into scratch.
func (c *collector) name(e *tallied) {
	c.scratch = c.frames.locations(c.scratch[:0], e.frames, e.count)
	switch {
	case e.chain != nil:
		// The binaries of a new process were reported a moment after its samples,
		// so by now they are known.
		for _, p := range e.chain.places {
			c.scratch = append(c.scratch, c.locationOf(p, e.count))
		}
		if !e.chain.whole {
			c.scratch = append(c.scratch, newProcess)
		}
	case e.cause.unsampled && e.cause.state == stateNew:
		c.scratch = append(c.scratch, newThread)
	case e.cause.unsampled:
		c.scratch = append(c.scratch, notSampled)
	}
	if len(c.scratch) == 0 {
		c.scratch = append(c.scratch, noStack)
	}
}

// countOutcome counts CPU samples by whether the stacktrace in scratch is complete.
func (c *collector) countOutcome(e *tallied) {
	outcome, last := "complete", c.scratch[len(c.scratch)-1]
	switch {
	case e.chain != nil && !e.chain.whole:
		outcome = "unknown_process"
	case last.kind == kindError:
		outcome = "partial"
	}
	if last.kind == kindError {
		c.metrics.unwindErrors.WithLabelValues(last.lines[0].function).Add(float64(e.count))
	}
	c.metrics.unwound.WithLabelValues(outcome).Add(float64(e.count))
}

// Notes that stand in for what could not be unwound.
var (
	newProcess = &location{kind: kindError, lines: []line{{function: "[stack incomplete: new process]"}}}
	notSampled = &location{kind: kindError, lines: []line{{function: "[stack not sampled]"}}}
	newThread  = &location{kind: kindError, lines: []line{{function: "[new thread]"}}}
	noStack    = &location{kind: kindError, lines: []line{{function: "[no stack]"}}}
)

// locationOf names a place of a new process, which occurred n times.
func (c *collector) locationOf(p place, n int64) *location {
	loc := &location{kind: kindNative, module: module{name: p.name, buildID: p.buildID}}
	addr := p.offset
	if e, a, ok := c.binaries.find(p); ok {
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
