package server

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRegularExpressionsAreBounded has selectors that take minutes to match, and long ones
// that do not.
func TestRegularExpressionsAreBounded(t *testing.T) {
	const want = `value of "pod": the regular expressions have more than 500 operators such as * and +`
	for name, tc := range map[string]struct {
		value string
		want  string
	}{
		"names":             {strings.Repeat("shop-7d9f4c-x2x9v|", 1000) + "x", ""},
		"prefixes":          {strings.Repeat("shop-.*|", 400) + "x", ""},
		"many anything":     {strings.Repeat(".*", 501), want},
		"many optional":     {strings.Repeat("(a|b)?", 501), want},
		"many empty":        {strings.Repeat("(a|)", 501), want},
		"repeated anything": {"(.*){1,600}", want},
		"repeated twice":    {"((.*){20}){30}", want},
		"digits":            {"[0-9]{1,900}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			selector := `{pod=~"` + tc.value + `"}`
			_, err := parseSelector(selector)
			_, several := matchers([]string{`{service_name="x"}`, selector})
			if tc.want == "" {
				require.NoError(t, err)
				require.NoError(t, several)
				return
			}
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, several, tc.want)
		})
	}
	long := `{pod="` + strings.Repeat("x", maxSelectorBytes) + `"}`
	_, err := parseSelector(long)
	require.ErrorContains(t, err, "131080 bytes are more than 131072")
	_, err = matchers([]string{long[:1000], long})
	require.ErrorContains(t, err, "matchers")
	half := `{pod=~"` + strings.Repeat(".*", 300) + `"}`
	_, err = matchers([]string{half})
	require.NoError(t, err)
	_, err = matchers([]string{half, half})
	require.ErrorContains(t, err, want, "together")
}
