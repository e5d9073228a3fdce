package ingest

import (
	"errors"
	"fmt"

	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// Names of labels that have a meaning.
const (
	labelService    = "service_name"
	fallbackService = "unknown_service"
)

// Labels reads a series' label set. __name__ is required, and service_name is
// unknown_service if it is missing. A label with an empty value is left out, since
// matchers treat it as missing. Names may be any UTF-8 text. In values U+FFFD replaces
// invalid UTF-8.
func Labels(pairs []*typesv1.LabelPair, l Limits) (labels.Labels, error) {
	if exceeds(len(pairs), l.MaxLabels) {
		return labels.EmptyLabels(), fmt.Errorf("labels: %d labels are more than %d (limits.max_labels)", len(pairs), l.MaxLabels)
	}
	b := labels.NewBuilder(labels.EmptyLabels())
	seen := make(map[string]string, len(pairs))
	for i, p := range pairs {
		name, value := p.GetName(), p.GetValue()
		switch {
		case exceeds(len(name), l.MaxLabelNameBytes):
			return labels.EmptyLabels(), fmt.Errorf("labels[%d].name: %d bytes are more than %d (limits.max_label_name_bytes)", i, len(name), l.MaxLabelNameBytes)
		case exceeds(len(value), l.MaxLabelValueBytes):
			return labels.EmptyLabels(), fmt.Errorf("labels[%d].value: %q has %d bytes, more than %d (limits.max_label_value_bytes)", i, name, len(value), l.MaxLabelValueBytes)
		case !model.UTF8Validation.IsValidLabelName(name):
			return labels.EmptyLabels(), fmt.Errorf("labels[%d].name: %q is not a label name", i, name)
		}
		value = validText(value, l.Report)
		if other, ok := seen[name]; ok && other != value {
			return labels.EmptyLabels(), fmt.Errorf("labels[%d].name: %q occurs twice, as %q and %q; a label has one value", i, name, other, value)
		}
		seen[name] = value
		b.Set(name, value)
	}
	if b.Get(model.MetricNameLabel) == "" {
		return labels.EmptyLabels(), errors.New("labels: __name__ is missing; it is the first part of the profile type, such as process_cpu")
	}
	if b.Get(labelService) == "" {
		b.Set(labelService, fallbackService)
	}
	return b.Labels(), nil
}
