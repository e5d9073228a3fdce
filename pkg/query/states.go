package query

import (
	"context"
	"fmt"

	"github.com/grafana/grafana-plugin-sdk-go/data"
)

// statesNotice says what a server other than Flameline makes of the snapshots of a state,
// such as memory in use, in flame graphs and tables.
func (r *Runner) statesNotice(ctx context.Context, m *Model) []data.Notice {
	if m.profileType.Cumulative() || len(m.ProfileIDSelector) > 0 || !r.Client.OtherServer(ctx) {
		return nil
	}
	return []data.Notice{warning(fmt.Sprintf("The server adds up all snapshots of %s in the time range, so values are larger than what there was at any time. Their shares are right; series have averages.", m.profileType.SampleType))}
}

// seriesStatesNotice says the same of series.
func (r *Runner) seriesStatesNotice(ctx context.Context, m *Model) []data.Notice {
	if m.profileType.Cumulative() || !r.Client.OtherServer(ctx) {
		return nil
	}
	return []data.Notice{info(fmt.Sprintf("The server averages the snapshots of %s of all processes in a series, and does not add processes up. Group by a label that tells them apart, such as pod, for the value of each.", m.profileType.SampleType))}
}
