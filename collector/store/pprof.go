package store

import "context"

// A Pprof is an encoded pprof profile: Data is a Profile message of
// profile.proto, not compressed, with Samples samples.
type Pprof struct {
	Data    []byte
	Samples int
}

// Pprof merges all selected profiles into one pprof profile of one sample type.
// A call site selects stacktraces as in Tree. Its time is the selection's end
// and its duration the selection's length, as in Pyroscope.
func (db *DB) Pprof(ctx context.Context, sel Selection, callSite []string) (p *Pprof, err error) {
	err = db.query(ctx, "pprof", func(h *hold) error {
		p, err = db.pprof(ctx, h, sel, callSite)
		return err
	})
	return p, err
}

// pprof is Pprof with memory of the hold.
func (db *DB) pprof(ctx context.Context, h *hold, sel Selection, callSite []string) (*Pprof, error) {
	jobs, err := db.plan(ctx, h, sel)
	if err == nil {
		err = db.planStates(ctx, h, sel, jobs)
	}
	if err == nil {
		err = h.expect(db.expectPprof(jobs))
	}
	if err != nil {
		return nil, err
	}
	m := newPprofMerge(h, len(jobs) == 1)
	defer m.free()
	err = db.merge(ctx, h, jobs, sel, callSite, func(j *job, v *view, sums []int64) error {
		return m.add(j.order, v, sums)
	})
	if err != nil {
		return nil, err
	}
	w := newPprofWriter(m)
	if err := h.take(int64(w.size)); err != nil {
		return nil, err
	}
	h.keep(int64(w.size))
	return w.write(sel), nil
}
