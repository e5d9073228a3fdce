// Package relabel checks and applies Prometheus' relabelling rules. It is shared by the
// sources of profiles whose labels the configuration may change.
//
// Which labels there are before, and what becomes of those that begin with __, is left
// to its callers.
package relabel

import (
	"errors"
	"fmt"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// Rules are the value of a key such as relabel_configs, in the order in which they are
// applied. They are read from YAML with Prometheus' keys and defaults.
type Rules []*relabel.Config

// An Error is a rule that cannot be applied.
type Error struct {
	Index int // of the rule
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("[%d]: %v", e.Index, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Validate returns an *Error for the first rule that cannot be applied. Names of labels
// may be any UTF-8 text.
func (r Rules) Validate() error {
	for i, rule := range r {
		if rule == nil {
			return &Error{i, errors.New("is empty")}
		}
		if err := rule.Validate(model.UTF8Validation); err != nil {
			return &Error{i, err}
		}
	}
	return nil
}

// Apply applies validated rules to the labels in b. It returns false if a rule drops
// what the labels are of.
func (r Rules) Apply(b *labels.Builder) (keep bool) { return relabel.ProcessBuilder(b, r...) }
