package plugin

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/flameline/flameline/pkg/client"
)

// Bounds of a completion's values, with which browsers stay responsive.
const (
	maxCompletions      = 10_000
	maxCompletionsBytes = 1 << 20
)

// completions are some of a label's values, for completion.
type completions struct {
	Values []string `json:"values"`
	// More is the number of values that were left out.
	More int `json:"more"`
}

// completeValues answers labelValues with limit: the values that contain the text of
// search in upper or lower case, first those that begin with it.
func (d *Datasource) completeValues(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := completionLimit(q)
	if err != nil {
		writeError(w, err)
		return
	}
	p, err := parseResourceParams(q, time.Now())
	if err != nil {
		writeError(w, err)
		return
	}
	values, err := d.labelValues(r.Context(), p)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, completionsOf(values, q.Get("search"), limit))
}

// completionLimit reads limit, the number of values, and bounds it by maxCompletions.
func completionLimit(q url.Values) (int, error) {
	n, err := strconv.Atoi(q.Get("limit"))
	if err != nil || n < 1 {
		return 0, client.Invalidf("limit", "%q is not a positive number", q.Get("limit"))
	}
	return min(n, maxCompletions), nil
}

func completionsOf(values []string, search string, limit int) completions {
	search = strings.ToLower(search)
	var first, others []string
	for _, v := range values {
		switch at := strings.Index(strings.ToLower(v), search); {
		case at == 0:
			first = append(first, v)
		case at > 0:
			others = append(others, v)
		}
	}
	found := append(first, others...)
	out := completions{Values: []string{}}
	size := 0
	for _, v := range found {
		if size += len(v) + 3; len(out.Values) == limit || size > maxCompletionsBytes {
			break
		}
		out.Values = append(out.Values, v)
	}
	out.More = len(found) - len(out.Values)
	return out
}
