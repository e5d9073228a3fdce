package server

import (
	"fmt"
	"regexp/syntax"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/profile"
)

// maxRepetitions bounds the operators such as * in the regular expressions of a selector:
// each may be looked at for each byte of each value. Alternatives without them are looked
// up, and may be many.
const maxRepetitions = 500

// maxSelectorBytes bounds a selector: parsing takes quadratic time where a regular
// expression has thousands of alternatives.
const maxSelectorBytes = 128 << 10

// parseSelector reads a selector, and bounds what parsing and matching take.
func parseSelector(s string) ([]*labels.Matcher, error) {
	if len(s) > maxSelectorBytes {
		return nil, fmt.Errorf("%d bytes are more than %d", len(s), maxSelectorBytes)
	}
	ms, err := profile.ParseSelector(s)
	if err != nil {
		return nil, err
	}
	return ms, checkRepetitions(ms)
}

// checkRepetitions returns an error if all matchers together have too many repetitions.
func checkRepetitions(ms []*labels.Matcher) error {
	n := 0
	for _, m := range ms {
		if m.Type != labels.MatchRegexp && m.Type != labels.MatchNotRegexp {
			continue
		}
		re, err := syntax.Parse(m.Value, syntax.Perl|syntax.DotNL)
		if err != nil {
			return fmt.Errorf("value of %q: %w", m.Name, err)
		}
		if n += repetitions(re); n > maxRepetitions {
			return fmt.Errorf("value of %q: the regular expressions have more than %d operators such as * and +", m.Name, maxRepetitions)
		}
	}
	return nil
}

func repetitions(re *syntax.Regexp) (n int) {
	switch re.Op {
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpEmptyMatch:
		n = 1
	case syntax.OpRepeat: // stands for as many expressions in a row, up to 1000
		return 1 + max(re.Min, re.Max, 1)*repetitions(re.Sub[0])
	}
	for _, sub := range re.Sub {
		n += repetitions(sub)
	}
	return n
}
