package symbolize

import (
	"strings"

	"github.com/ianlancetaylor/demangle"
)

// maxFunctionName is the length in bytes at which names are cut. Deeply nested
// templates yield names of megabytes.
const maxFunctionName = 4096

// maxMangled is the length of symbols beyond which they are shown as they are.
// The demangler takes time with the square of the length, so symbols made for
// it would stop the collector.
const maxMangled = 8 << 10

const pltSuffix = "@plt"

// functionName returns the name to show for a symbol: without its version
// (memcpy@@GLIBC_2.14), demangled, without the suffix of a compiler's clone
// (foo.cold, foo.isra.0). The suffix @plt of our own making stays.
func functionName(symbol string, style Style) string {
	symbol, isPLT := strings.CutSuffix(symbol, pltSuffix)
	if i := strings.IndexByte(symbol, '@'); i > 0 {
		symbol = symbol[:i]
	}
	name := demangled(symbol, style)
	if name == symbol {
		name = withoutCloneSuffix(symbol)
	}
	if len(name) > maxFunctionName {
		name = name[:maxFunctionName]
	}
	name = strings.ToValidUTF8(name, "\uFFFD")
	if isPLT {
		name += pltSuffix
	}
	return name
}

// demangled returns the C++ or Rust name of a symbol, or the symbol itself.
func demangled(symbol string, style Style) (name string) {
	if len(symbol) < 3 || len(symbol) > maxMangled || !(strings.HasPrefix(symbol, "_Z") || strings.HasPrefix(symbol, "_R") || strings.HasPrefix(symbol, "___Z")) {
		return symbol
	}
	// Symbols are outside bytes; a bug in the demangler must not end the
	// collector.
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
	name = demangle.Filter(withoutCloneSuffix(symbol), options...)
	if style == Short && strings.HasPrefix(symbol, "_R") {
		name = emptyGenerics.Replace(name)
	}
	return name
}

// emptyGenerics drops what the demangler leaves of Rust's generic arguments.
var emptyGenerics = strings.NewReplacer("::<>", "", "<>", "")

// cloneSuffixes are what GCC and LLVM append to copies and parts of a
// function. True: only with a number behind it.
var cloneSuffixes = map[string]bool{
	"cold": false, "localalias": false,
	"part": true, "isra": true, "constprop": true, "lto_priv": true, "llvm": true, "__uniq": true, "clone": true,
}

// withoutCloneSuffix strips all suffixes that compilers append to clones.
func withoutCloneSuffix(symbol string) string {
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
