package profile_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

func TestPalette(t *testing.T) {
	for id, want := range map[string]profile.Palette{
		"process_cpu:cpu:nanoseconds:cpu:nanoseconds":        profile.Hot,
		"process_cpu:samples:count:cpu:nanoseconds":          profile.Hot,
		"wall:wall:nanoseconds::":                            profile.Hot,
		"goroutine:goroutine:count:goroutine:count":          profile.Hot,
		"off_cpu:off_cpu:nanoseconds::":                      profile.Cold,
		"off_cpu:blocks:count::":                             profile.Cold,
		"block:delay:nanoseconds:contentions:count":          profile.Cold,
		"mutex:contentions:count:contentions:count":          profile.Cold,
		"memory:alloc_space:bytes:space:bytes":               profile.Green,
		"memory:inuse_objects:count:space:bytes":             profile.Green,
		"page_faults:page_faults:bytes:page_faults:bytes":    profile.Green,
		"memory:alloc_in_new_tlab_bytes:bytes:space:bytes":   profile.Green,
		"memory:alloc_in_new_tlab_objects:count:space:bytes": profile.Green,
	} {
		typ, err := profile.ParseType(id)
		require.NoError(t, err)
		require.Equal(t, want, typ.Palette(), id)
	}
}

func TestSVGPalettes(t *testing.T) {
	for p, hues := range map[profile.Palette][2]int{profile.Hot: {8, 54}, profile.Cold: {180, 226}, profile.Green: {85, 131}} {
		tree := parse("main;a 1", "main;b 1", "main;c 1", "main;d 1")
		var b bytes.Buffer
		require.NoError(t, tree.WriteSVG(&b, profile.SVG{Unit: "count", Palette: p}))
		coloured := 0
		for _, box := range readSVG(t, b.Bytes()).Boxes {
			var hue int
			if n, _ := fmt.Sscanf(box.Rect.Fill, "hsl(%d,", &hue); n == 1 {
				require.GreaterOrEqual(t, hue, hues[0])
				require.Less(t, hue, hues[1])
				coloured++
			}
		}
		require.Equal(t, 5, coloured)
	}
}
