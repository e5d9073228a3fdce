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

var (
	//go:embed answers.json
	recordedV2 []byte
	//go:embed answers_v1.json
	recordedV1 []byte
)

// Load returns the recorded answers of storage architecture v2, Pyroscope's
// default, to all calls.
func Load() (Recorded, error) { return parse(recordedV2) }

// LoadV1 returns the recorded answers of storage architecture v1 to the calls that v1
// answers differently from v2.
func LoadV1() (Recorded, error) { return parse(recordedV1) }

func parse(raw []byte) (r Recorded, err error) {
	err = json.Unmarshal(raw, &r)
	return r, err
}
