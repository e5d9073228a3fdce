package ingest

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProfileTime(t *testing.T) {
	received := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	now := received.UnixNano()
	for name, c := range map[string]struct {
		time, duration, want int64
		note                 string
	}{
		"usual":                        {now - 15e9, 15e9, now - 15e9, ""},
		"a state":                      {now, 0, now, ""},
		"none":                         {0, 15e9, now - 15e9, ""},
		"seconds":                      {now / 1e9, 0, now, "corrected time of the profile, which is not in nanoseconds (1)"},
		"since boot":                   {7200e9, 15e9, now - 15e9, "corrected time of the profile, which is before 1990 (1)"},
		"of its end":                   {now - 1e9, 60e9, now - 61e9, "corrected time of the profile, which is that of its end (1)"},
		"of its end, in ms":            {now / 1e6, 60e9, now - 60e9, "corrected time of the profile, which is not in nanoseconds (1); corrected time of the profile, which is that of its end (1)"},
		"of its end, by a clock ahead": {now + 2e9, 60e9, now - 58e9, "corrected time of the profile, which is that of its end (1)"},
		"a clock that is ahead":        {now - 45e9, 60e9, now - 60e9, "corrected time of the profile, which would have ended later than it arrived (1)"},
		"a clock that is a bit ahead":  {now - 55e9, 60e9, now - 55e9, ""},
		"the last window of an agent":  {now - 1e6, 5e9, now - 1e6, ""},
		"the future":                   {now + 60e9, 15e9, now + 60e9, ""},
		"more than a day":              {now, 25 * 3600e9, now, ""},
		"the largest number":           {now, math.MaxInt64, now, ""},
		"the largest time":             {math.MaxInt64, math.MaxInt64, math.MaxInt64, ""},
	} {
		r := &Report{}
		require.Equal(t, c.want, ProfileTime(c.time, c.duration, received, r), name)
		require.Equal(t, c.note, r.String(), name)
	}
}

// What SDKs send to /ingest: the time of a heap profile is that of its end, a CPU
// profile has a duration and the time of its begin, or that of its end.
func TestTimeOfAPush(t *testing.T) {
	until := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	from := until.Add(-15 * time.Second)
	begin, end := from.UnixNano(), until.UnixNano()
	for name, c := range map[string]struct {
		time, duration      int64
		given               bool
		wantBegin, wantTime int64
	}{
		"CPU of Go":              {begin + 2e6, 15e9, true, begin + 2e6, 15e9},
		"heap of Go":             {end + 5e6, 0, true, begin, 15e9},
		"heap, begin":            {begin + 5e6, 0, true, begin, 15e9},
		"heap, from whole":       {end + 999e6, 0, true, begin, 15e9},
		"CPU of Node":            {end + 5e6, 15e9, true, begin + 5e6, 15e9},
		"a short one of Node":    {end + 5e6, 5e9, true, end - 5e9 + 5e6, 5e9},
		"short, in the middle":   {begin + 5e9, 5e9, true, begin + 5e9, 5e9},
		"the last second":        {end - 1e9, 2e9, true, end - 1e9, 2e9},
		"none":                   {0, 0, true, begin, 15e9},
		"none but a duration":    {0, 10e9, true, begin, 10e9},
		"neither":                {0, 0, false, end, 0},
		"a duration alone":       {0, 10e9, false, end - 10e9, 10e9},
		"a time alone":           {begin - 60e9, 0, false, begin - 60e9, 0},
		"a time of another day":  {begin - 86400e9, 0, true, begin - 86400e9, 15e9},
		"the largest numbers":    {math.MaxInt64, math.MaxInt64, true, math.MaxInt64, math.MaxInt64},
		"a time before the push": {begin - 60e9, 0, true, begin - 60e9, 15e9},
	} {
		m := Push{From: from, Until: until, FromGiven: c.given}
		if !c.given {
			m.From = until
		}
		gotBegin, got := m.profileTime(c.time, c.duration, nil)
		require.Equal(t, []int64{c.wantBegin, c.wantTime}, []int64{gotBegin, got}, name)
	}
}
