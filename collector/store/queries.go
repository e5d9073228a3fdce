package store

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/pkg/profile"
)

// Tree merges all selected profiles into a call tree of functions. If a call site
// is given, from the outermost function inwards, only stacktraces that begin
// with it count. A selection without profiles gives a tree with a root of no
// value.
//
// With sel.MaxNodes the tree is the one that profile.Tree.Truncate makes of the
// whole one, at a cost that hardly grows with what is left out. Values that add up
// to more than an int64 holds give ErrLimit.
func (db *DB) Tree(ctx context.Context, sel query.Selection, callSite []string) (*profile.Tree, error) {
	return called(db, "tree", func() (*profile.Tree, error) { return db.queries.Tree(ctx, sel, callSite) })
}

// Diff merges two selections and compares them: the left one is what it was, the
// right one what it is. The tree is the one that profile.Diff and Truncate make
// of both whole trees, or TruncateFunctions if the left selection says Functions.
// maxNodes 0 means no limit; MaxNodes of the selections does not count. Errors are
// those of Tree.
func (db *DB) Diff(ctx context.Context, sels [2]query.Selection, callSites [2][]string, maxNodes int64) (*profile.DiffTree, error) {
	return called(db, "diff", func() (*profile.DiffTree, error) { return db.queries.Diff(ctx, sels, callSites, maxNodes) })
}

// Functions adds up the values of each function in one selection, or in two, of which
// the first is the left side. Stacktraces are chosen by call sites as in Tree; MaxNodes
// does not count. A state's values are averages over time, as in Tree, each rounded.
// choose returns the functions, by index, whose sources are wanted; nil for none.
// Errors are those of Tree.
func (db *DB) Functions(ctx context.Context, sels []query.Selection, callSites [][]string, choose func(*query.Functions) []int) (*query.Functions, error) {
	return called(db, "functions", func() (*query.Functions, error) { return db.queries.Functions(ctx, sels, callSites, choose) })
}

// View merges selections as Tree and Diff do, shows what a view says of all their
// stacktraces, and then cuts the flame graph to its largest calls. Errors are those of Tree.
func (db *DB) View(ctx context.Context, r query.ViewRequest) (*query.ViewTree, error) {
	return called(db, "view", func() (*query.ViewTree, error) { return db.queries.View(ctx, r) })
}

// Pprof merges all selected profiles into one pprof profile of one sample type.
// A call site selects stacktraces as in Tree. Its time is the selection's end
// and its duration the selection's length, as in Pyroscope.
func (db *DB) Pprof(ctx context.Context, sel query.Selection, callSite []string) (*query.Pprof, error) {
	return called(db, "pprof", func() (*query.Pprof, error) { return db.queries.Pprof(ctx, sel, callSite) })
}

// Points returns the series of a request, the largest sums first.
func (db *DB) Points(ctx context.Context, r query.SeriesRequest) ([]query.Series, error) {
	return called(db, "points", func() ([]query.Series, error) { return db.queries.Points(ctx, r) })
}

// FunctionPoints returns the series of a request for each of some functions: of the
// stacktraces that have the function, or with r.Own of those that end in it. r.Function
// does not count. A function that the service has, and a profile has not, is 0 there. More
// than MaxFunctions give ErrLimit.
func (db *DB) FunctionPoints(ctx context.Context, r query.SeriesRequest, functions []string) ([][]query.Series, error) {
	return called(db, "points", func() ([][]query.Series, error) { return db.queries.FunctionPoints(ctx, r, functions) })
}

// Offsets adds up the values of samples that have times of their own by steps of time and
// by offset within the second. Of profiles whose rows were dropped there are none.
func (db *DB) Offsets(ctx context.Context, r query.OffsetsRequest) (*query.Offsets, error) {
	return called(db, "offsets", func() (*query.Offsets, error) { return db.queries.Offsets(ctx, r) })
}

// Values returns what every profile that is selected has, or every span of one,
// by group, in the order of the groups' labels. Too many give ErrLimit.
func (db *DB) Values(ctx context.Context, r query.ValuesRequest) ([]query.Values, error) {
	return called(db, "values", func() ([]query.Values, error) { return db.queries.Values(ctx, r) })
}

// LabelNames returns the names of all labels of the series that match and have
// profiles in the five-minute windows that overlap a time range, in ms, sorted.
// A range from 0 to 0 is all time; so it is for the other calls about labels.
func (db *DB) LabelNames(ctx context.Context, ms []*labels.Matcher, start, end int64) ([]string, error) {
	return called(db, "label_names", func() ([]string, error) { return db.queries.LabelNames(ctx, ms, start, end) })
}

// LabelValues returns the values of a label, sorted.
func (db *DB) LabelValues(ctx context.Context, name string, ms []*labels.Matcher, start, end int64) ([]string, error) {
	return called(db, "label_values", func() ([]string, error) { return db.queries.LabelValues(ctx, name, ms, start, end) })
}

// ProfileTypes returns the profile types that have profiles, sorted by ID.
func (db *DB) ProfileTypes(ctx context.Context, start, end int64) ([]profile.Type, error) {
	return called(db, "label_values", func() ([]profile.Type, error) { return db.queries.ProfileTypes(ctx, start, end) })
}

// Labels returns the distinct label sets of the series, reduced to the given names
// if there are any. Series that have none of them are left out.
func (db *DB) Labels(ctx context.Context, names []string, ms []*labels.Matcher, start, end int64) (sets *LabelSets, err error) {
	return sets, db.UseLabels(ctx, names, ms, start, end, func(s *LabelSets) error {
		sets = s
		return nil
	})
}

// UseLabels calls use with what Labels returns. It is for answers that are as large
// as all sets written out: there is memory for one until use returns, also if it
// is somewhat more than queries may take together.
func (db *DB) UseLabels(ctx context.Context, names []string, ms []*labels.Matcher, start, end int64, use func(*LabelSets) error) error {
	return db.call("labels", func() error { return db.queries.UseLabels(ctx, names, ms, start, end, use) })
}

// CountLabels is the number of sets that Labels returns.
func (db *DB) CountLabels(ctx context.Context, names []string, ms []*labels.Matcher, start, end int64) (int, error) {
	return called(db, "labels", func() (int, error) { return db.queries.CountLabels(ctx, names, ms, start, end) })
}

// Stats returns what the store holds.
func (db *DB) Stats(ctx context.Context) (query.Stats, error) {
	return called(db, "stats", func() (query.Stats, error) { return db.queries.Stats(ctx) })
}

// called is DB.call for a call that returns something.
func called[T any](db *DB, name string, fn func() (T, error)) (out T, err error) {
	err = db.call(name, func() error {
		out, err = fn()
		return err
	})
	return out, err
}
