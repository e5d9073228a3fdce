package load

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/flameline/flameline/e2e/proc"
)

// TestPrograms builds and starts each program and checks that its metrics know
// its functions and that their CPU time is within that of the process.
func TestPrograms(t *testing.T) {
	for _, p := range Programs() {
		t.Run(p.Service, func(t *testing.T) {
			if lacks := p.Missing(); lacks != "" {
				t.Fatalf("%s is not on PATH; it takes it to run the %s load", lacks, p.Language)
			}
			address, err := proc.FreeAddress("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			spec, err := p.Build(t.Context(), "../..", t.TempDir(), address)
			if err != nil {
				t.Fatal(err)
			}
			program, err := proc.Start(spec)
			if err != nil {
				t.Fatal(err)
			}
			defer program.Stop(10 * time.Second)

			var u Usage
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err = program.Await(ctx, func(ctx context.Context) (err error) {
				u, err = ReadUsage(ctx, address)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			sum := 0.0
			for _, f := range p.Hot {
				want = append(want, f.Metric())
				sum += u.Functions[f.Metric()]
			}
			if got := slices.Sorted(maps.Keys(u.Functions)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Errorf("functions in the metrics: %v, want %v", got, want)
			}
			// Linux counts a process' time in ticks of 10 ms for some readers.
			if sum > u.Process+0.02 {
				t.Errorf("functions took %.3f s, the whole process %.3f s", sum, u.Process)
			}
		})
	}
}
