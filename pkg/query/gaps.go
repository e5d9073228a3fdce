package query

import (
	"fmt"
	"strings"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/flameline/flameline/pkg/profile"
)

const (
	// leastGap is the share of the total from which a notice says what stacktraces lack.
	leastGap = 0.01
	// maxReasons bounds the reasons that a notice names.
	maxReasons = 3
)

// gapNotices say which share of a total is of stacktraces that lack names or callers, and
// why. side is that of a comparison.
func gapNotices(g profile.Gaps, side int, total int64) (out []data.Notice) {
	for _, kind := range []struct {
		gaps []profile.Gap
		text string
	}{
		{g.Unnamed, "%s of the total is of stacktraces with functions that have no name (%s). `flameline doctor --pid PID`, where they run, says how to get the names."},
		{g.Cut, "%s of the total is of stacktraces that lack callers (%s). `flameline doctor --pid PID`, where they run, says what helps."},
	} {
		if text := gapShare(float64(profile.Sum(kind.gaps)[side]), float64(total)); text != "" {
			out = append(out, info(fmt.Sprintf(kind.text, text, gapReasons(kind.gaps, side, total))))
		}
	}
	return out
}

// gapShare returns a value's share of the total, "" if it is less than leastGap.
func gapShare(value, total float64) string {
	if total <= 0 || value < leastGap*total {
		return ""
	}
	return fmt.Sprintf("%.3g %%", 100*value/total)
}

func gapReasons(gaps []profile.Gap, side int, total int64) string {
	var texts []string
	others := int64(0)
	for _, g := range gaps {
		v := g.Value[side]
		if len(texts) < maxReasons {
			if share := gapShare(float64(v), float64(total)); share != "" || len(texts) == 0 && v > 0 {
				texts = append(texts, strings.TrimSpace(g.Reason+" "+share))
				continue
			}
		}
		others += v
	}
	if share := gapShare(float64(others), float64(total)); share != "" {
		texts = append(texts, "others "+share)
	}
	return strings.Join(texts, ", ")
}
