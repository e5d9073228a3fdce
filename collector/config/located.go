package config

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/flameline/flameline/collector/relabel"
	"github.com/flameline/flameline/collector/scrape"
)

// located turns the errors of the YAML library over a file with this text into
// file:line: key: reason, one a line.
func located(file string, text []byte, err error) error {
	var all *yaml.LoadErrors
	if one := (*yaml.LoadError)(nil); !errors.As(err, &all) && errors.As(err, &one) {
		all = &yaml.LoadErrors{Errors: []*yaml.LoadError{one}}
	}
	if all == nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var root yaml.Node
	_ = yaml.Unmarshal(text, &root) // a text that is no YAML has no keys
	lines := make([]error, len(all.Errors))
	for i, e := range all.Errors {
		line, reason := locate(&root, e)
		lines[i] = fmt.Errorf("%s:%d: %s", file, line, reason)
	}
	return errors.Join(lines...)
}

// locate returns an error's line, and the key before its reason.
func locate(root *yaml.Node, e *yaml.LoadError) (line int, reason string) {
	line = cmp.Or(e.Mark.Line, e.ContextMark.Line)
	n, path := find(root, "", e.Mark)
	if n == nil {
		return line, e.Message
	}
	key := n
	if n.Kind == yaml.MappingNode && len(n.Content) > 0 {
		key = n.Content[0] // begins where the mapping does
	}
	if strings.HasPrefix(e.Message, "field "+key.Value+" not found in type ") {
		return line, fmt.Sprintf("unknown key %q", key.Value)
	}
	var of *scrape.KeyError
	if errors.As(e, &of) {
		return lineOf(n, of.Key), fmt.Sprintf("%s.%s: %v", path, of.Key, of.Err)
	}
	var rule *relabel.Error
	if errors.As(e, &rule) {
		return lineOf(n, fmt.Sprintf("relabel_configs[%d]", rule.Index)), fmt.Sprintf("%s.relabel_configs%v", path, rule)
	}
	if path == "" {
		return line, e.Message
	}
	return line, path + ": " + e.Message
}

// find returns the outermost node that begins at a mark, and its key with those
// around it, such as scrape_configs[0].job_name.
func find(n *yaml.Node, path string, m yaml.Mark) (found *yaml.Node, key string) {
	if n.Kind != yaml.DocumentNode && n.Line == m.Line && n.Column == m.Column {
		return n, path
	}
	for i, child := range n.Content {
		below := path
		switch n.Kind {
		case yaml.MappingNode:
			below = strings.TrimPrefix(path+"."+n.Content[i&^1].Value, ".")
		case yaml.SequenceNode:
			below = fmt.Sprintf("%s[%d]", path, i)
		}
		if found, key := find(child, below, m); found != nil {
			return found, key
		}
	}
	return nil, ""
}

// lineOf returns the line of a key in a mapping, such as relabel_configs[0].action,
// or of the last one before it that is there.
func lineOf(n *yaml.Node, key string) int {
	line := n.Line
	for part := range strings.FieldsFuncSeq(key, func(r rune) bool { return strings.ContainsRune(".[]", r) }) {
		var next *yaml.Node
		switch i, err := strconv.Atoi(part); {
		case n.Kind == yaml.SequenceNode && err == nil && i < len(n.Content):
			next = n.Content[i]
			line = next.Line
		case n.Kind == yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == part {
					line, next = n.Content[i].Line, n.Content[i+1]
				}
			}
		}
		if next == nil {
			return line
		}
		n = next
	}
	return line
}
