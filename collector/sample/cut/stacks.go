//go:build linux && (amd64 || arm64)

package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/flameline/flameline/pkg/profile"
)

// stacks adds up CPU time by service and stack. A stack is its functions, root first,
// joined by newlines.
type stacks struct {
	mu        sync.Mutex
	byService map[string]map[string]int64 // ns
}

// Append counts the stacks of profiles.
func (s *stacks) Append(_ context.Context, ps []profile.Profile) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range ps {
		by := s.byService[p.Labels.Get("service_name")]
		if by == nil {
			by = map[string]int64{}
			s.byService[p.Labels.Get("service_name")] = by
		}
		for _, smp := range p.Pprof.Sample {
			var functions []string
			for _, id := range slices.Backward(smp.LocationId) {
				for _, ln := range slices.Backward(p.Pprof.Location[id-1].Line) {
					functions = append(functions, p.Pprof.StringTable[p.Pprof.Function[ln.FunctionId-1].Name])
				}
			}
			by[strings.Join(functions, "\n")] += smp.Value[0]
		}
	}
	return nil
}

// cutReason says why a stack is cut; "" if it is whole.
func cutReason(stack string) string {
	root, _, _ := strings.Cut(stack, "\n")
	reason, cut := strings.CutPrefix(root, "[stack incomplete: ")
	if !cut {
		return ""
	}
	return strings.TrimSuffix(reason, "]")
}

// largestFirst returns the keys of a map by falling value.
func largestFirst(m map[string]int64) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) })
}

// percent writes a part of a total.
func percent(n, total int64) string {
	if total == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f %%", 100*float64(n)/float64(total))
}

// sharesOf lists the parts of a total, the largest first.
func sharesOf(parts map[string]int64, total int64) string {
	var list []string
	for _, name := range largestFirst(parts) {
		list = append(list, name+" "+percent(parts[name], total))
	}
	return strings.Join(list, ", ")
}

func sumOf(parts map[string]int64) (total int64) {
	for _, n := range parts {
		total += n
	}
	return total
}
