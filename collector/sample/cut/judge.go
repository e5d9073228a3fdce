//go:build linux && (amd64 || arm64)

package main

import (
	"slices"
	"strings"
)

// roots are the functions that threads begin with, and what stands for them where
// their library has no symbols.
var roots = []string{
	"_start", "_dl_start", "clone", "clone3", "__clone", "__clone3", "__GI___clone3", "thread_start", "start_thread",
	"runtime.goexit", "runtime.mcall", "runtime.mstart", "runtime.rt0_go", "_rt0_amd64_linux", "_rt0_amd64",
}

// A verdict is what the samples of a row say; all values in ns of CPU time.
type verdict struct {
	total int64
	early int64 // before the process, or all of its code, was known
	whole int64 // up to the thread's start, of the others
	known int64 // of the others: those with a function of the chain, or without a name
	right int64 // of known: those with the whole chain
	cut   map[string]int64
	wrong map[string]int64 // stacks that are not whole or not right
}

// judge compares the stacks of a row with its chain.
func judge(chain []string, byStack map[string]int64) verdict {
	v := verdict{cut: map[string]int64{}, wrong: map[string]int64{}}
	for stack, value := range byStack {
		v.total += value
		reason := cutReason(stack)
		if reason == "new process" || reason == "code not known yet" {
			v.early += value
			continue
		}
		functions := strings.Split(stack, "\n")
		whole := isRoot(functions)
		if !whole {
			if reason == "" {
				reason = "ends at " + functions[0]
			}
			v.cut[reason] += value
		} else {
			v.whole += value
		}
		right := true
		if isOf(chain, functions) {
			v.known += value
			if right = follows(chain, functions); right {
				v.right += value
			}
		}
		if !whole || !right {
			v.wrong[stack] += value
		}
	}
	return v
}

// isRoot reports whether a stack goes up to the function that its thread began with. That
// of a program without symbols is known by what it calls.
func isRoot(functions []string) bool {
	return slices.Contains(roots, functions[0]) ||
		strings.Contains(functions[0], "+0x") && len(functions) > 1 && strings.HasPrefix(functions[1], "__libc_start_main")
}

// isOf reports whether a stack has a function of the chain other than its first, which
// starts the program too.
func isOf(chain, functions []string) bool {
	return len(chain) > 0 && slices.ContainsFunc(chain[1:], func(c string) bool { return index(c, functions) >= 0 })
}

// follows reports whether the functions of a chain stand in a stack in this order, up to
// the last of them that the stack has: callers call other functions too, such as those
// for the time.
func follows(chain, functions []string) bool {
	last := len(chain) - 1
	for ; last >= 0; last-- {
		if index(chain[last], functions) >= 0 {
			break
		}
	}
	for _, c := range chain[:last+1] {
		n := index(c, functions)
		if n < 0 && !strings.HasPrefix(c, "?") {
			return false
		}
		functions = functions[n+1:]
	}
	return true
}

// index returns where a function of a chain first is in a stack, or -1.
func index(link string, functions []string) int {
	return slices.IndexFunc(functions, func(f string) bool { return names(strings.TrimPrefix(link, "?"), f) })
}

// names reports whether a function, which may have a namespace, parameters or a hash,
// has a name.
func names(name, function string) bool {
	if function == name {
		return true
	}
	function, _, _ = strings.Cut(function, "(")
	if i := strings.IndexByte(function, '<'); i > 0 {
		function = function[:i]
	}
	return function == name || strings.HasSuffix(function, "::"+name)
}
