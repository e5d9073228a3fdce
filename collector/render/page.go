package render

import (
	_ "embed" // the page
	"encoding/json"
	"fmt"
	"html/template"
	"io"

	"github.com/flameline/flameline/pkg/profile"
)

//go:embed page/page.html
var pageHTML string

//go:embed page/page.css
var pageStyle string

//go:embed page/page.js
var pageScript string

// page is the template of HTML files. html/template escapes each value by where it
// stands, the JSON of the data included.
var page = template.Must(template.New("page").Parse(pageHTML))

// pageData is what the page's script reads.
type pageData struct {
	Names []string `json:"names"`
	// Nodes are in depth-first order, by four numbers: level, index into Names, self,
	// total; of a comparison six, the last two being self and total of the right side.
	Nodes []int64 `json:"nodes"`
	Diff  bool    `json:"diff"`
	// Dimension is time, bytes or count; Size is the unit's size in ns or bytes. Unit is
	// written behind counts.
	Dimension string  `json:"dimension"`
	Size      float64 `json:"size"`
	Unit      string  `json:"unit"`
	// Hue is the least hue of functions, in degrees, and Hues how many there are.
	Hue  int `json:"hue"`
	Hues int `json:"hues"`
}

func writePage(w io.Writer, d *Document) error {
	data := newPageData(d.Type, d.Tree.Names)
	d.Tree.Walk(func(level int, n *profile.Node, _ string) {
		data.Nodes = append(data.Nodes, int64(level), int64(n.Name), n.Self, n.Total)
	})
	return executePage(w, d.title(), d.subtitle(), data)
}

func writeDiffPage(w io.Writer, c *Comparison) error {
	data := newPageData(c.Type, c.Tree.Names)
	data.Diff = true
	c.Tree.Walk(func(level int, n *profile.DiffNode, _ string) {
		data.Nodes = append(data.Nodes, int64(level), int64(n.Name), n.Self, n.Total, n.SelfRight, n.TotalRight)
	})
	return executePage(w, c.Title, c.Subtitle, data)
}

func newPageData(t profile.Type, names []string) *pageData {
	data := &pageData{Names: names, Dimension: "count", Size: 1, Unit: t.SampleUnit, Hue: t.Palette().Hue(), Hues: profile.PaletteHues}
	switch d, size := profile.ParseUnit(t.SampleUnit); d {
	case profile.Time:
		data.Dimension, data.Size = "time", size
	case profile.Bytes:
		data.Dimension, data.Size = "bytes", size
	case profile.Count:
		if t.SampleUnit != "samples" {
			data.Unit = ""
		}
	}
	return data
}

func executePage(w io.Writer, title, subtitle string, data *pageData) error {
	b, err := json.Marshal(data) // escapes <, > and &
	if err != nil {
		return fmt.Errorf("encode the page's data: %w", err)
	}
	return page.Execute(w, struct {
		Title, Subtitle string
		Style           template.CSS
		Data, Script    template.JS
	}{title, subtitle, template.CSS(pageStyle), template.JS(b), template.JS(pageScript)})
}
