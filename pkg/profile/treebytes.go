package profile

import (
	"encoding/binary"
	"fmt"
	"math"
)

// MarshalBinary encodes the tree in Pyroscope's profile format TREE: depth first, each
// node as the length of its name, the name, its self value and its number of children,
// with numbers as unsigned varints. The root's name is empty. A tree of value 0 gives no
// bytes.
func (t *Tree) MarshalBinary() ([]byte, error) {
	if len(t.Nodes) < 2 && t.Total() == 0 {
		return nil, nil
	}
	count := make([]uint64, len(t.Nodes))
	for i := 1; i < len(t.Nodes); i++ {
		count[t.Nodes[i].Parent]++
	}
	l := t.layOut()
	defer l.free()
	b := make([]byte, 0, 16*len(t.Nodes))
	l.walk(func(_ int, i int32) {
		n, name := &t.Nodes[i], ""
		if i > 0 {
			name = t.Names[n.Name]
		}
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
		b = binary.AppendUvarint(b, uint64(n.Self))
		b = binary.AppendUvarint(b, count[i])
	})
	return b, nil
}

// UnmarshalTree decodes the format of MarshalBinary and Pyroscope. No bytes give the
// empty tree.
func UnmarshalTree(data []byte) (*Tree, error) {
	b := NewBuilder(len(data) / 16)
	if len(data) == 0 {
		return b.Tree(), nil
	}
	type open struct {
		node int32
		left uint64 // children not read yet
	}
	stack := []open{{-1, 1}}
	var sum int64
	off := 0
	number := func() (uint64, error) {
		v, n := binary.Uvarint(data[off:])
		if n <= 0 {
			return 0, fmt.Errorf("tree: malformed number at byte %d", off)
		}
		off += n
		return v, nil
	}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if top.left == 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		top.left--
		size, err := number()
		if err != nil {
			return nil, err
		}
		if size > uint64(len(data)-off) {
			return nil, fmt.Errorf("tree: name of %d bytes at byte %d exceeds the data", size, off)
		}
		name := data[off : off+int(size)]
		off += int(size)
		self, err := number()
		if err != nil {
			return nil, err
		}
		if self > math.MaxInt64-uint64(sum) {
			return nil, fmt.Errorf("tree: total overflows at byte %d", off)
		}
		sum += int64(self)
		left, err := number()
		if err != nil {
			return nil, err
		}
		at := int32(0)
		if top.node >= 0 {
			at = b.Child(top.node, b.Name(string(name)))
		}
		b.Add(at, int64(self))
		stack = append(stack, open{at, left})
	}
	if off != len(data) {
		return nil, fmt.Errorf("tree: %d bytes after the end at byte %d", len(data)-off, off)
	}
	return b.Tree(), nil
}
