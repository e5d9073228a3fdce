package target

import "github.com/prometheus/prometheus/model/labels"

// A Resolver finds the labels of processes.
type Resolver struct{ o Options }

// New returns a Resolver. It is safe for concurrent use.
func New(o Options) *Resolver { return &Resolver{o: o} }

// Labels returns the labels of a process.
func (r *Resolver) Labels(pid int, hint Hint) labels.Labels { return labels.EmptyLabels() }
