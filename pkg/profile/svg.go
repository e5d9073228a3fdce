package profile

import (
	"bufio"
	_ "embed" // svg.js
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/text/width"
)

// SVG are the options of a flame graph's picture.
type SVG struct {
	// Title and Subtitle are drawn above the flame graph.
	Title, Subtitle string
	// Unit is the sample unit of the profile type.
	Unit string
	// Palette has the colours of functions.
	Palette Palette
	// Interactive adds a script: a click on a box zooms, Ctrl-F searches. Boxes are then
	// drawn down to a fiftieth of a pixel, so that there is something to zoom into.
	Interactive bool
}

//go:embed svg.js
var svgScript string

// Sizes in pixels. The font has a fixed width of 0.6 times its height, so text can be
// cut to a box without the font.
const (
	svgWidth     = 1200
	svgMargin    = 10
	svgHeader    = 48
	svgRow       = 18 // distance of levels; a box is 1 pixel lower
	svgFont      = 12
	svgCharacter = 0.61 * svgFont
	svgNarrowest = 0.2 // narrower boxes are not drawn

	svgNarrowestZoomed = 0.02 // with a script

	svgGrey = "#d9d9d9" // the colour of the root and of rest nodes
)

// WriteSVG draws the tree with the root on top: a box for each node, as wide as its
// total. A box has as much of the function's name as fits, and a tooltip with the whole
// name and the values. A function's colour depends on its name; the root and rest nodes
// are grey. Nodes narrower than a fifth of a pixel are left out, unless the picture is
// interactive.
//
// The picture needs no font or style sheet, and shows the same without its script.
func (t *Tree) WriteSVG(w io.Writer, o SVG) error {
	total := t.Total()
	p := newPicture(o)
	p.layout(float64(total), func(visit func(level int, size, self float64, describe func() svgBox)) {
		t.Walk(func(level int, n *Node, name string) {
			visit(level, float64(n.Total), float64(n.Self), func() svgBox {
				fill := o.Palette.colour(name)
				if level == 0 || t.IsRest(n) { // not a function
					fill = svgGrey
				}
				return svgBox{
					name: name, fill: fill,
					title: fmt.Sprintf("%s\n%s (%s)\nself %s (%s)", svgTitle(name, t.IsRest(n)),
						FormatValue(n.Total, o.Unit), share(n.Total, total), FormatValue(n.Self, o.Unit), share(n.Self, total)),
				}
			})
		})
	})
	return p.write(w, o, nil)
}

// WriteSVG draws both sides in one picture. A box is as wide as the mean of the node's
// shares of the left and of the right total, so that functions of only one side are
// visible. Its colour shows how the share changed: red is more, blue is less, grey is
// unchanged.
func (t *DiffTree) WriteSVG(w io.Writer, o SVG) error {
	var left, right int64
	if len(t.Nodes) > 0 {
		left, right = t.Nodes[0].Total, t.Nodes[0].TotalRight
	}
	sides := 0.0
	for _, v := range []int64{left, right} {
		if v != 0 {
			sides++
		}
	}
	part := func(v, total int64) float64 {
		if total == 0 {
			return 0
		}
		return float64(v) / float64(total)
	}
	p := newPicture(o)
	p.layout(sides, func(visit func(level int, size, self float64, describe func() svgBox)) {
		t.Walk(func(level int, n *DiffNode, name string) {
			l, r := part(n.Total, left), part(n.TotalRight, right)
			visit(level, l+r, part(n.Self, left)+part(n.SelfRight, right), func() svgBox {
				return svgBox{
					name: name, fill: changeColour(l, r),
					title: fmt.Sprintf("%s\nleft %s (%s)\nright %s (%s)", svgTitle(name, t.IsRest(n)),
						FormatValue(n.Total, o.Unit), share(n.Total, left), FormatValue(n.TotalRight, o.Unit), share(n.TotalRight, right)),
				}
			})
		})
	})
	return p.write(w, o, []legend{{changeColour(0, 1), "more on the right"}, {changeColour(1, 0), "less on the right"}})
}

// An svgBox is a node with its place. x and w are in pixels.
type svgBox struct {
	level             int
	x, w              float64
	name, title, fill string
}

type legend struct{ fill, text string }

// A picture has the boxes of a tree.
type picture struct {
	boxes     []svgBox
	levels    int
	narrowest float64 // in pixels
}

func newPicture(o SVG) *picture {
	if o.Interactive {
		return &picture{narrowest: svgNarrowestZoomed}
	}
	return &picture{narrowest: svgNarrowest}
}

// layout places the nodes that walk visits. Their sizes are parts of total. A node's
// self value is to the left of its children. describe is called only for nodes that are
// drawn.
func (p *picture) layout(total float64, walk func(visit func(level int, size, self float64, describe func() svgBox))) {
	if total <= 0 {
		return
	}
	perUnit := (svgWidth - 2*svgMargin) / total
	var next []float64 // by level: where the next child begins
	walk(func(level int, size, self float64, describe func() svgBox) {
		x := 0.0
		if level > 0 {
			x = next[level-1]
			next[level-1] += size
		}
		next = append(next[:level], x+self)
		if size*perUnit < p.narrowest {
			return
		}
		b := describe()
		b.level, b.x, b.w = level, svgMargin+x*perUnit, size*perUnit
		p.boxes = append(p.boxes, b)
		p.levels = max(p.levels, level+1)
	})
}

