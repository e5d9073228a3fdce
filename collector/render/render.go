// Package render writes a profile as a file that other tools read or that people open in
// a browser: folded stacks, pprof, speedscope, the Firefox Profiler's format, an
// interactive SVG and a page of HTML.
//
// Reading files is left to collector/ingest, and which profile is written to
// collector/tools and collector/server. Folded stacks, speedscope's format and SVG are drawn by pkg/profile,
// which the server's downloads use too.
package render

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/pkg/profile"
)

// A Format is a kind of file, named as in the flag --to.
type Format string

// The formats that are written.
const (
	Folded     Format = "folded"     // a;b;c 42, a line per stacktrace
	Pprof      Format = "pprof"      // profile.proto, with gzip
	Speedscope Format = "speedscope" // speedscope's own JSON
	Gecko      Format = "gecko"      // the Firefox Profiler's processed JSON
	SVG        Format = "svg"        // interactive, needs nothing else
	HTML       Format = "html"       // a page with a flame graph and a table
)

// Formats are all formats, for help texts.
var Formats = []string{string(Folded), string(Pprof), string(Speedscope), string(Gecko), string(SVG), string(HTML)}

// extensions are the ends of file names, longer ones before those that end them.
var extensions = []struct {
	end string
	Format
}{
	{".speedscope.json", Speedscope}, {".speedscope", Speedscope},
	{".gecko.json", Gecko}, {".json", Gecko},
	{".pb.gz", Pprof}, {".pprof", Pprof}, {".prof", Pprof}, {".pb", Pprof},
	{".folded", Folded}, {".collapsed", Folded}, {".txt", Folded},
	{".svg", SVG},
	{".html", HTML}, {".htm", HTML},
}

// ByExtension returns the format that a file's name asks for. The error lists the
// extensions.
func ByExtension(file string) (Format, error) {
	name := strings.ToLower(filepath.Base(file))
	for _, e := range extensions {
		if strings.HasSuffix(name, e.end) {
			return e.Format, nil
		}
	}
	var known []string
	for _, e := range extensions {
		known = append(known, e.end)
	}
	return "", fmt.Errorf("%s: the extension names no format; known are %s", file, strings.Join(known, ", "))
}

// ParseFormat reads the value of the flag --to.
func ParseFormat(s string) (Format, error) {
	if !slices.Contains(Formats, s) {
		return "", fmt.Errorf("format %q is not one of %s", s, strings.Join(Formats, ", "))
	}
	return Format(s), nil
}

// Binary reports whether a file of this format is not for terminals.
func (f Format) Binary() bool { return f == Pprof }

// A Document is a profile to be written.
type Document struct {
	// Title says what was profiled, Subtitle when, how and how much; both may be empty.
	Title, Subtitle string
	// Type is the profile type of Tree, whose values are in its SampleUnit.
	Type profile.Type
	// Tree has the stacktraces of one type.
	Tree *profile.Tree
	// Pprof has all types, with files, lines and labels, for the formats that can hold
	// them. If it is nil, pprof files have what Tree has.
	Pprof *googlev1.Profile
	// Start and Duration are when the samples were taken; zero if unknown.
	Start    time.Time
	Duration time.Duration
	// Folded writes the stacktraces as folded stacks, if not as Tree.WriteFolded does.
	Folded func(io.Writer) error
}

// Write writes a document in a format. It is safe for concurrent use on different
// documents.
func Write(w io.Writer, f Format, d *Document) error {
	switch f {
	case Folded:
		if d.Folded != nil {
			return d.Folded(w)
		}
		return d.Tree.WriteFolded(w)
	case Pprof:
		return writePprof(w, d)
	case Speedscope:
		return d.Tree.WriteSpeedscope(w, d.title(), d.Type.SampleUnit)
	case Gecko:
		return writeGecko(w, d)
	case SVG:
		return d.Tree.WriteSVG(w, profile.SVG{Title: d.title(), Subtitle: d.subtitle(), Unit: d.Type.SampleUnit, Palette: d.Type.Palette(), Interactive: true})
	case HTML:
		return writePage(w, d)
	}
	return fmt.Errorf("format %q is not one of %s", f, strings.Join(Formats, ", "))
}

func (d *Document) title() string {
	if d.Title == "" {
		return d.Type.SampleType
	}
	return d.Title
}

func (d *Document) subtitle() string {
	total := "total " + profile.FormatValue(d.Tree.Total(), d.Type.SampleUnit)
	if d.Type.SampleType != "" {
		total = d.Type.SampleType + ", " + total
	}
	if d.Subtitle == "" {
		return total
	}
	return d.Subtitle + ", " + total
}

// A Comparison is two profiles of one type to be written together.
type Comparison struct {
	Title, Subtitle string
	Type            profile.Type
	Tree            *profile.DiffTree
	// Elided says that only what is on the left and not on the right is shown.
	Elided bool
}

// DiffFormats are the formats of comparisons.
var DiffFormats = []string{string(Folded), string(SVG), string(HTML)}

// WriteDiff writes a comparison in one of DiffFormats.
func WriteDiff(w io.Writer, f Format, c *Comparison) error {
	switch f {
	case Folded:
		return c.Tree.WriteFolded(w)
	case SVG:
		return c.Tree.WriteSVG(w, profile.SVG{Title: c.Title, Subtitle: c.Subtitle, Unit: c.Type.SampleUnit, Interactive: true})
	case HTML:
		return writeDiffPage(w, c)
	}
	return fmt.Errorf("a comparison cannot be written as %s, only as %s", f, strings.Join(DiffFormats, ", "))
}
