package profile_test

import (
	"bytes"
	"encoding/xml"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// A picture is what an XML reader finds in one.
type picture struct {
	Width  float64  `xml:"width,attr"`
	Height float64  `xml:"height,attr"`
	Title  string   `xml:"title"`
	Texts  []string `xml:"text"`
	Boxes  []struct {
		Title string `xml:"title"`
		Rect  struct {
			X      float64 `xml:"x,attr"`
			Y      float64 `xml:"y,attr"`
			Width  float64 `xml:"width,attr"`
			Height float64 `xml:"height,attr"`
			Fill   string  `xml:"fill,attr"`
		} `xml:"rect"`
		Text string `xml:"text"`
	} `xml:"g"`
}

func readSVG(t *testing.T, b []byte) (p picture) {
	t.Helper()
	require.NoError(t, xml.Unmarshal(b, &p), "%s", b)
	for _, box := range p.Boxes {
		r := box.Rect
		require.GreaterOrEqual(t, r.X, 0.0)
		require.LessOrEqual(t, r.X+r.Width, p.Width)
		require.LessOrEqual(t, r.Y+r.Height, p.Height)
		// The font's characters are 0.6 times as wide as high, which is 12.
		require.LessOrEqual(t, float64(utf8.RuneCountInString(box.Text))*0.6*12, max(r.Width, 0), box.Text)
	}
	return p
}

func svg(t *testing.T, tree *profile.Tree, unit string) picture {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, tree.WriteSVG(&b, profile.SVG{Title: "a <b> & c", Subtitle: "d", Unit: unit}))
	for _, s := range []string{"<script", "href", "url(", "<style"} {
		require.NotContains(t, b.String(), s)
	}
	return readSVG(t, b.Bytes())
}

func TestSVG(t *testing.T) {
	p := svg(t, parse("main;a<int>&\"b\" 3000000", "main;long.name.of.a.function.that.does.not.fit 1000", "main 1500000000"), "nanoseconds")
	require.Equal(t, "a <b> & c", p.Title)
	var titles, texts []string
	for _, b := range p.Boxes {
		titles, texts = append(titles, b.Title), append(texts, b.Text)
	}
	require.Equal(t, []string{
		"total\n1.50 s (100.00%)\nself 0 ns (0.00%)",
		"main\n1.50 s (100.00%)\nself 1.50 s (99.80%)",
		"a<int>&\"b\"\n3.00 ms (0.20%)\nself 3.00 ms (0.20%)",
	}, titles, "what is too narrow is left out")
	require.Equal(t, []string{"total", "main", ""}, texts)

	// A child begins where its parent's own value ends.
	main, a := p.Boxes[1].Rect, p.Boxes[2].Rect
	require.InDelta(t, main.X+1180*0.998, a.X, 0.1)
	require.Greater(t, a.Y, main.Y, "the root is on top")
}

// Widths add up, and colours follow from names alone.
func TestSVGLayout(t *testing.T) {
	tree := random(rand.New(rand.NewPCG(9, 10)), 400)
	p := svg(t, tree, "count")
	fill := map[string]string{}
	byRow := map[float64]float64{}
	for _, b := range p.Boxes {
		name, _, _ := strings.Cut(b.Title, "\n")
		if f, ok := fill[name]; ok {
			require.Equal(t, f, b.Rect.Fill, name)
		}
		fill[name] = b.Rect.Fill
		require.GreaterOrEqual(t, b.Rect.X+0.02, byRow[b.Rect.Y], "boxes of a row do not overlap")
		byRow[b.Rect.Y] = b.Rect.X + b.Rect.Width
	}
	require.Greater(t, len(fill), 10)
}

func TestSVGOfNothing(t *testing.T) {
	p := svg(t, &profile.Tree{}, "bytes")
	require.Empty(t, p.Boxes)
	require.Contains(t, p.Texts, "No profiles in this time range.")
}

func TestSVGDiff(t *testing.T) {
	var b bytes.Buffer
	d := profile.Diff(parse("same 50", "gone 50"), parse("same 500", "new 500"))
	require.NoError(t, d.WriteSVG(&b, profile.SVG{Title: "x", Unit: "bytes"}))
	p := readSVG(t, b.Bytes())
	width, fill := map[string]string{}, map[string]string{}
	for _, box := range p.Boxes {
		name, _, _ := strings.Cut(box.Title, "\n")
		width[name], fill[name] = strconv.FormatFloat(box.Rect.Width/1180, 'f', 2, 64), box.Rect.Fill
	}
	require.Equal(t, map[string]string{"total": "1.00", "same": "0.50", "gone": "0.25", "new": "0.25"}, width)
	require.Equal(t, map[string]string{"total": "#e6e6e6", "same": "#e6e6e6", "gone": "#4a90e2", "new": "#f0503c"}, fill)
	require.Contains(t, b.String(), "left 50 B (50.00%)&#xA;right 0 B (0.00%)")
}

func TestFormatValue(t *testing.T) {
	for _, tc := range []struct {
		v          int64
		unit, want string
	}{
		{0, "nanoseconds", "0 ns"},
		{999, "nanoseconds", "999 ns"},
		{1500, "nanoseconds", "1.50 µs"},
		{12_345_678, "nanoseconds", "12.3 ms"},
		{90, "seconds", "1.50 min"},
		{36 * 3600 * 1000, "milliseconds", "1.50 d"},
		{1023, "bytes", "1023 B"},
		{1536, "bytes", "1.50 KiB"},
		{5 << 30, "bytes", "5.00 GiB"},
		{999, "count", "999"},
		{123456, "count", "123 k"},
		{-1500, "bytes", "-1.46 KiB"},
		{7, "widgets", "7 widgets"},
		{1500, "ns", "1.50 µs"},
		{1500, "Microseconds", "1.50 ms"},
		{90, "minutes", "1.50 h"},
		{1536, "By", "1.50 KiB"},
		{1536, "KB", "1.50 MiB"},
		{1500, "", "1.50 k"},
		{1500, "Count", "1.50 k"},
		{1500, "samples", "1.50 k samples"},
	} {
		require.Equal(t, tc.want, profile.FormatValue(tc.v, tc.unit), "%d %s", tc.v, tc.unit)
	}
}
