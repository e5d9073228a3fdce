package server

import (
	"context"
	"fmt"
	"io"
	"net/url"

	"github.com/flameline/flameline/collector/render"
	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/pkg/profile"
)

// renderDiff answers /render-diff. Values that are equal on both sides may be given
// once, as query, from and until.
func (r *renderer) renderDiff(ctx context.Context, v url.Values) (*download, error) {
	f, err := format(v, diffFormats)
	if err != nil {
		return nil, err
	}
	known := []parameter{{"query"}, {"from"}, {"until"}, {"format"}, renderNodes}
	for _, side := range []string{"left", "right"} {
		known = append(known, parameter{side + "Query"}, parameter{side + "From"}, parameter{side + "Until"})
	}
	if err := checkKnown(v, known...); err != nil {
		return nil, invalid(err)
	}
	var sides [2]renderQuery
	for i, side := range []string{"left", "right"} {
		sides[i], err = r.query(ctx, v, renderNames{
			query: parameter{side + "Query", "query"}, from: parameter{side + "From", "from"}, until: parameter{side + "Until", "until"},
		})
		if err != nil {
			return nil, err
		}
	}
	left, right := sides[0], sides[1]
	if left.Type != right.Type {
		return nil, invalid(fmt.Errorf("rightQuery: the profile type is %q, but that of leftQuery is %q", right.Type, left.Type))
	}
	asked, shown, err := r.maxNodes(v)
	if err != nil {
		return nil, err
	}
	if f == "collapsed" {
		shown = asked // an export is complete unless the request limits the nodes
	}
	d, err := r.store.Diff(ctx, [2]store.Selection{left.Selection, right.Selection}, [2][]string{}, shown)
	if err != nil {
		return nil, code(err)
	}
	if d.Nodes[0].Total == 0 && d.Nodes[0].TotalRight == 0 {
		if err := r.checkType(ctx, "leftQuery", left.Type); err != nil {
			return nil, err
		}
	}
	file := func(extension string) string { return right.file("diff." + extension) }
	switch f {
	case "collapsed":
		return &download{contentType: "text/plain; charset=utf-8", file: file("folded"), write: d.WriteFolded}, nil
	case "svg":
		return &download{contentType: "image/svg+xml", file: file("svg"), write: func(w io.Writer) error {
			return d.WriteSVG(w, profile.SVG{Title: diffTitle(left, right), Subtitle: diffPeriods(left, right), Unit: left.Type.SampleUnit})
		}}, nil
	case "html":
		return &download{contentType: "text/html; charset=utf-8", file: file("html"), write: func(w io.Writer) error {
			return render.WriteDiff(w, render.HTML, &render.Comparison{
				Title: diffTitle(left, right), Subtitle: diffPeriods(left, right), Type: left.Type, Tree: d,
			})
		}}, nil
	}
	p, err := flamebearerOfDiff(d, left.Type)
	if err != nil {
		return nil, err
	}
	return p.download(), nil
}

func diffTitle(left, right renderQuery) string {
	if left.title() == right.title() {
		return left.title()
	}
	return left.title() + " and " + right.title()
}

func diffPeriods(left, right renderQuery) string {
	return fmt.Sprintf("left %s, right %s", left.period(), right.period())
}
