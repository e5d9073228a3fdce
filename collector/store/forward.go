package store

import (
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
)

// A SeriesRequest asks for the values of profiles over time.
type SeriesRequest = query.SeriesRequest

// A Series is one group's points, in order of time. Steps without profiles have
// no point.
type Series = query.Series

// A Point is the value of the step (Time-Step, Time] that ends at Time, in ms. Of a
// profile that lies in several steps each has its share.
type Point = query.Point

// Names are functions of binaries that were not known when profiles were stored.
type Names = query.Names

// MaxFunctions is the most functions of one call of FunctionPoints.
const MaxFunctions = query.MaxFunctions

// MaxCells is the most values of Offsets: columns times rows.
const MaxCells = query.MaxCells

// MaxPoints is the most points of a series.
const MaxPoints = query.MaxPoints

// Functions are the values of all functions of one or two selections.
type Functions = query.Functions

// A ViewRequest asks for a flame graph that a view changes.
type ViewRequest = query.ViewRequest

// A ViewTree is a flame graph whose root has the total of the selections: what the view
// drops is own value of the root.
type ViewTree = query.ViewTree

// A Pprof is an encoded pprof profile: Data is a Profile message of
// profile.proto, not compressed, with Samples samples.
type Pprof = query.Pprof

// A ProfileID is what the store knows a profile by: the 64-bit xxHash of the ID
// that its sender gave, or a random number. All series of a profile have the same
// one.
type ProfileID = query.ProfileID

// A Selection says which profiles a query is about: those of a profile type and
// of the series that all matchers match, taken at Start <= time <= End, in ms
// since 1970.
type Selection = query.Selection

// Stats say what the store holds.
type Stats = query.Stats

// An OffsetsRequest asks for the values of samples by steps of time and by offset within
// the second.
type OffsetsRequest = query.OffsetsRequest

// Offsets are values by step and row.
type Offsets = query.Offsets

// A ValuesRequest asks for profiles, or for the spans within them, one by one.
type ValuesRequest = query.ValuesRequest

// Values are those of one group, in order of time and then of IDs. None is 0.
type Values = query.Values

// A Value is the total of a profile, of all its series that are in the group, or
// of one of its spans. Where the rows of single profiles were dropped, it is of
// one series, and there are no spans.
type Value = query.Value

// An Exemplar is a profile, or a span of one, as an example of a group.
type Exemplar = query.Exemplar

// A SpanID is an OpenTelemetry span's, of whose 8 bytes the first is the
// highest. 0 is no span.
type SpanID = rowcodec.SpanID

// ParseSpanID reads 16 hexadecimal digits.
var ParseSpanID = rowcodec.ParseSpanID

// A TraceID is an OpenTelemetry trace's. Zeros are no trace.
type TraceID = rowcodec.TraceID

// ParseTraceID reads 32 hexadecimal digits.
var ParseTraceID = rowcodec.ParseTraceID

// LabelSets are distinct label sets in the order of labels.Compare. They are kept
// by column: for every name its values, and for every set which of them it has.
type LabelSets = labelindex.LabelSets

// Holding returns a context for one request, in which the memory that the answers of
// queries take stays counted until the request has ended and done is called: answers
// have to be encoded and sent. Calls with the context follow one after the other.
var Holding = budget.Holding

// Patience is how long a request waits for its turn: without a deadline the given
// time, with one so long that a refusal still reaches the client.
var Patience = budget.Patience
