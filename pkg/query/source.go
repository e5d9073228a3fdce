package query

import (
	"path"
	"strconv"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/flameline/flameline/pkg/dataframe"
	"github.com/flameline/flameline/pkg/profile"
)

// SourceTitle is what links to a function's source are called.
const SourceTitle = "Source of the function"

// A Source is where a function is in the source code.
type Source struct {
	Function string
	File     string // "" if it is not known
	Line     int64  // 0 if it is not known
}

func sourceOf(row *profile.FunctionRow) Source {
	return Source{Function: row.Name, File: row.File, Line: row.Line}
}

// addSources adds a column to a table of functions, with a link to the source of each
// whose file is known. rows are the sources by row. It reports whether links were asked
// for.
func (r *Runner) addSources(m *Model, frame *data.Frame, rows []Source) (asked bool) {
	if r.Links.Source == nil {
		return false
	}
	names, urls := make([]string, len(rows)), make([]string, len(rows))
	any := false
	for i, row := range rows {
		if urls[i] = r.Links.Source(m, row); urls[i] == "" {
			continue
		}
		any = true
		names[i] = path.Base(row.File)
		if row.Line > 0 {
			names[i] += ":" + strconv.FormatInt(row.Line, 10)
		}
	}
	if any {
		dataframe.AddLinks(frame, "Source", SourceTitle, names, urls)
	}
	return true
}
