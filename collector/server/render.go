package server

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/flameline/flameline/collector/render"
	"github.com/flameline/flameline/pkg/profile"
)

// A renderer answers /render and /render-diff, Pyroscope's endpoints from before its
// present API, which are still used by hand and in scripts. It is stateless and safe for
// concurrent use.
type renderer struct {
	*querier
	now func() time.Time
}

// The formats of /render and /render-diff, the default first.
var (
	renderFormats = []string{"json", "collapsed", "pprof", "dot", "svg", "html", "speedscope"}
	diffFormats   = []string{"json", "collapsed", "svg", "html"}
)

// These parameters group and aggregate the timeline.
var (
	renderGroup       = parameter{"groupBy"}
	renderAggregation = parameter{"aggregation"}
)

// format reads the parameter format, whose default is the first of known.
func format(v url.Values, known []string) (string, error) {
	f := v.Get("format")
	if f == "" {
		return known[0], nil
	}
	if !slices.Contains(known, f) {
		return "", invalid(fmt.Errorf("format: %q is not one of %s", f, strings.Join(known, ", ")))
	}
	return f, nil
}

// render answers /render.
func (r *renderer) render(ctx context.Context, v url.Values) (*download, error) {
	f, err := format(v, renderFormats)
	if err != nil {
		return nil, err
	}
	names := renderNames{query: parameter{"query", "name"}, from: parameter{"from"}, until: parameter{"until"}}
	if err := checkKnown(v, names.query, names.from, names.until, parameter{"format"}, renderNodes, renderGroup, renderAggregation); err != nil {
		return nil, invalid(err)
	}
	for _, p := range []parameter{renderGroup, renderAggregation} {
		if name, value := p.of(v); value != "" && f != "json" {
			return nil, invalid(fmt.Errorf("%s: applies to the timeline of the format json; the format is %s", name, f))
		}
	}
	if name, value := renderNodes.of(v); value != "" && f == "pprof" {
		return nil, invalid(fmt.Errorf("%s: cannot be combined with the format pprof, which is never cut", name))
	}
	q, err := r.query(ctx, v, names)
	if err != nil {
		return nil, err
	}
	nodes, shown, err := r.maxNodes(v)
	if err != nil {
		return nil, err
	}
	if f == "pprof" {
		return r.pprofFile(ctx, q)
	}
	switch f {
	case "json", "svg", "html":
		q.MaxNodes = shown
	case "collapsed", "speedscope": // complete unless the request limits the nodes
		q.MaxNodes = nodes
	}
	t, err := r.store.Tree(ctx, q.Selection, nil)
	if err != nil {
		return nil, code(err)
	}
	if t.Total() == 0 {
		if err := r.checkType(ctx, "query", q.Type); err != nil {
			return nil, err
		}
	}
	switch f {
	case "collapsed":
		return &download{contentType: "text/plain; charset=utf-8", file: q.file("folded"), write: t.WriteFolded}, nil
	case "speedscope":
		return &download{contentType: "application/json", file: q.file("speedscope.json"), write: func(w io.Writer) error {
			return t.WriteSpeedscope(w, q.title()+", "+q.period(), q.Type.SampleUnit)
		}}, nil
	case "dot":
		return &download{contentType: "text/vnd.graphviz; charset=utf-8", file: q.file("dot"), write: func(w io.Writer) error {
			_, err := io.WriteString(w, dot(t, q.Type, nodes))
			return err
		}}, nil
	case "svg":
		return &download{contentType: "image/svg+xml", file: q.file("svg"), write: func(w io.Writer) error {
			return t.WriteSVG(w, profile.SVG{
				Title: q.title(), Subtitle: q.period() + ", total " + profile.FormatValue(t.Total(), q.Type.SampleUnit),
				Unit: q.Type.SampleUnit, Palette: q.Type.Palette(),
			})
		}}, nil
	case "html":
		return &download{contentType: "text/html; charset=utf-8", file: q.file("html"), write: func(w io.Writer) error {
			return render.Write(w, render.HTML, &render.Document{Title: q.title(), Subtitle: q.period(), Type: q.Type, Tree: t})
		}}, nil
	}
	p, err := flamebearerOf(t, q.Type)
	if err != nil {
		return nil, err
	}
	if err := r.timelines(ctx, &p, q, v); err != nil {
		return nil, err
	}
	return p.download(), nil
}

// pprofFile returns the selected profiles merged into one gzipped pprof file.
func (r *renderer) pprofFile(ctx context.Context, q renderQuery) (*download, error) {
	p, err := r.store.Pprof(ctx, q.Selection, nil)
	if err != nil {
		return nil, code(err)
	}
	if p.Samples == 0 {
		if err := r.checkType(ctx, "query", q.Type); err != nil {
			return nil, err
		}
	}
	return &download{contentType: "application/octet-stream", file: q.file("pb.gz"), compressed: true, write: func(w io.Writer) error {
		z := gzip.NewWriter(w)
		if _, err := z.Write(p.Data); err != nil {
			return err
		}
		return z.Close()
	}}, nil
}

// maxNodes reads the requested number of nodes, 0 if there is none, and returns also the
// number that a flame graph then shows.
func (r *renderer) maxNodes(v url.Values) (asked, shown int64, err error) {
	name, asked, err := maxNodes(v)
	if err != nil {
		return 0, 0, err
	}
	if shown, err = r.limits.size(asked); err != nil {
		return 0, 0, invalid(fmt.Errorf("%s: %w", name, err))
	}
	return asked, shown, nil
}

// title returns the title of a flame graph: service and sample type.
func (q renderQuery) title() string {
	if q.Service == "" {
		return q.Type.SampleType
	}
	return q.Service + " " + q.Type.SampleType
}

// period returns the time range as text.
func (q renderQuery) period() string {
	const layout = "2006-01-02 15:04:05"
	return q.from.UTC().Format(layout) + " to " + q.until.UTC().Format(layout) + " UTC"
}

// file returns a name for a download, of characters that are safe in file systems and
// shells: service, profile type, start and end.
func (q renderQuery) file(extension string) string {
	const layout = "20060102T150405Z"
	service := q.Service
	if service == "" {
		service = "profile"
	}
	plain := func(s string) string {
		return strings.Trim(strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
				return r
			}
			return '-'
		}, s), ".-")
	}
	return strings.Join([]string{
		plain(service), plain(q.Type.SampleType), q.from.UTC().Format(layout), q.until.UTC().Format(layout),
	}, "_") + "." + extension
}
