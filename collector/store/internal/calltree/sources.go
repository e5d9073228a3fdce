package calltree

import "github.com/flameline/flameline/collector/store/internal/symdb"

// A Source is where a function is in the source code. File is empty if it is not known, or
// if functions of the name are in several files. Line is that of the function's start, or
// where that is not known the first of its lines that stacktraces have; 0 if none is known.
type Source struct {
	File string
	Line int64
}

// SourceBytes is the memory that Sources takes for a string of a partial, in bytes.
const SourceBytes = 4

// Sources returns the sources of functions by their names, as the partials in which they
// have a value say. Of several lines it is the one that was stored last.
func Sources(partials []*Values, names []string) []Source {
	out, start := make([]Source, len(names)), make([]int64, len(names))
	several := make([]bool, len(names))
	var at symdb.Pairs // symdb.HashText to name plus one
	for i, name := range names {
		at.PutPrint(symdb.HashText(name), uint32(i)+1)
	}
	for _, c := range partials {
		v := c.View
		of := make([]uint32, len(v.Strings)) // string to name plus one
		for i := 1; i < len(v.Calls); i++ {
			s := v.Calls[i].Name
			if of[s] == 0 && c.Totals(int32(i)) != [2]int64{} {
				of[s], _ = at.GetPrint(v.Hashes[s])
			}
		}
		for i := range v.Functions {
			f := &v.Functions[i]
			k, file := of[f.Name], v.Strings[f.File]
			if k == 0 || file == "" {
				continue
			}
			several[k-1] = several[k-1] || out[k-1].File != "" && out[k-1].File != file
			out[k-1].File = file
			if f.StartLine > 0 {
				start[k-1] = f.StartLine
			}
		}
		for _, l := range v.Lines {
			if k := of[v.Functions[l.Function].Name]; k != 0 && l.Line > 0 && (out[k-1].Line == 0 || l.Line < out[k-1].Line) {
				out[k-1].Line = l.Line
			}
		}
	}
	for i := range out {
		switch {
		case several[i] || out[i].File == "":
			out[i] = Source{}
		case start[i] != 0:
			out[i].Line = start[i]
		}
	}
	return out
}
