package profile

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Type is a profile type: which value was measured, in which unit, and what triggered
// a sample. SampleUnit, PeriodType and PeriodUnit may be empty.
type Type struct {
	Name       string // of the pprof profile, such as process_cpu
	SampleType string // such as cpu
	SampleUnit string // such as nanoseconds
	PeriodType string
	PeriodUnit string
}

// ParseType reads an ID of the form
// name:sample_type:sample_unit:period_type:period_unit, with an optional sixth part
// "delta", which is dropped. Characters that would end a part, or the ID within a query,
// are escaped as String writes them, such as %3A for a colon.
func ParseType(id string) (Type, error) {
	p := strings.Split(id, ":")
	if len(p) != 5 && (len(p) != 6 || p[5] != "delta") {
		return Type{}, fmt.Errorf("profile type %q: want name:sample_type:sample_unit:period_type:period_unit", id)
	}
	for i := range p {
		p[i] = unescapePart(p[i])
	}
	t := Type{Name: p[0], SampleType: p[1], SampleUnit: p[2], PeriodType: p[3], PeriodUnit: p[4]}
	if t.Name == "" {
		return Type{}, fmt.Errorf("profile type %q: name is empty", id)
	}
	if t.SampleType == "" {
		return Type{}, fmt.Errorf("profile type %q: sample type is empty", id)
	}
	return t, nil
}

// String returns the ID that ParseType reads. Different types have different IDs. Within
// a part, the characters : { } = " and \, control characters, and spaces at either end
// are escaped as in a URL, by % and two hexadecimal digits per byte.
func (t Type) String() string {
	parts := [...]string{t.Name, t.SampleType, t.SampleUnit, t.PeriodType, t.PeriodUnit}
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte(':')
		}
		escapePart(&b, p)
	}
	return b.String()
}

// reserved reports whether a character must be escaped in a part of an ID.
func reserved(r rune) bool {
	return r < ' ' || strings.ContainsRune(`:{}="\`, r) || r >= 0x7f && (unicode.IsControl(r) || r == utf8.RuneError)
}

func escapePart(b *strings.Builder, s string) {
	inner := strings.TrimFunc(s, unicode.IsSpace)
	begin := strings.Index(s, inner)
	end := begin + len(inner)
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		_, escape := escaped(s[i:])
		if escape || reserved(r) || i < begin || i >= end {
			for _, c := range []byte(s[i : i+n]) {
				fmt.Fprintf(b, "%%%02X", c)
			}
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
}

// unescapePart is the inverse of escapePart. It does not change what escapePart would
// not write, so a percent sign elsewhere is literal.
func unescapePart(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if c, ok := escaped(s[i:]); ok {
			b.WriteByte(c)
			i += 3
			continue
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}

// escaped reads a byte written as % and two digits.
func escaped(s string) (c byte, ok bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	for _, d := range []byte(s[1:3]) {
		switch {
		case d >= '0' && d <= '9':
			c = c<<4 | (d - '0')
		case d >= 'A' && d <= 'F':
			c = c<<4 | (d - 'A' + 10)
		case d >= 'a' && d <= 'f':
			c = c<<4 | (d - 'a' + 10)
		default:
			return 0, false
		}
	}
	return c, c == '%' || c == ' ' || c >= 0x80 || reserved(rune(c))
}
