package query

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/backend/gtime"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/profile"
)

// Version is the newest version of the query model that this code reads. Queries of
// Grafana's Pyroscope data source have no version; model version 1 includes them.
const Version = 1

// The query types.
const (
	TypeProfile = "profile" // a flame graph
	TypeMetrics = "metrics" // a series over time
	TypeBoth    = "both"
	// TypeComparison is a flame graph that compares with a baseline.
	TypeComparison = "comparison"
	// TypeFunctions is a table of functions, with a baseline if the query has one.
	TypeFunctions = "functions"
	// TypeFunctionSeries is a series over time for each of some functions.
	TypeFunctionSeries = "functionSeries"
	// TypeExplain is a table of what accounts for the change from the baseline.
	TypeExplain = "explain"
	// TypeAnnotations is what marks on charts ask for: when a type had values.
	TypeAnnotations = "annotations"
	// TypeHeatmap is a heat map of values over time, by label or by offset within the second.
	TypeHeatmap = "heatmap"
)

// The units of flame graphs.
const (
	UnitTime  = "time"  // values as measured
	UnitCores = "cores" // values per second, the unit of the series
	// UnitPercent is a share of the selection's total, for tables of functions too.
	UnitPercent = "percent"
	UnitSamples = "samples" // how many samples were taken, if that is known
)

// A Model is a query in a dashboard's JSON. Unknown fields are ignored, so that queries
// of the Pyroscope data source can be read.
type Model struct {
	Version       int      `json:"version"`
	QueryType     string   `json:"queryType"`
	ProfileTypeID string   `json:"profileTypeId"`
	LabelSelector string   `json:"labelSelector"`
	GroupBy       []string `json:"groupBy"`
	Limit         *int64   `json:"limit,omitempty"`
	MaxNodes      *int64   `json:"maxNodes,omitempty"`
	SpanSelector  []string `json:"spanSelector,omitempty"`
	Step          Step     `json:"step,omitempty"`
	Unit          string   `json:"unit,omitempty"`
	// Baseline is set by ParseModel for TypeComparison and TypeExplain, may be set for TypeFunctions, and is
	// ignored by other query types.
	Baseline *Baseline `json:"baseline,omitempty"`
	// Sort is SortOwn or SortTotal: what TypeFunctions is ordered by and TypeFunctionSeries
	// shows.
	Sort string `json:"sort,omitempty"`
	// Functions are the names of functions for TypeFunctionSeries; none for the largest.
	Functions []string `json:"functions,omitempty"`
	// Heatmap is HeatmapLabel or HeatmapOffset, Rows how many rows the latter has.
	Heatmap string `json:"heatmap,omitempty"`
	Rows    int64  `json:"rows,omitempty"`
	// View is what flame graphs show.
	View *View `json:"view,omitempty"`
	// Of Grafana's Pyroscope data source; foreign.go has what becomes of them.
	ProfileIDSelector []string `json:"profileIdSelector,omitempty"`
	Annotations       bool     `json:"annotations,omitempty"`
	IncludeExemplars  bool     `json:"includeExemplars,omitempty"`
	IncludeHeatmap    bool     `json:"includeHeatmap,omitempty"`
	// Notice is shown with the result: a link that created the query can say there what
	// it left out.
	Notice string `json:"notice,omitempty"`

	profileType profile.Type
}

// A Step is a duration: "15s", or a number of seconds.
type Step time.Duration

func (s Step) duration() time.Duration { return time.Duration(s) }

// UnmarshalJSON reads a string or a number.
func (s *Step) UnmarshalJSON(b []byte) error {
	var seconds float64
	if json.Unmarshal(b, &seconds) == nil {
		if seconds < 0 || seconds > math.MaxInt32 {
			return client.Invalidf("step", "%g seconds is not a length of time", seconds)
		}
		*s = Step(seconds * float64(time.Second))
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return client.Invalidf("step", "want a duration such as 15s")
	}
	d, err := ParseStep(text)
	*s = Step(d)
	return err
}

// ParseStep reads a duration such as 15s, 1m or 1h; "" is 0.
func ParseStep(s string) (time.Duration, error) {
	if s = strings.TrimSpace(s); s == "" {
		return 0, nil
	}
	d, err := gtime.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, client.Invalidf("step", "%q is not a duration such as 15s or 1m", s)
	}
	return d, nil
}

