//go:build linux && (amd64 || arm64)

package sample

import "time"

// A collector turns events into stacktraces in windows. It is used by one
// goroutine.
type collector struct {
	frames    *frames
	aggregate *aggregate
	binaries  *binaries
	metrics   *metrics
	flushed   time.Time // of the last flush
	pending   []event   // with a leaf
	scratch   []*location
}

// add names the frames of an event and counts it. Those with a leaf wait for
// settle: the binary of a new process is reported a moment after its samples.
func (c *collector) add(e event) {
	if e.leaf != nil {
		c.pending = append(c.pending, e)
		return
	}
	c.scratch = c.frames.locations(c.scratch[:0], e.frames)
	outcome := "complete"
	if n := len(c.scratch); n == 0 || c.scratch[n-1].kind == kindError {
		outcome = "partial"
	}
	c.count(e, outcome)
}

// settle counts the events that have waited.
func (c *collector) settle() {
	for _, e := range c.pending {
		c.scratch = c.frames.locations(c.scratch[:0], e.frames)
		c.scratch = append(c.scratch, c.leafLocation(e.leaf), newProcess)
		c.count(e, "unknown_process")
	}
	clear(c.pending)
	c.pending = c.pending[:0]
}

// count adds the stacktrace in scratch to its window.
func (c *collector) count(e event, outcome string) {
	if len(c.scratch) == 0 {
		c.scratch = append(c.scratch, noStack)
	}
	if last := c.scratch[len(c.scratch)-1]; last.kind == kindError {
		c.metrics.unwindErrors.WithLabelValues(last.lines[0].function).Inc()
	}
	c.metrics.unwound.WithLabelValues(outcome).Inc()
	end := windowStart(e.time, c.aggregate.interval) + int64(c.aggregate.interval)
	if end+int64(lateness) <= c.flushed.UnixNano() {
		c.metrics.late.Inc()
	}
	c.aggregate.add(stacktrace{labels: e.labels, time: e.time, locations: c.scratch})
}

// Notes that stand in for what could not be unwound.
var (
	newProcess = &location{kind: kindError, lines: []line{{function: "[stack incomplete: new process]"}}}
	noStack    = &location{kind: kindError, lines: []line{{function: "[no stack]"}}}
)

// leafLocation names the place in user space that a new process was at.
func (c *collector) leafLocation(p *place) *location {
	loc := &location{kind: kindNative, module: module{name: p.name, buildID: p.buildID}}
	addr := p.offset
	if e, a, ok := c.binaries.find(*p); ok {
		loc.module, addr = e.module, a
		if loc.lines = c.binaries.goLines(e.id, a); loc.lines != nil {
			loc.kind = kindGo
			clean(kindGo, loc.lines)
		} else if c.frames.symbolizer != nil {
			loc.lines = c.frames.lookup(e.id, a)
		}
	}
	if loc.lines == nil {
		loc.unknown = true
		loc.address = addr
		loc.lines = []line{{function: unknownName(loc.module.name, addr)}}
	}
	loc = c.frames.intern(loc)
	c.frames.count(loc)
	return loc
}
