package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/flameline/flameline/pkg/profile"
)

// Trie reads the prefix tree that Pyroscope's older SDKs send. A node is the length of a
// piece of text, the text, a value and the number of children, then the children;
// numbers are unsigned varints. The text from the root to a node is a stacktrace as in
// folded stacks; a piece may end within a name. The format's source is
// pkg/og/structs/transporttrie of Pyroscope. The body may be compressed as in Pprof.
//
// An error gives the offset in bytes.
func Trie(body []byte, m Push, l Limits) (ps []profile.Profile, size int, err error) {
	return readTree("trie", body, m, l, (*treeReader).trie)
}

// Tree reads a call tree as Pyroscope's older servers and SDKs send it. It is encoded as
// in Trie, but a node is one function with its self value and its callees. The root has
// no name. The format's source is pkg/og/storage/tree of Pyroscope.
//
// An error gives the offset in bytes.
func Tree(body []byte, m Push, l Limits) (ps []profile.Profile, size int, err error) {
	return readTree("tree", body, m, l, (*treeReader).tree)
}

func readTree(format string, body []byte, m Push, l Limits, read func(*treeReader) error) ([]profile.Profile, int, error) {
	t, err := m.stackType()
	if err != nil {
		return nil, 0, err
	}
	raw, err := decompress(body, l)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", format, err)
	}
	if len(raw) == 0 {
		return nil, 0, nil
	}
	r := &treeReader{rest: raw, size: len(raw), stacks: newStacks(l)}
	if err := read(r); err != nil {
		return nil, 0, fmt.Errorf("%s: %w, at byte %d", format, err, r.at)
	}
	if len(r.rest) > 0 {
		return nil, 0, fmt.Errorf("%s: %d bytes follow the end of the tree, at byte %d", format, len(r.rest), r.size-len(r.rest))
	}
	ps, size, err := r.stacks.profiles(t, &m, len(raw))
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", format, err)
	}
	return ps, size, nil
}

// A treeReader reads nodes in preorder: a node, then the trees of its children.
type treeReader struct {
	rest     []byte
	size, at int // at is the offset of the number or text that is being read
	nodes    int
	names    int64 // bytes of names that were looked up
	stacks   *stacks
}

// node reads a node without its children.
func (r *treeReader) node() (text []byte, value int64, children uint64, err error) {
	if r.nodes++; exceeds(r.nodes, r.stacks.limits.MaxSymbols) {
		return nil, 0, 0, fmt.Errorf("more than %d nodes (limits.max_symbols)", r.stacks.limits.MaxSymbols)
	}
	n, err := r.number("a name's length")
	if err != nil {
		return nil, 0, 0, err
	}
	if n > uint64(len(r.rest)) {
		return nil, 0, 0, fmt.Errorf("a name of %d bytes, but only %d bytes are left", n, len(r.rest))
	}
	text, r.rest = r.rest[:n], r.rest[n:]
	v, err := r.number("a value")
	if err != nil {
		return nil, 0, 0, err
	}
	if v > math.MaxInt64 {
		return nil, 0, 0, fmt.Errorf("the value %d is more than %d", v, int64(math.MaxInt64))
	}
	if children, err = r.number("a number of children"); err != nil {
		return nil, 0, 0, err
	}
	// A node takes three bytes or more.
	if children > uint64(len(r.rest)/3) {
		return nil, 0, 0, fmt.Errorf("%d children, but only %d bytes are left", children, len(r.rest))
	}
	return text, int64(v), children, nil
}

func (r *treeReader) number(what string) (uint64, error) {
	r.at = r.size - len(r.rest)
	v, n := binary.Uvarint(r.rest)
	switch {
	case n == 0:
		return 0, fmt.Errorf("the body ends before %s", what)
	case n < 0:
		return 0, fmt.Errorf("%s of more than 64 bits", what)
	}
	r.rest = r.rest[n:]
	return v, nil
}

func (r *treeReader) tree() error {
	type open struct {
		node     uint32
		children uint64
	}
	var stack []open
	for {
		name, value, children, err := r.node()
		if err != nil {
			return err
		}
		n := uint32(0)
		switch {
		case len(stack) > 0:
			if n, err = r.stacks.call(stack[len(stack)-1].node, name); err != nil {
				return err
			}
		case len(name) > 0:
			return fmt.Errorf("the root has the name %q", cut(name))
		}
		if err := r.stacks.add(n, value); err != nil {
			return err
		}
		stack = append(stack, open{n, children})
		for len(stack) > 0 && stack[len(stack)-1].children == 0 {
			stack = stack[:len(stack)-1]
		}
		if len(stack) == 0 {
			return nil
		}
		stack[len(stack)-1].children--
	}
}

// call is stacks.call with a bound on the bytes of names, since many short nodes may
// share one long name.
func (r *treeReader) call(caller uint32, name []byte) (uint32, error) {
	if r.names += int64(len(name)); exceeds(r.names, r.stacks.limits.MaxProfileBytes) {
		return 0, fmt.Errorf("%w: more than %d bytes of names (limits.max_profile_bytes)", ErrTooLarge, r.stacks.limits.MaxProfileBytes)
	}
	return r.stacks.call(caller, name)
}

// trie reads a prefix tree. It keeps the text of the incomplete name, and the node of
// the complete names before it, so that a prefix is read once even if many stacktraces
// share it.
func (r *treeReader) trie() error {
	type open struct {
		children uint64
		// The state before this node's text.
		caller uint32
		name   int // where the open name begins in text
		length int // of text
	}
	var (
		stack  []open
		text   []byte
		caller uint32
		name   int
		valued int
	)
	most := r.stacks.limits
	for {
		piece, value, children, err := r.node()
		if err != nil {
			return err
		}
		if len(piece) == 0 && len(stack) > 0 {
			return errors.New("a node without text below the root")
		}
		stack = append(stack, open{children, caller, name, len(text)})
		text = append(text, piece...)
		for i := len(text) - len(piece); ; {
			end := bytes.IndexByte(text[i:], ';')
			if end < 0 {
				break
			}
			i += end
			if caller, err = r.call(caller, text[name:i]); err != nil {
				return err
			}
			i++
			name = i
		}
		if exceeds(len(text)-name, most.MaxSymbolBytes) {
			return fmt.Errorf("a name of more than %d bytes (limits.max_symbol_bytes)", most.MaxSymbolBytes)
		}
		if value > 0 {
			if valued++; exceeds(valued, most.MaxSamples) {
				return fmt.Errorf("more than %d stacktraces (limits.max_samples)", most.MaxSamples)
			}
			n := caller
			if name < len(text) {
				if n, err = r.call(caller, text[name:]); err != nil {
					return err
				}
			}
			if err := r.stacks.add(n, value); err != nil {
				return err
			}
		}
		for len(stack) > 0 && stack[len(stack)-1].children == 0 {
			top := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			text, caller, name = text[:top.length], top.caller, top.name
		}
		if len(stack) == 0 {
			return nil
		}
		stack[len(stack)-1].children--
	}
}
