package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseConsole(t *testing.T) {
	for _, tc := range []struct {
		name, console, err string
	}{
		{"passed", "[    1.0] Linux\r\ncheck ok doctor: 6.1\r\ncheck ok cpu: 300 samples\r\nchecks ended\r\n", ""},
		{"failed", "check ok doctor: 6.1\ncheck FAILED cpu: no samples\nchecks ended\n", "1 of 2 checks failed: cpu: no samples"},
		{"failed, then stopped", "check FAILED cpu: no samples\n", "1 of 1 checks failed: cpu: no samples"},
		{"stopped", "check ok doctor: 6.1\nKernel panic - not syncing\n", "the machine stopped after 1 checks, before the last one"},
		{"no check", "checks ended\n", "there was no check"},
		{"not booted", "", "the machine stopped after 0 checks, before the last one"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := parseConsole(strings.NewReader(tc.console))
			require.NoError(t, err)
			if tc.err == "" {
				require.NoError(t, r.err())
				return
			}
			require.EqualError(t, r.err(), tc.err)
		})
	}
}
