package profile

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCaptureIDs(t *testing.T) {
	for id, want := range map[string]bool{
		"cap-20260102-150405-1a2b3c": true, "cap-1": true, "cap-" + strings.Repeat("x", 60): true,
		"": false, "cap-": false, "cap": false, "video": false, "cap-a b": false, "cap-ä": false, "xcap-1": false, "cap-" + strings.Repeat("x", 61): false,
	} {
		require.Equal(t, want, IsCaptureID(id), id)
	}
}

func TestWantsCaptures(t *testing.T) {
	for selector, want := range map[string]bool{
		`{}`: false, `{a="cap-1"}`: false, `{capture=""}`: false, `{capture=~".*"}`: false, `{capture!="cap-1"}`: false, `{capture!~"cap-.*"}`: false,
		`{capture="cap-1"}`: true, `{capture=~"cap-1|cap-2"}`: true, `{capture!=""}`: true, `{capture=~".+",a="b"}`: true, `{capture!="",capture!="cap-1"}`: true,
	} {
		ms, err := ParseSelector(selector)
		require.NoError(t, err)
		require.Equal(t, want, WantsCaptures(ms), selector)
	}
}
