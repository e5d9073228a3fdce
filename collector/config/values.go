package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v4"
)

// Mode says whether an optional part runs.
type Mode string

// Auto runs a part if it is permitted; True requires it, so that the program ends if it
// is not permitted; False switches it off.
const (
	Auto  Mode = "auto"
	True  Mode = "true"
	False Mode = "false"
)

// UnmarshalYAML accepts true, false and auto.
func (m *Mode) UnmarshalYAML(n *yaml.Node) error { return m.Set(n.Value) }

// Set reads a mode from a flag.
func (m *Mode) Set(s string) error {
	switch v := Mode(strings.ToLower(s)); v {
	case Auto, True, False:
		*m = v
		return nil
	}
	return fmt.Errorf("%q is not true, false or auto", s)
}

// Duration is a time span written as Prometheus does: 5s, 1h30m, 30d.
type Duration time.Duration

// UnmarshalYAML reads a duration; a bare 0 is one as well.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error { return d.Set(n.Value) }

// Set reads a duration from a flag.
func (d *Duration) Set(s string) error {
	v, err := model.ParseDuration(s)
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// String returns what UnmarshalYAML reads.
func (d Duration) String() string { return model.Duration(d).String() }

// Bytes is a size, in bytes, written as Prometheus does: 512MB, 10GiB, with
// powers of 1024, or as a plain number.
type Bytes int64

// UnmarshalYAML reads a size.
func (b *Bytes) UnmarshalYAML(n *yaml.Node) error { return b.Set(n.Value) }

// Set reads a size from a flag.
func (b *Bytes) Set(s string) error {
	if v, err := strconv.ParseInt(s, 10, 64); err == nil {
		*b = Bytes(v)
		return nil
	}
	v, err := units.ParseBase2Bytes(s)
	if err != nil {
		return fmt.Errorf("%q is not a size such as 512MB", s)
	}
	*b = Bytes(v)
	return nil
}
