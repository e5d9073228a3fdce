package capture

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/prometheus/model/labels"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/profile"
)

// Bounds of requests.
const (
	MinDuration      = time.Second
	MaxDuration      = 10 * time.Minute
	MaxFrequency     = 1000 // Hz
	DefaultFrequency = 99   // Hz
	maxSelector      = 4096 // bytes
)

// Limits bound what one capture may cost.
type Limits struct {
	MaxDuration  time.Duration // up to MaxDuration, which 0 stands for
	MaxFrequency int           // Hz, up to MaxFrequency, which 0 stands for
}

// A request is a CaptureRequest that was checked.
type request struct {
	matchers  []*labels.Matcher
	duration  time.Duration
	frequency int // Hz, of CPU samples
	kinds     []flamelinev1.CaptureKind
}

// parse checks a request. Errors begin with the field's name.
func (l Limits) parse(m *flamelinev1.CaptureRequest) (r request, err error) {
	bad := func(format string, args ...any) (request, error) {
		return r, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
	}
	switch {
	case strings.TrimSpace(m.LabelSelector) == "":
		return bad("label_selector: is empty; {} captures all processes")
	case len(m.LabelSelector) > maxSelector:
		return bad("label_selector: its %d bytes are more than %d", len(m.LabelSelector), maxSelector)
	}
	if r.matchers, err = profile.ParseSelector(m.LabelSelector); err != nil {
		return bad("label_selector: %w", err)
	}
	for _, ms := range r.matchers {
		if strings.HasPrefix(ms.Name, "__") || ms.Name == profile.LabelCapture {
			return bad("label_selector: %s is no label of a process; kinds says what is sampled", ms.Name)
		}
	}
	longest := min(cmp.Or(l.MaxDuration, MaxDuration), MaxDuration)
	if m.Duration < MinDuration.Milliseconds() || m.Duration > longest.Milliseconds() {
		return bad("duration: %d ms is not within %v and %v (capture.max_duration)", m.Duration, MinDuration, longest)
	}
	r.duration = time.Duration(m.Duration) * time.Millisecond
	most := min(cmp.Or(l.MaxFrequency, MaxFrequency), MaxFrequency)
	if m.Frequency < 0 || m.Frequency > int64(most) {
		return bad("frequency: %d is not within 1 and %d samples per second (capture.max_frequency)", m.Frequency, most)
	}
	r.frequency = cmp.Or(int(m.Frequency), min(DefaultFrequency, most))
	for i, k := range m.Kinds {
		if k == flamelinev1.CaptureKind_CAPTURE_KIND_UNSPECIFIED {
			k = flamelinev1.CaptureKind_CAPTURE_KIND_CPU
		}
		if _, ok := profileNames[k]; !ok {
			return bad("kinds[%d]: %d is not a kind of samples", i, k)
		}
		if !r.has(k) {
			r.kinds = append(r.kinds, k)
		}
	}
	if len(r.kinds) == 0 {
		r.kinds = []flamelinev1.CaptureKind{flamelinev1.CaptureKind_CAPTURE_KIND_CPU}
	}
	return r, nil
}

// has reports whether a kind is asked for.
func (r *request) has(k flamelinev1.CaptureKind) bool { return slices.Contains(r.kinds, k) }

// matches reports whether the labels of a process are in the selector.
func (r *request) matches(ls labels.Labels) bool {
	return !slices.ContainsFunc(r.matchers, func(m *labels.Matcher) bool { return !m.Matches(ls.Get(m.Name)) })
}

// profileNames are the names (__name__) of package sample's profiles by kind.
var profileNames = map[flamelinev1.CaptureKind][]string{
	flamelinev1.CaptureKind_CAPTURE_KIND_CPU:         {"process_cpu"},
	flamelinev1.CaptureKind_CAPTURE_KIND_OFF_CPU:     {"off_cpu"},
	flamelinev1.CaptureKind_CAPTURE_KIND_PAGE_FAULTS: {"page_faults", "oom"},
	flamelinev1.CaptureKind_CAPTURE_KIND_ALLOC:       {"memory"},
}

// kindOf is the kind of the profiles with a name, if it is asked for.
func (r *request) kindOf(name string) (flamelinev1.CaptureKind, bool) {
	for _, k := range r.kinds {
		if slices.Contains(profileNames[k], name) {
			return k, true
		}
	}
	return 0, false
}

// pageBytes are the bytes of a page that page faults are counted in.
const pageBytes = 4096

// count is how much a profile has of its kind: samples, waits, pages or objects. Memory in
// use, and kills for lack of memory, do not count.
func count(k flamelinev1.CaptureKind, name string, p *googlev1.Profile) (n int64) {
	want, unit := "", int64(1)
	switch k {
	case flamelinev1.CaptureKind_CAPTURE_KIND_OFF_CPU:
		want = "blocks"
	case flamelinev1.CaptureKind_CAPTURE_KIND_PAGE_FAULTS:
		want, unit = "page_faults", pageBytes
	case flamelinev1.CaptureKind_CAPTURE_KIND_ALLOC:
		want = "alloc_objects"
	default:
		want, unit = "cpu", max(p.Period, 1)
	}
	at := slices.IndexFunc(p.SampleType, func(t *googlev1.ValueType) bool { return p.StringTable[t.Type] == want })
	if at < 0 || name == "oom" {
		return 0
	}
	for _, s := range p.Sample {
		n += s.Value[at]
	}
	return n / unit
}
