package calltree

import "github.com/flameline/flameline/collector/store/internal/symdb"

// A Source is where a function is in the source code. File is empty if it is not known, or
// if functions of the name are in several files. Line is that of the function's start, or
// where that is not known the first of its lines that stacktraces have; 0 if none is known.
type Source struct {
	File string
	Line int64
}

// Sources returns the sources of functions by their names, as the dictionaries of the
// partials say. Of several lines it is the one that was stored last.
func Sources(partials []*Values, names []string) []Source {
	out, start := make([]Source, len(names)), make([]int64, len(names))
	several := make([]bool, len(names))
	var at symdb.Pairs // symdb.HashText to name plus one
	for i, name := range names {
		at.AddPrint(symdb.HashText(name), uint32(i)+1)
	}
	for _, c := range partials {
		v := c.View
		open := map[uint32]uint32{} // functions whose start is not known, to name
		for i := range v.Functions {
			f := &v.Functions[i]
			k, known := at.GetPrint(v.Hashes[f.Name])
			file := v.Strings[f.File]
			if !known || file == "" {
				continue
			}
			k--
			several[k] = several[k] || out[k].File != "" && out[k].File != file
			out[k].File = file
			if f.StartLine > 0 {
				start[k] = f.StartLine
			} else {
				open[uint32(i)] = k
			}
		}
		if len(open) == 0 {
			continue
		}
		for _, l := range v.Lines {
			if k, is := open[l.Function]; is && l.Line > 0 && (out[k].Line == 0 || l.Line < out[k].Line) {
				out[k].Line = l.Line
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
