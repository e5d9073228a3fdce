package profile_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// What speedscope would read is the tree again.
func TestSpeedscope(t *testing.T) {
	tree := profile.Merge(random(rand.New(rand.NewPCG(7, 8)), 200), parse(`a"b\;<c> 7`, " 3"))
	var out bytes.Buffer
	require.NoError(t, tree.WriteSpeedscope(&out, `an "app"`, "nanoseconds"))

	var file struct {
		Schema string `json:"$schema"`
		Name   string
		Shared struct{ Frames []struct{ Name string } }
		// A sampled profile of the schema has these fields and no other.
		Profiles []struct {
			Type, Name, Unit     string
			StartValue, EndValue int64
			Samples              [][]int
			Weights              []int64
		}
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &file))
	require.Equal(t, "https://www.speedscope.app/file-format-schema.json", file.Schema)
	require.Len(t, file.Profiles, 1)
	p := file.Profiles[0]
	require.Equal(t, []string{"sampled", `an "app"`, "nanoseconds"}, []string{p.Type, p.Name, p.Unit})
	require.Equal(t, []int64{0, tree.Total()}, []int64{p.StartValue, p.EndValue})
	require.Len(t, p.Weights, len(p.Samples))
	b := profile.NewBuilder(0)
	for i, s := range p.Samples {
		at := int32(0)
		for _, frame := range s {
			at = b.Child(at, b.Name(file.Shared.Frames[frame].Name))
		}
		b.Add(at, p.Weights[i])
	}
	require.Equal(t, draw(tree), draw(b.Tree()))
}

func TestSpeedscopeUnits(t *testing.T) {
	for unit, want := range map[string]string{"bytes": "bytes", "seconds": "seconds", "count": "none", "": "none"} {
		var out bytes.Buffer
		require.NoError(t, parse("a 1").WriteSpeedscope(&out, "x", unit))
		require.Contains(t, out.String(), `"unit":"`+want+`"`)
	}
}
