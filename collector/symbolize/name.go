package symbolize

import (
	"strings"

	"github.com/flameline/flameline/collector/funcname"
)

// maxFunctionName is the length in bytes at which names are cut.
const maxFunctionName = funcname.MaxBytes

const pltSuffix = "@plt"

// functionName returns the name to show for a symbol: without its version
// (memcpy@@GLIBC_2.14), demangled, without the suffix of a compiler's clone
// (foo.cold, foo.isra.0). The suffix @plt of our own making stays.
func functionName(symbol string, style Style) string {
	symbol, isPLT := strings.CutSuffix(symbol, pltSuffix)
	if i := strings.IndexByte(symbol, '@'); i > 0 {
		symbol = symbol[:i]
	}
	name := funcname.Demangle(symbol, style)
	if name == symbol {
		name = funcname.WithoutCloneSuffix(symbol)
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
