package labelindex

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/pkg/profile"
)

// A HourIndex lists the streams that have profiles in one hour, a row for each, with
// their labels by columns: a column has a label's distinct values and for each
// row which of them it is. What a lookup costs depends on how many streams were
// active in its hours, not on how many the day had.
//
// A table that was read from disk does not change, but for the columns that it
// reads when they are asked for; it is safe for concurrent use.
type HourIndex struct {
	Streams    []uint32
	Slots      []uint16 // of the hour, in which the row's stream has profiles
	Partitions []uint32
	KindOf     []uint32 // index in kinds
	Kinds      []Kind
	Names      []string // of the columns

	Read func(name string) (*LabelColumn, error) // from disk; none in memory

	mu      sync.Mutex
	columns map[string]*LabelColumn // those that were read
	Bytes   int64
}

// AllSlots is the set of all slots of an hour.
const AllSlots = 1<<layout.SlotsPerHour - 1

// A Kind is what streams of the same __name__ and sample types share: the labels
// that follow from the types.
type Kind struct {
	Def   Definition      // with few labels or none
	types []labels.Labels // by sample type
}

// A LabelColumn holds a label of all rows.
type LabelColumn struct {
	values []string // sorted, unless it grows
	of     []uint32 // by row: index in values plus one; 0, or too short, for none

	grows  bool // it is in memory
	sorted atomic.Pointer[columnOrder]
}

// A columnOrder is the order of a column's values.
type columnOrder struct {
	values  []string // sorted
	indexes []uint32 // of them in the column
}

// order returns the values of a column sorted, and where they are in it; nil means
// at the same place. It is kept until the column grows, which the caller keeps it from.
func (c *LabelColumn) order() (values []string, indexes []uint32) {
	if !c.grows {
		return c.values, nil
	}
	known := c.sorted.Load()
	if known == nil || len(known.values) < len(c.values) {
		known = &columnOrder{make([]string, len(c.values)), make([]uint32, len(c.values))}
		for i := range known.indexes {
			known.indexes[i] = uint32(i)
		}
		slices.SortFunc(known.indexes, func(a, b uint32) int { return strings.Compare(c.values[a], c.values[b]) })
		for i, at := range known.indexes {
			known.values[i] = c.values[at]
		}
		c.sorted.Store(known)
	}
	return known.values, known.indexes
}

// eachInOrder calls fn with the values in their order, and their indexes plus one.
func (c *LabelColumn) eachInOrder(fn func(value string, index uint32)) {
	values, indexes := c.order()
	for i, v := range values {
		at := uint32(i)
		if indexes != nil {
			at = indexes[i]
		}
		fn(v, at+1)
	}
}

func (c *LabelColumn) at(row uint32) uint32 {
	if int(row) < len(c.of) {
		return c.of[row]
	}
	return 0
}

// Value is "" if the row has no such label.
func (c *LabelColumn) Value(row uint32) string {
	if c == nil {
		return ""
	}
	if i := c.at(row); i > 0 {
		return c.values[i-1]
	}
	return ""
}

// Follows reports whether a label of a series follows from its sample type.
func Follows(name string) bool {
	switch name {
	case LabelProfileType, LabelType, LabelUnit, labelPeriodType, labelPeriodUnit:
		return true
	}
	return false
}

// ColumnName is the name of the column that holds a label.
func ColumnName(name string) string {
	if name == LabelServicePrivate { // a copy
		return LabelServiceName
	}
	return name
}

// NewKind makes the kind of a stream. Each capture has kinds of its own, so that its
// streams are in no aggregate with others.
func NewKind(def *Definition) Kind {
	k := Kind{Def: Definition{Period: def.Period, Types: def.Types}}
	var b labels.ScratchBuilder
	def.Labels.Range(func(l labels.Label) {
		if l.Name == LabelName || Follows(l.Name) || IsCapture(l) {
			b.Add(l.Name, l.Value)
		}
	})
	k.Def.Labels = b.Labels()
	k.derive()
	return k
}

// IsCapture reports whether a label is that of a capture.
func IsCapture(l labels.Label) bool {
	return l.Name == profile.LabelCapture && profile.IsCaptureID(l.Value)
}

// Captured reports whether the streams of a kind are of a capture.
func (k *Kind) Captured() bool { return profile.IsCaptureID(k.Def.Labels.Get(profile.LabelCapture)) }

func (k *Kind) derive() {
	for i := range k.Def.Types {
		var b labels.ScratchBuilder
		k.Def.SeriesLabels(i).Range(func(l labels.Label) {
			if Follows(l.Name) {
				b.Add(l.Name, l.Value)
			}
		})
		k.types = append(k.types, b.Labels())
	}
}

// Size is the memory of the index in bytes.
func (t *HourIndex) Size() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.Bytes
}

// column returns the column of a name, nil if there is none. Errors wrap
// ErrCorrupt if it is corrupt.
func (t *HourIndex) column(name string) (*LabelColumn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.columns[name]
	if c != nil || t.Read == nil {
		return c, nil
	}
	if _, ok := slices.BinarySearch(t.Names, name); !ok {
		return nil, nil
	}
	c, err := t.Read(name)
	if err != nil {
		return nil, err
	}
	t.columns[name] = c
	t.Bytes += int64(len(c.of))*4 + int64(len(c.values))*16
	for _, v := range c.values {
		t.Bytes += int64(len(v))
	}
	return c, nil
}

// A Pick is a set of a table's series.
type Pick struct {
	Rows  []uint32
	Types [][]int // by kind: the sample types
	all   bool    // all rows, with all types
}

