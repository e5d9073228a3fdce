package server

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/flameline/flameline/collector/store"
	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
)

// defaultOffsetRows is the number of rows of a second unless the request says it.
const defaultOffsetRows = 50

// Offsets adds up the values of samples by steps of time and by offset within the second.
func (q *querier) Offsets(ctx context.Context, req *connect.Request[flamelinev1.OffsetsRequest]) (*connect.Response[flamelinev1.OffsetsResponse], error) {
	m := req.Msg
	sels, err := q.functionSelections(&flamelinev1.FunctionsRequest{Selection: m.Selection})
	if err != nil {
		return nil, invalid(err)
	}
	r := store.OffsetsRequest{Selection: sels[0], Rows: defaultOffsetRows}
	switch {
	case m.Rows < 0 || m.Rows > defaultOffsetRows || m.Rows > 0 && defaultOffsetRows%m.Rows != 0:
		return nil, invalid(fmt.Errorf("rows: %d is none of 1, 2, 5, 10, 25 and 50", m.Rows))
	case m.Rows > 0:
		r.Rows = int(m.Rows)
	}
	if m.Step < 1 {
		return nil, invalid(errors.New("step: it is less than a second"))
	}
	if r.Step, err = q.limits.step(float64(m.Step), r.Start, r.End); err != nil {
		return nil, invalid(err)
	}
	switch columns := (r.End-r.Start)/r.Step.Milliseconds() + 1; {
	case r.Start%1000 != 0:
		return nil, invalid(fmt.Errorf("selection.start: %d is no whole second", r.Start))
	case !r.Type.Cumulative():
		return nil, invalid(fmt.Errorf("selection.profile_typeID: the values of %s do not add up over time, so they have no offsets", r.Type))
	case columns*int64(r.Rows) > store.MaxCells:
		return nil, invalid(fmt.Errorf("step: %d s gives %d columns of %d rows, more than %d values", m.Step, columns, r.Rows, store.MaxCells))
	}
	found, err := q.store.Offsets(ctx, r)
	if err != nil {
		return nil, code(err)
	}
	out := &flamelinev1.OffsetsResponse{Timed: found.Timed, Untimed: found.Untimed, Since: found.Since}
	for _, c := range found.Columns {
		if found.Until == 0 || c.Time <= found.Until {
			out.Columns = append(out.Columns, &flamelinev1.OffsetColumn{Time: c.Time, Values: c.Values})
		}
	}
	if found.Timed+found.Untimed == 0 {
		return connect.NewResponse(out), q.checkType(ctx, "selection.profile_typeID", r.Type)
	}
	return connect.NewResponse(out), nil
}
