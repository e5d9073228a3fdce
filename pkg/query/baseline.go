package query

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/profile"
)

// The kinds of baselines, which say of which time a baseline is.
const (
	BaselinePrevious = "previous" // the time just before the query's, of the same length
	BaselineOffset   = "offset"   // the query's time, a duration earlier
	BaselineRange    = "range"    // a time range of its own
	BaselineSame     = "same"     // the query's time; only the selectors differ
)

// A Baseline is what a comparison compares with: profiles of the same type, of another
// time, another selector or both.
type Baseline struct {
	Kind string `json:"kind"`
	// Offset is a duration as Prometheus writes it, such as 1d or 2h30m; for
	// BaselineOffset.
	Offset string `json:"offset,omitempty"`
	// From and To are the ends of the range; for BaselineRange.
	From TimeText `json:"from,omitempty"`
	To   TimeText `json:"to,omitempty"`
	// LabelSelector replaces the query's selector; "" for the query's.
	LabelSelector string `json:"labelSelector,omitempty"`

	offset time.Duration
}

// A TimeText is a time in a form of timeexpr.Parse, such as Unix milliseconds, RFC 3339
// or now-1d. In JSON it is a string or a number.
type TimeText string

// UnmarshalJSON reads a string or a number.
func (t *TimeText) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err == nil { // also null, which gives ""
		*t = TimeText(text)
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return err
	}
	number, ok := value.(json.Number)
	if !ok {
		// encoding/json adds the name of the field.
		return &json.UnmarshalTypeError{Value: jsonKind(value), Type: reflect.TypeFor[TimeText]()}
	}
	*t = TimeText(number)
	return nil
}

// jsonKind returns what JSON calls a value that is neither a string nor a number.
func jsonKind(value any) string {
	switch value.(type) {
	case bool:
		return "bool"
	case []any:
		return "array"
	}
	return "object"
}

// check sets defaults, and returns an error for an invalid field. selector is the
// query's, which was checked before.
func (b *Baseline) check(selector string) error {
	b.Offset = strings.TrimSpace(b.Offset)
	b.From, b.To = TimeText(strings.TrimSpace(string(b.From))), TimeText(strings.TrimSpace(string(b.To)))
	if b.LabelSelector = strings.TrimSpace(b.LabelSelector); b.LabelSelector == "" {
		b.LabelSelector = selector
	}
	if _, err := profile.ParseSelector(b.LabelSelector); err != nil {
		return client.Invalidf("baseline.labelSelector", "%w", err)
	}
	switch b.Kind {
	case "":
		b.Kind = BaselinePrevious
	case BaselinePrevious:
	case BaselineOffset:
		d, err := model.ParseDuration(b.Offset)
		if err != nil || d <= 0 {
			return client.Invalidf("baseline.offset", "%q is not a duration such as 1h, 1d or 2h30m", b.Offset)
		}
		b.offset = time.Duration(d)
	case BaselineRange:
		if b.From == "" {
			return client.Invalidf("baseline.from", "the baseline's range needs a start")
		}
		if b.To == "" {
			return client.Invalidf("baseline.to", "the baseline's range needs an end")
		}
	case BaselineSame:
		if equalSelectors(b.LabelSelector, selector) {
			return client.Invalidf("baseline.labelSelector", "the baseline has the time and the labels of the query itself; choose other labels or another time")
		}
	default:
		return client.Invalidf("baseline.kind", "%q is not one of %s, %s, %s and %s", b.Kind, BaselinePrevious, BaselineOffset, BaselineRange, BaselineSame)
	}
	return nil
}

// Window returns the baseline's time range for a query over tr. Errors name the field.
func (b *Baseline) Window(tr backend.TimeRange, now time.Time) (backend.TimeRange, error) {
	w, field := tr, "baseline.kind"
	switch b.Kind {
	case BaselinePrevious:
		// Both sides begin and end alike: a server counts a profile or a merged one at the
		// end of a range, and one at its start, on both sides or on neither.
		w = backend.TimeRange{From: tr.From.Add(-tr.Duration()), To: tr.From}
	case BaselineOffset:
		field = "baseline.offset"
		w = backend.TimeRange{From: tr.From.Add(-b.offset), To: tr.To.Add(-b.offset)}
	case BaselineRange:
		field = "baseline.from"
		var err error
		if w.From, w.To, err = parseRange("baseline.from", "baseline.to", string(b.From), string(b.To), now); err != nil {
			return w, err
		}
		if !w.From.Before(w.To) {
			return w, client.Invalidf("baseline.to", "the baseline ends (%s) before it begins (%s)", rfc3339(w.To), rfc3339(w.From))
		}
	}
	if w.From.UnixMilli() < 0 {
		return w, client.Invalidf(field, "the baseline begins before 1970 (%s)", rfc3339(w.From))
	}
	return w, nil
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// equalSelectors reports whether two valid selectors have the same matchers.
func equalSelectors(a, b string) bool { return canonical(a) == canonical(b) }

// canonical returns a selector with its matchers in order, each once.
func canonical(selector string) string {
	ms, err := profile.ParseSelector(selector)
	if err != nil {
		return selector
	}
	texts := make([]string, len(ms))
	for i, m := range ms {
		texts[i] = profile.FormatSelector([]*labels.Matcher{m})
	}
	slices.Sort(texts)
	return strings.Join(slices.Compact(texts), ",")
}