// Pick finds the rows that have profiles in one of the slots and match. As in
// PromQL a missing label is an empty one.
func (t *HourIndex) Pick(ms []*labels.Matcher, slots uint16) (p Pick, err error) {
	p = Pick{Types: make([][]int, len(t.Kinds)), all: slots == AllSlots && len(ms) == 0}
	var own []*labels.Matcher
	for k := range t.Kinds {
		for i := range t.Kinds[k].types {
			p.Types[k] = append(p.Types[k], i)
		}
	}
	for _, m := range ms {
		if !Follows(m.Name) {
			own = append(own, m)
			continue
		}
		for k := range t.Kinds {
			p.Types[k] = slices.DeleteFunc(p.Types[k], func(i int) bool {
				return !m.Matches(t.Kinds[k].types[i].Get(m.Name))
			})
		}
	}
	p.Rows = make([]uint32, 0, len(t.Streams))
	for row, k := range t.KindOf {
		if t.Slots[row]&slots != 0 && len(p.Types[k]) > 0 {
			p.Rows = append(p.Rows, uint32(row))
		}
	}
	for _, m := range own {
		if len(p.Rows) == 0 {
			break
		}
		if err := t.narrow(&p, m); err != nil {
			return Pick{}, err
		}
	}
	return p, nil
}

// narrow keeps the rows that match.
func (t *HourIndex) narrow(p *Pick, m *labels.Matcher) error {
	c, err := t.column(ColumnName(m.Name))
	if err != nil {
		return err
	}
	if c == nil {
		if !m.Matches("") {
			p.Rows = p.Rows[:0]
		}
		return nil
	}
	var hit func(uint32) bool // by index in values plus one
	if m.Type == labels.MatchEqual || m.Type == labels.MatchNotEqual {
		want := uint32(slices.Index(c.values, m.Value) + 1)
		if want == 0 && m.Value != "" {
			want = uint32(len(c.values)) + 1 // none has it
		}
		equal := m.Type == labels.MatchEqual
		hit = func(i uint32) bool { return i == want == equal }
	} else {
		// Every value is looked at once, however many rows have it.
		hits := make([]bool, len(c.values)+1)
		hits[0] = m.Matches("")
		for i, v := range c.values {
			hits[i+1] = m.Matches(v)
		}
		hit = func(i uint32) bool { return hits[i] }
	}
	p.Rows = slices.DeleteFunc(p.Rows, func(row uint32) bool { return !hit(c.at(row)) })
	return nil
}

// LabelNames adds the names that the picked series have.
func (t *HourIndex) LabelNames(p *Pick, seen map[string]struct{}) error {
	if len(p.Rows) == 0 {
		return nil
	}
	for _, name := range t.Names {
		if _, ok := seen[name]; ok {
			continue
		}
		if !p.all {
			c, err := t.column(name)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(p.Rows, func(row uint32) bool { return c.at(row) != 0 }) {
				continue
			}
		}
		seen[name] = struct{}{}
		if name == LabelServiceName {
			seen[LabelServicePrivate] = struct{}{}
		}
	}
	t.EachType(p, func(ls labels.Labels) {
		ls.Range(func(l labels.Label) { seen[l.Name] = struct{}{} })
	})
	return nil
}

// EachType calls fn for what follows from the sample types of the picked series.
func (t *HourIndex) EachType(p *Pick, fn func(labels.Labels)) {
	used := make([]bool, len(t.Kinds))
	for _, row := range p.Rows {
		used[t.KindOf[row]] = true
	}
	for k, yes := range used {
		if !yes {
			continue
		}
		for _, i := range p.Types[k] {
			fn(t.Kinds[k].types[i])
		}
	}
}

// LabelValues returns the values of a label that the picked series have.
func (t *HourIndex) LabelValues(p *Pick, name string) ([]string, error) {
	if len(p.Rows) == 0 {
		return nil, nil
	}
	if Follows(name) {
		var out []string
		t.EachType(p, func(ls labels.Labels) {
			if v := ls.Get(name); v != "" {
				out = append(out, v)
			}
		})
		return out, nil
	}
	c, err := t.column(ColumnName(name))
	if c == nil || err != nil {
		return nil, err
	}
	if p.all {
		values, _ := c.order()
		return values, nil
	}
	seen := make([]bool, len(c.values)+1)
	n := 0
	for _, row := range p.Rows {
		if i := c.at(row); i != 0 && !seen[i] {
			seen[i] = true
			n++
		}
	}
	out := make([]string, 0, n)
	c.eachInOrder(func(v string, i uint32) {
		if seen[i] {
			out = append(out, v)
		}
	})
	return out, nil
}

// MergeSorted returns what is in any of the lists, sorted and each once. The
// lists stay as they are.
func MergeSorted(lists [][]string) []string {
	for i, l := range lists {
		if !slices.IsSorted(l) {
			lists[i] = slices.Clone(l)
			slices.Sort(lists[i])
		}
	}
	for len(lists) > 1 {
		var next [][]string
		for i := 0; i+1 < len(lists); i += 2 {
			next = append(next, mergeTwo(lists[i], lists[i+1]))
		}
		if len(lists)%2 == 1 {
			next = append(next, lists[len(lists)-1])
		}
		lists = next
	}
	if len(lists) == 0 {
		return []string{}
	}
	return slices.Compact(slices.Clone(lists[0]))
}

func mergeTwo(a, b []string) []string {
	out := make([]string, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch order := strings.Compare(a[0], b[0]); {
		case order < 0:
			out, a = append(out, a[0]), a[1:]
		case order > 0:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, a[0]), a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}
