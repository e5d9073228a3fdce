// Package funcname converts compilers' names of functions to those of the source: it
// demangles C++ and Rust names, and drops parts that differ between builds.
//
// Finding the names is left to collector/symbolize, for symbol tables, and to
// collector/ingest, for pushed profiles.
package funcname

import (
	"strings"

	"github.com/ianlancetaylor/demangle"
)

// MaxBytes is the approximate length at which demangled names are cut. Deeply nested
// templates yield names of megabytes.
const MaxBytes = 4096

// maxMangled is the length above which symbols are not demangled. The demangler takes
// time quadratic in the length, so crafted symbols could stop the collector.
const maxMangled = 8 << 10

// A Style selects the parts of a C++ or Rust name to keep.
type Style int

// Styles of demangled names. Suffixes that compilers append to clones of a
// function (.cold, .isra.0, ...) are dropped in all of them. The zero value is the one
// for display: instances of a template, such as Box<float>::spin and Box<double>::spin,
// are different code.
const (
	Templates Style = iota // no parameters
	Short                  // no parameters, no template arguments, as `go tool pprof`
	Full                   // everything
)

// Demangle returns the C++ or Rust name of a symbol without the suffixes of
// clones, or the symbol itself. macOS puts an underscore before every symbol.
func Demangle(symbol string, style Style) (name string) {
	mangled := symbol
	if strings.HasPrefix(mangled, "__Z") || strings.HasPrefix(mangled, "__R") || strings.HasPrefix(mangled, "____Z") {
		mangled = mangled[1:]
	}
	if len(mangled) < 3 || len(mangled) > maxMangled || !(strings.HasPrefix(mangled, "_Z") || strings.HasPrefix(mangled, "_R") || strings.HasPrefix(mangled, "___Z")) {
		return symbol
	}
	// Symbols come from outside; a panic of the demangler must not end the collector.
	defer func() {
		if recover() != nil {
			name = symbol
		}
	}()
	options := []demangle.Option{demangle.NoClones, demangle.MaxLength(12)}
	switch style {
	case Short:
		options = append(options, demangle.NoParams, demangle.NoEnclosingParams, demangle.NoTemplateParams)
	case Templates:
		options = append(options, demangle.NoParams, demangle.NoEnclosingParams)
	}
	plain := WithoutCloneSuffix(mangled)
	name, err := demangle.ToString(plain, options...)
	if err != nil {
		if mangled != symbol {
			return symbol
		}
		return plain
	}
	if style == Short && strings.HasPrefix(mangled, "_R") {
		name = emptyGenerics.Replace(name)
	}
	return name
}

// emptyGenerics removes what the demangler leaves of Rust's generic arguments.
var emptyGenerics = strings.NewReplacer("::<>", "", "<>", "")

// cloneSuffixes are the suffixes that GCC and LLVM append to clones and parts of a
// function. The value true means only with a number after it.
var cloneSuffixes = map[string]bool{
	"cold": false, "localalias": false,
	"part": true, "isra": true, "constprop": true, "lto_priv": true, "llvm": true, "__uniq": true, "clone": true,
}

// WithoutCloneSuffix strips all suffixes that compilers append to clones.
func WithoutCloneSuffix(symbol string) string {
	for {
		rest := symbol
		numbered := false
		for {
			i := strings.LastIndexByte(rest, '.')
			if i <= 0 || i == len(rest)-1 || strings.Trim(rest[i+1:], "0123456789") != "" {
				break
			}
			rest, numbered = rest[:i], true
		}
		i := strings.LastIndexByte(rest, '.')
		if i <= 0 {
			return symbol
		}
		needsNumber, isClone := cloneSuffixes[rest[i+1:]]
		if !isClone || needsNumber && !numbered {
			return symbol
		}
		symbol = rest[:i]
	}
}
