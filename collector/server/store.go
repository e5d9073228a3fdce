package server

import (
	"context"
	"io"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/pkg/profile"
)

// Store is the interface that the server needs; *store.DB implements it. It is safe for
// concurrent use. Times are Unix milliseconds, and ranges include both ends.
type Store interface {
	Append(ctx context.Context, ps []profile.Profile) error
	Tree(ctx context.Context, sel store.Selection, stack []string) (*profile.Tree, error)
	Diff(ctx context.Context, sels [2]store.Selection, stacks [2][]string, maxNodes int64) (*profile.DiffTree, error)
	Functions(ctx context.Context, sels []store.Selection, stacks [][]string, choose func(*store.Functions) []int) (*store.Functions, error)
	View(ctx context.Context, r store.ViewRequest) (*store.ViewTree, error)
	Pprof(ctx context.Context, sel store.Selection, stack []string) (*store.Pprof, error)
	Points(ctx context.Context, r store.SeriesRequest) ([]store.Series, error)
	FunctionPoints(ctx context.Context, r store.SeriesRequest, functions []string) ([][]store.Series, error)
	Offsets(ctx context.Context, r store.OffsetsRequest) (*store.Offsets, error)
	Values(ctx context.Context, r store.ValuesRequest) ([]store.Values, error)
	LabelNames(ctx context.Context, ms []*labels.Matcher, start, end int64) ([]string, error)
	LabelValues(ctx context.Context, name string, ms []*labels.Matcher, start, end int64) ([]string, error)
	UseLabels(ctx context.Context, names []string, ms []*labels.Matcher, start, end int64, use func(*store.LabelSets) error) error
	CountLabels(ctx context.Context, names []string, ms []*labels.Matcher, start, end int64) (int, error)
	ProfileTypes(ctx context.Context, start, end int64) ([]profile.Type, error)
	Stats(ctx context.Context) (store.Stats, error)
	Settings(ctx context.Context) ([]store.Setting, error)
	SetSetting(ctx context.Context, s store.Setting) error
	DeleteSetting(ctx context.Context, name string) error
	Backup(ctx context.Context, w io.Writer) (store.Backup, error)
	// Writable returns nil if the store accepts profiles, else the reason why not.
	Writable() error
	// Damage lists the data that cannot be read.
	Damage() []store.Damage
	// Reductions lists the services that exceeded the limit on series, and whose labels
	// were reduced.
	Reductions() []store.Reduction
}

var _ Store = (*store.DB)(nil)
