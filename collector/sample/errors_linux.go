//go:build linux && (amd64 || arm64)

package sample

import (
	"fmt"

	"go.opentelemetry.io/ebpf-profiler/libpf"
)

// codeNotKnown and codeUnnamed are ends of stacks in code that may become known.
const (
	codeNotKnown = 4012
	codeUnnamed  = 4018
)

// unwindErrors says what the unwinder's commonest error codes mean. The codes
// are the numbers that its error frames carry.
var unwindErrors = map[uint64]string{
	2:            "stack too deep",
	3:            "empty stack",
	5:            "stack too deep",
	1000:         "JVM code not found",
	1002:         "JVM return address not found",
	1005:         "JVM not known yet",
	2001:         "Python not known yet",
	2005:         "no Python thread state",
	3000:         "Ruby not known yet",
	4000:         "no unwind information",
	4001:         "code not known yet",
	4002:         "code not known yet",
	4005:         "no unwind information",
	4007:         "return address not readable",
	codeNotKnown: "code not known yet",
	4013:         "zero return address",
	4014:         "bad return address",
	4016:         "32-bit program",
	4017:         "32-bit program",
	codeUnnamed:  "code in unnamed memory",
	4019:         "code in no mapping",
	4020:         "code in data",
	5000:         "bad JavaScript frame",
	5001:         "bad JavaScript frame",
	5002:         "Node.js not known yet",
	6000:         ".NET not known yet",
}

// errorName names a frame that says why unwinding ended.
func errorName(fr libpf.Frame) string {
	code := uint64(fr.AddressOrLineno)
	if text, ok := unwindErrors[code]; ok {
		return "[stack incomplete: " + text + "]"
	}
	return fmt.Sprintf("[stack incomplete: unwinder error %d]", code)
}
