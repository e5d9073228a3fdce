package scrape

import (
	"bytes"
	"strconv"
	"strings"
)

// Bounds of what a target may answer about its symbols.
const (
	// maxSymbolLine is the longest line that is read. Longer lines are passed over.
	maxSymbolLine = 16 << 10
	// maxSymbolAnswer bounds the answer to one request.
	maxSymbolAnswer = 8 << 20
)

// parseSymbols reads an answer of /pprof/symbol, lines of an address and the function
// there, and calls found for each. Other lines are passed over, such as the count with
// which Go's handler begins. The name is "" where the target does not know the function.
func parseSymbols(answer []byte, found func(address uint64, name string)) {
	for line := range bytes.Lines(answer) {
		if len(line) > maxSymbolLine {
			continue
		}
		line := strings.TrimSpace(string(line))
		end := strings.IndexAny(line, " \t")
		if end < 0 {
			end = len(line)
		}
		digits, ok := strings.CutPrefix(line[:end], "0x")
		if !ok {
			continue
		}
		address, err := strconv.ParseUint(digits, 16, 64)
		if err != nil {
			continue
		}
		found(address, knownName(strings.TrimSpace(line[end:])))
	}
}

// knownName returns a function's name, or "" for what servers write in its place: an
// address, question marks, or a word.
func knownName(name string) string {
	switch strings.ToLower(strings.Trim(name, "?()[]<>")) {
	case "", "unknown":
		return ""
	}
	if digits, ok := strings.CutPrefix(name, "0x"); ok {
		if _, err := strconv.ParseUint(digits, 16, 64); err == nil {
			return ""
		}
	}
	return name
}

// symbolCount returns the number in "num_symbols: 1", the answer of /pprof/symbol to a
// GET. It is 0 for a program that cannot name its addresses. It reports false for an
// answer that is none.
func symbolCount(answer []byte) (n uint64, ok bool) {
	for line := range bytes.Lines(answer) {
		rest, found := bytes.CutPrefix(bytes.TrimSpace(line), []byte("num_symbols:"))
		if !found {
			continue
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(rest)), 10, 64)
		return n, err == nil
	}
	return 0, false
}
