package conformance

import (
	_ "embed"
	"encoding/json"
)

// Recorded are the answers of a Pyroscope server to Calls, by name, and which
// server that was.
type Recorded struct {
	Server  string            `json:"server"`
	Answers map[string]Answer `json:"answers"`
}

//go:embed answers.json
var recorded []byte

// Load returns the recorded answers.
func Load() (Recorded, error) {
	var r Recorded
	err := json.Unmarshal(recorded, &r)
	return r, err
}
