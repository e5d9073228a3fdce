package store

import "github.com/flameline/flameline/collector/store/internal/labelindex"

// LabelSets are distinct label sets in the order of labels.Compare. They are kept
// by column: for every name its values, and for every set which of them it has.
type LabelSets = labelindex.LabelSets
