package ingest

import (
	"bytes"
	"strconv"
)

// pySpyLines is how many lines IsPySpy looks at.
const pySpyLines = 1000

// IsPySpy reports whether folded stacks are py-spy's: most of the first lines have a
// frame of Python as py-spy writes it, such as "work (shop/cart.py:12)". With
// Push.PySpy, Folded reads such frames as function, file and line.
func IsPySpy(text []byte) bool {
	lines, found := 0, 0
	for line := range bytes.Lines(text) {
		if line = bytes.TrimRight(line, " \t\r\n"); len(line) == 0 || isComment(line) {
			continue
		}
		if lines++; lines > pySpyLines {
			break
		}
		stack, _ := lastField(line)
		for frame := range bytes.SplitSeq(stack, []byte{';'}) {
			if f := pySpyFunction(frame); f.line > 0 && isPythonFile(f.file) {
				found++
				break
			}
		}
	}
	return 2*found > lines
}

// isPythonFile reports whether a name is that of a file of Python, or of code in none,
// such as <string> or <frozen importlib._bootstrap>.
func isPythonFile(name string) bool {
	for _, ending := range []string{".py", ".pyx", ".pyw", ">"} {
		if len(name) > len(ending) && name[len(name)-len(ending):] == ending {
			return ending != ">" || name[0] == '<'
		}
	}
	return false
}

// pySpyFunction reads a frame of py-spy: "name (file:line)", or "name (file)" for native
// code without a line. Other frames, such as those of threads and processes, are names.
func pySpyFunction(frame []byte) function {
	whole := function{name: string(frame)}
	inside, ok := bytes.CutSuffix(frame, []byte{')'})
	i := bytes.LastIndex(inside, []byte(" ("))
	if !ok || i <= 0 {
		return whole
	}
	name, file := string(inside[:i]), inside[i+2:]
	if j := bytes.LastIndexByte(file, ':'); j > 0 {
		line, err := strconv.ParseUint(string(file[j+1:]), 10, 31)
		if err == nil && line > 0 {
			return function{name: name, file: string(file[:j]), line: int64(line)}
		}
		return whole
	}
	if !bytes.ContainsAny(file, "./") && !bytes.HasPrefix(file, []byte("python")) {
		return whole // such as (0x7F12) of a thread
	}
	return function{name: name, file: string(file)}
}

// pySpyCall is call for a frame of py-spy.
func (s *stacks) pySpyCall(parent uint32, frame []byte) (uint32, error) {
	n, ok := s.byFrame[string(frame)]
	if !ok {
		f := pySpyFunction(frame)
		var err error
		if f.file == "" {
			n, err = s.function(frame)
		} else {
			n, err = s.addFunction(f)
		}
		if err != nil {
			return 0, err
		}
		if s.byFrame == nil {
			s.byFrame = map[string]uint32{}
		}
		s.byFrame[string(frame)] = n
	}
	return s.child(parent, n)
}
