package timeexpr

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jszwedko/go-datemath"
)

// maxOffset bounds one step of a relative time, in years: time.Duration holds 292.
const maxOffset = 250

// units are Grafana's units by the beginnings of their names, which Graphite allows to be
// longer, such as min, mon and weeks. The first match counts. perYear is how many of
// the unit are in a year, rounded up.
var units = []struct {
	prefix, unit string
	perYear      int64
}{
	{"fQ", "fQ", 4},
	{"fy", "fy", 1},
	{"s", "s", 366 * 86400},
	{"mon", "M", 12},
	{"M", "M", 12},
	{"m", "m", 366 * 1440},
	{"h", "h", 366 * 24},
	{"H", "H", 366 * 24},
	{"d", "d", 366},
	{"w", "w", 53},
	{"Q", "Q", 4},
	{"y", "y", 1},
}

// isDuration reports whether s has the form of numbers and units, such as 1h30min.
func isDuration(s string) bool {
	return s[0] >= '0' && s[0] <= '9' && strings.Trim(s, "0123456789") != "" &&
		strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// parseRelative reads a time relative to now, which may be left out: steps that begin
// with + or - and have one or several numbers with units, such as -1h30min, and steps
// that begin with / and round to a unit. Months, quarters and years are those of the
// calendar. A text of numbers and units alone is that long ago.
func parseRelative(s string, now time.Time, end bool) (time.Time, error) {
	rest := strings.TrimPrefix(s, "now")
	if rest == s && !strings.Contains("+-", s[:1]) {
		rest = "-" + s
	}
	expression := "now" // what datemath evaluates, with one number and unit in each step
	for rest != "" {
		sign := rest[:1]
		end := strings.IndexAny(rest[1:], "+-/") + 1
		if end == 0 {
			end = len(rest)
		}
		step := rest[1:end]
		rest = rest[end:]
		switch sign {
		case "+", "-":
			steps, err := splitStep(sign, step)
			if err != nil {
				return time.Time{}, err
			}
			expression += steps
		case "/":
			if !isRoundable(step) {
				return time.Time{}, fmt.Errorf("%.100q is not a unit to round to; units are s, m, h, d, w, M, Q, y", step)
			}
			expression += sign + step
		default:
			return time.Time{}, fmt.Errorf("%.100q does not begin with +, - or /", sign+step)
		}
	}
	return datemath.ParseAndEvaluate(expression, datemath.WithNow(now), datemath.WithRoundUp(end))
}

// splitStep gives each number and unit of a step, such as 1h30min, its sign.
func splitStep(sign, step string) (string, error) {
	if step == "" {
		return "", fmt.Errorf("there is no duration after %q", sign)
	}
	out := ""
	for step != "" {
		digits := len(step) - len(strings.TrimLeft(step, "0123456789"))
		if digits == 0 {
			return "", fmt.Errorf("%.100q does not begin with a number", step)
		}
		n, err := strconv.ParseInt(step[:digits], 10, 64)
		if err != nil {
			return "", errors.New("a number is too large")
		}
		step = step[digits:]
		letters := strings.IndexAny(step, "0123456789")
		if letters < 0 {
			letters = len(step)
		}
		name := step[:letters]
		step = step[letters:]
		if name == "" {
			return "", fmt.Errorf("%d has no unit", n)
		}
		unit, perYear := unitOf(name)
		if unit == "" {
			return "", fmt.Errorf("%.100q is not a unit; units are s, m or min, h, d, w, M or mon, Q, y", name)
		}
		if n > maxOffset*perYear {
			return "", fmt.Errorf("%d%s is more than %d years", n, name, maxOffset)
		}
		out += sign + strconv.FormatInt(n, 10) + unit
	}
	return out, nil
}

// unitOf returns Grafana's unit for a name, "" if it has none.
func unitOf(name string) (unit string, perYear int64) {
	for _, u := range units {
		if strings.HasPrefix(name, u.prefix) {
			return u.unit, u.perYear
		}
	}
	return "", 0
}

func isRoundable(unit string) bool {
	for _, u := range units {
		if u.unit == unit {
			return true
		}
	}
	return false
}
