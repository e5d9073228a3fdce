// Package relabel applies relabel_configs, Prometheus' rules that choose and change
// labels, in one way for all that have such a key: the targets of scrapes and the
// processes of this machine.
//
// Which labels there are is left to its callers.
package relabel

import (
	"errors"
	"fmt"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// Rules are the value of relabel_configs. They are read from YAML as Prometheus reads
// them, strictly if the decoder is strict, and have to be validated before they are used.
type Rules []*relabel.Config

// An Error is about one of the rules.
type Error struct {
	Index int // from 0
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("relabel_configs[%d]: %v", e.Index, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Validate returns an *Error for the first rule that is invalid.
func (rs Rules) Validate() error {
	for i, r := range rs {
		if r == nil {
			return &Error{i, errors.New("is empty")}
		}
		if err := r.Validate(model.UTF8Validation); err != nil {
			return &Error{i, err}
		}
	}
	return nil
}

// Apply applies the rules in their order, and reports whether what has the labels is
// kept.
func (rs Rules) Apply(b *labels.Builder) (keep bool) {
	return relabel.ProcessBuilder(b, rs...)
}