func (p *picture) write(w io.Writer, o SVG, legends []legend) error {
	b := bufio.NewWriter(w)
	say := func(format string, args ...any) { fmt.Fprintf(b, format, args...) } // Flush returns errors
	height := svgHeader + max(p.levels, 2)*svgRow + svgMargin
	say(`<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
		`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="monospace" font-size="%[3]d">`+"\n",
		svgWidth, height, svgFont)
	say("<title>%s</title>\n", escapeXML(o.Title))
	say(`<rect width="100%%" height="100%%" fill="#fff"/>` + "\n")
	say(`<text x="%d" y="20" font-size="14" font-weight="bold">%s</text>`+"\n", svgMargin, escapeXML(fit(o.Title, 0.61*14, svgWidth-2*svgMargin)))
	say(`<text x="%d" y="38" fill="#555">%s</text>`+"\n", svgMargin, escapeXML(fit(o.Subtitle, svgCharacter, svgWidth-2*svgMargin)))
	x := float64(svgWidth - svgMargin)
	for _, l := range legends {
		x -= 16 + svgCharacter*float64(len(l.text)) + svgMargin
		say(`<rect x="%s" y="28" width="12" height="12" fill="%s"/><text x="%s" y="38" fill="#555">%s</text>`+"\n",
			px(x), l.fill, px(x+16), escapeXML(l.text))
	}
	if o.Interactive {
		// The script shows the controls.
		say(`<g id="controls" style="display:none;cursor:pointer" text-anchor="end" fill="#06c"><text id="search" x="%d" y="20">search</text>`+
			`<text id="clear" x="%d" y="20" style="display:none">clear</text><text id="reset" x="%d" y="20" style="display:none">reset zoom</text>`+
			`<text id="matched" x="%d" y="20" fill="#000"></text></g>`+"\n", svgWidth-svgMargin, svgWidth-70, svgWidth-120, svgWidth-210)
	}
	if len(p.boxes) == 0 {
		say(`<text x="%d" y="%d">No profiles in this time range.</text>`+"\n", svgMargin, svgHeader+svgRow)
	}
	for _, box := range p.boxes {
		y := svgHeader + box.level*svgRow
		say("<g")
		if o.Interactive {
			say(` class="b" data-b="%d,%s,%s"`, box.level, strconv.FormatFloat(box.x, 'g', 9, 64), strconv.FormatFloat(box.w, 'g', 9, 64))
		}
		say(`><title>%s</title><rect x="%s" y="%d" width="%s" height="%d" rx="1" fill="%s"/>`,
			escapeXML(box.title), px(box.x), y, px(max(box.w-0.5, svgNarrowest)), svgRow-1, box.fill)
		if label := fit(box.name, svgCharacter, box.w-6); label != "" {
			say(`<text x="%s" y="%d">%s</text>`, px(box.x+3), y+13, escapeXML(label))
		}
		say("</g>\n")
	}
	if o.Interactive {
		say("<script><![CDATA[\n%s]]></script>\n", svgScript)
	}
	say("</svg>\n")
	return b.Flush()
}

// px formats a length with up to two decimals.
func px(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(v, 'f', 2, 64), "0"), ".")
}

// fit cuts a text to a width. It first removes the path of a package or file. If less
// than two characters would remain, the result is empty.
func fit(s string, character, room float64) string {
	n := int(room / character)
	used, cut := 0, 0 // cells; bytes that leave room for the ellipsis
	for i, r := range s {
		c := 1
		if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
			c = 2
		}
		if used+c > n {
			if short := withoutPath(s); len(short) < len(s) {
				return fit(short, character, room)
			}
			if cut < 2 {
				return ""
			}
			return s[:cut] + "…"
		}
		if used += c; used < n {
			cut = i + len(string(r))
		}
	}
	return s
}

func escapeXML(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder returns no errors
	return b.String()
}

// svgTitle returns the first line of a tooltip.
func svgTitle(name string, rest bool) string {
	if rest {
		return name + ": calls that are too small to be shown"
	}
	return name
}

// changeColour returns the colour for a share that changed from l to r.
func changeColour(l, r float64) string {
	if l+r == 0 {
		return "#e6e6e6"
	}
	change := (r - l) / (r + l)
	mix := func(from, to int) int { return from + int(max(change, -change)*float64(to-from)) }
	if change > 0 {
		return fmt.Sprintf("#%02x%02x%02x", mix(0xe6, 0xf0), mix(0xe6, 0x50), mix(0xe6, 0x3c))
	}
	return fmt.Sprintf("#%02x%02x%02x", mix(0xe6, 0x4a), mix(0xe6, 0x90), mix(0xe6, 0xe2))
}

// withoutPath returns a name without the path of its package or file, which
// distinguishes functions least.
func withoutPath(s string) string {
	end := len(s)
	if i := strings.IndexAny(s, "([{< "); i >= 0 {
		end = i
	}
	slash := strings.LastIndexByte(s[:end], '/')
	if slash >= 0 && strings.HasSuffix(s[:slash], "operator") { // C++
		return s
	}
	return s[slash+1:]
}
