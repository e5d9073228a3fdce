package view

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// A Kind is what a pattern is compared with.
type Kind string

// The kinds of patterns, which are also their prefixes.
const (
	Function Kind = "function" // the function's name as flame graphs show it
	File     Kind = "file"     // the source file
	Binary   Kind = "binary"   // the file name of the program or library
)

// A Pattern is a regular expression for functions.
type Pattern struct {
	Kind Kind
	re   *regexp.Regexp
}

// maxProgram bounds the instructions of a regular expression, most of which repetitions such
// as x{1000} make.
const maxProgram = 10_000

// Parse reads a regular expression in RE2's syntax, as Go has it, which matches anywhere in
// a function's name. After the prefix file: or binary: it is for the function's source
// file, or for the program or library that it is in.
func Parse(text string) (p Pattern, err error) {
	p.Kind = Function
	for _, k := range []Kind{Function, File, Binary} {
		if rest, ok := strings.CutPrefix(text, string(k)+":"); ok {
			p.Kind, text = k, rest
			break
		}
	}
	switch {
	case text == "":
		return p, fmt.Errorf("the regular expression is empty")
	case len(text) > MaxPattern:
		return p, fmt.Errorf("the regular expression has %d bytes, more than %d", len(text), MaxPattern)
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return p, err
	}
	if n := programSize(parsed); n > maxProgram {
		return p, fmt.Errorf("the regular expression repeats too much: it has %d instructions, more than %d", n, maxProgram)
	}
	p.re, err = regexp.Compile(text)
	return p, err
}

// programSize estimates the instructions that a regular expression is compiled to.
func programSize(re *syntax.Regexp) int64 {
	n := int64(1 + len(re.Rune)/2)
	for _, sub := range re.Sub {
		n += programSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= int64(max(re.Min, re.Max, 1))
	}
	return n
}
