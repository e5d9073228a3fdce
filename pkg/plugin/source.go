package plugin

import (
	"cmp"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/query"
)

// A SourceTemplate is the URL of a function's source with placeholders in two pairs of
// braces: function, file, line, and names of labels that a query's selector sets to one
// value. The zero value has no links.
type SourceTemplate struct{ url string }

// The placeholders of a function's name, its file and its line there.
const (
	functionPlaceholder = "function"
	filePlaceholder     = "file"
	linePlaceholder     = "line"
)

var placeholder = regexp.MustCompile(`\{\{\s*([^{}]*?)\s*\}\}`)

// ParseSourceTemplate reads and checks a template. Errors name sourceTemplate.
func ParseSourceTemplate(s string) (SourceTemplate, error) {
	const field = "sourceTemplate"
	s = strings.TrimSpace(s)
	if s == "" {
		return SourceTemplate{}, nil
	}
	if len(s) > maxTemplate {
		return SourceTemplate{}, client.Invalidf(field, "it has %d bytes, more than %d", len(s), maxTemplate)
	}
	for _, m := range placeholder.FindAllStringSubmatch(s, -1) {
		if m[1] == "" {
			return SourceTemplate{}, client.Invalidf(field, "a placeholder is empty; write {{function}}, {{file}}, {{line}} or the name of a label")
		}
	}
	plain := placeholder.ReplaceAllString(s, "x")
	u, err := url.Parse(plain)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.ContainsAny(plain, "{}$") {
		return SourceTemplate{}, client.Invalidf(field, "%q is not a URL such as https://git.example.com/search?q={{function}}", s)
	}
	return SourceTemplate{s}, nil
}

// ofFiles reports whether links differ by a function's file or line, which Grafana cannot
// take from the function's name.
func (t SourceTemplate) ofFiles() bool {
	for _, m := range placeholder.FindAllStringSubmatch(t.url, -1) {
		if m[1] == filePlaceholder || m[1] == linePlaceholder {
			return true
		}
	}
	return false
}

// link returns the data link of a query's functions by their names. ok is false if there
// is no template, if it needs files, or if the selector does not set one of its labels.
func (t SourceTemplate) link(selector string) (link data.DataLink, ok bool) {
	if t.url == "" || t.ofFiles() {
		return link, false
	}
	link = data.DataLink{Title: query.SourceTitle, TargetBlank: true}
	link.URL, ok = t.fill(selector, func(name string, _ bool) (text string, found bool) {
		return "${__value.raw:percentencode}", name == functionPlaceholder
	})
	return link, ok
}

// fileURL returns the URL of a function's source, "" if its file is not known or if the
// selector does not set one of the template's labels. Where a line is not known, it is 1.
func (t SourceTemplate) fileURL(selector string, f query.Source) string {
	if !isSource(f.File) {
		return ""
	}
	filled, ok := t.fill(selector, func(name string, inQuery bool) (text string, found bool) {
		switch name {
		case functionPlaceholder:
			return escape(f.Function, inQuery), true
		case filePlaceholder:
			parts := strings.Split(strings.TrimPrefix(f.File, "/"), "/")
			for i, p := range parts {
				parts[i] = escape(p, inQuery)
			}
			return strings.Join(parts, "/"), true
		case linePlaceholder:
			return strconv.FormatInt(cmp.Or(f.Line, 1), 10), true
		}
		return "", false
	})
	if !ok {
		return ""
	}
	return filled
}

// isSource reports whether the file of a function, as profiles have it, may be one of source
// code. Functions of the kernel have its image or a module instead (vmlinux, ext4), code
// that an interpreter has in itself has a name such as <string> or node:fs.
func isSource(file string) bool {
	return strings.ContainsAny(file, "./") && !strings.ContainsAny(file[:1], "<[") && !strings.HasPrefix(file, "node:")
}

// fill replaces the placeholders of the template. own returns the text of one that stands
// for something of the function, given whether it is in the URL's query; others are labels
// of the selector. ok is false if the selector does not set one of them to one value.
func (t SourceTemplate) fill(selector string, own func(name string, inQuery bool) (text string, found bool)) (filled string, ok bool) {
	matchers, _ := profile.ParseSelector(selector) // it was read when the query came
	value := func(name string) (string, bool) {
		for _, m := range matchers {
			if m.Name == name && m.Type == labels.MatchEqual && m.Value != "" {
				return m.Value, true
			}
		}
		return "", false
	}
	var b strings.Builder
	rest := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(t.url, -1) {
		b.WriteString(t.url[rest:m[0]])
		rest = m[1]
		name := t.url[m[2]:m[3]]
		before, _, inFragment := strings.Cut(t.url[:m[0]], "#")
		inQuery := !inFragment && strings.Contains(before, "?")
		if text, found := own(name, inQuery); found {
			b.WriteString(text)
		} else if text, found := value(name); found {
			b.WriteString(escape(text, inQuery))
		} else {
			return "", false
		}
	}
	return b.String() + t.url[rest:], true
}

// escape writes a text as a part of a path, or of a URL's query. In links, Grafana reads $
// as the start of a variable.
func escape(s string, inQuery bool) string {
	if inQuery {
		return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
	}
	return strings.ReplaceAll(url.PathEscape(s), "$", "%24")
}