// ParseModel reads and checks a query. Errors name the invalid field.
func ParseModel(raw json.RawMessage) (*Model, error) {
	var m Model
	if err := json.Unmarshal(raw, &m); err != nil {
		var (
			kind    *json.UnmarshalTypeError
			invalid *client.InvalidError
		)
		switch {
		case errors.As(err, &invalid):
			return nil, err
		case errors.As(err, &kind) && kind.Field != "":
			return nil, client.Invalidf(kind.Field, "want %s, not a %s", wanted(kind.Type), kind.Value)
		}
		return nil, backend.PluginError(&client.InvalidError{Field: "query", Err: err})
	}
	return &m, m.check()
}

// wanted returns what a field of a type holds, for an error message.
func wanted(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[TimeText]():
		return "a time"
	case t.Kind() == reflect.Struct:
		return "an object"
	}
	return t.String()
}

// check sets defaults, and returns an error for an invalid field.
func (m *Model) check() error {
	if m.Version > Version {
		return client.Invalidf("version", "the query is of version %d, this plugin reads up to %d; update the plugin", m.Version, Version)
	}
	switch m.QueryType {
	case "":
		m.QueryType = TypeBoth
	case TypeProfile, TypeMetrics, TypeBoth, TypeComparison, TypeFunctions, TypeFunctionSeries, TypeExplain, TypeAnnotations, TypeHeatmap:
	default:
		return client.Invalidf("queryType", "%q is not one of %s, %s, %s, %s, %s, %s, %s, %s and %s", m.QueryType,
			TypeProfile, TypeMetrics, TypeBoth, TypeComparison, TypeFunctions, TypeFunctionSeries, TypeExplain, TypeAnnotations, TypeHeatmap)
	}
	switch m.Sort {
	case "":
		m.Sort = SortOwn
	case SortOwn, SortTotal:
	default:
		return client.Invalidf("sort", "%q is neither %s nor %s", m.Sort, SortOwn, SortTotal)
	}
	switch m.Unit {
	case "":
		m.Unit = UnitTime
	case UnitTime, UnitCores, UnitPercent, UnitSamples:
	default:
		return client.Invalidf("unit", "%q is not one of %s, %s, %s and %s", m.Unit, UnitTime, UnitCores, UnitPercent, UnitSamples)
	}
	if err := m.View.check(); err != nil {
		return err
	}
	if m.ProfileTypeID == "" {
		return client.Invalidf("profileTypeId", "choose a profile type")
	}
	var err error
	if m.profileType, err = profile.ParseType(m.ProfileTypeID); err != nil {
		return client.Invalidf("profileTypeId", "%w", err)
	}
	if m.LabelSelector = strings.TrimSpace(m.LabelSelector); m.LabelSelector == "" {
		m.LabelSelector = "{}"
	}
	if _, err := profile.ParseSelector(m.LabelSelector); err != nil {
		return client.Invalidf("labelSelector", "%w", err)
	}
	for _, n := range []struct {
		field string
		value **int64
	}{{"limit", &m.Limit}, {"maxNodes", &m.MaxNodes}} {
		if v := *n.value; v != nil && *v < 0 {
			return client.Invalidf(n.field, "%d is below 0", *v)
		} else if v != nil && *v == 0 {
			*n.value = nil
		}
	}
	m.GroupBy = slices.DeleteFunc(m.GroupBy, func(s string) bool { return strings.TrimSpace(s) == "" })
	m.Functions = slices.DeleteFunc(m.Functions, func(s string) bool { return s == "" })
	m.SpanSelector = slices.DeleteFunc(m.SpanSelector, func(s string) bool { return strings.TrimSpace(s) == "" })
	for _, id := range m.SpanSelector {
		if _, err := hex.DecodeString(id); err != nil || len(id) != 16 {
			return client.Invalidf("spanSelector", "%q is not a span ID of 16 hexadecimal digits", id)
		}
	}
	m.ProfileIDSelector = slices.DeleteFunc(m.ProfileIDSelector, func(s string) bool { return strings.TrimSpace(s) == "" })
	if m.QueryType == TypeHeatmap {
		return m.checkHeatmap()
	}
	compares := m.QueryType == TypeComparison || m.QueryType == TypeExplain
	if compares && m.Baseline == nil {
		m.Baseline = &Baseline{}
	}
	if m.Baseline != nil && (compares || m.QueryType == TypeFunctions) {
		return m.Baseline.check(m.LabelSelector)
	}
	return nil
}

// describe returns the query in one line, for Grafana's query inspector.
func (m *Model) describe() string {
	s := m.ProfileTypeID + m.LabelSelector
	if len(m.GroupBy) > 0 {
		s += fmt.Sprintf(" by (%s)", strings.Join(m.GroupBy, ", "))
	}
	return s
}
