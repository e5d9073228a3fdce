package ingest

import (
	"strings"
	"testing"

	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"
)

func pairs(kv ...string) []*typesv1.LabelPair {
	var out []*typesv1.LabelPair
	for i := 0; i < len(kv); i += 2 {
		out = append(out, &typesv1.LabelPair{Name: kv[i], Value: kv[i+1]})
	}
	return out
}

func TestLabels(t *testing.T) {
	for name, tc := range map[string]struct {
		in   []*typesv1.LabelPair
		want string
	}{
		"sorted":          {pairs("service_name", "cart", "__name__", "process_cpu", "pod", "a"), `{__name__="process_cpu", pod="a", service_name="cart"}`},
		"no service":      {pairs("__name__", "memory"), `{__name__="memory", service_name="unknown_service"}`},
		"twice the same":  {pairs("__name__", "memory", "pod", "a", "pod", "a"), `{__name__="memory", pod="a", service_name="unknown_service"}`},
		"not UTF-8":       {pairs("__name__", "memory", "pod", "a\xffb"), `{__name__="memory", pod="a�b", service_name="unknown_service"}`},
		"a colon":         {pairs("__name__", "memory:heap"), `{__name__="memory:heap", service_name="unknown_service"}`},
		"empty value":     {pairs("__name__", "memory", "pod", "", "service_name", ""), `{__name__="memory", service_name="unknown_service"}`},
		"any UTF-8 names": {pairs("__name__", "memory", "otel.scope.name", "x", "straße", "1"), `{__name__="memory", "otel.scope.name"="x", service_name="unknown_service", "straße"="1"}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Labels(tc.in, Limits{})
			require.NoError(t, err)
			require.Equal(t, tc.want, got.String())
		})
	}
}

func TestLabelsNamesTheFieldAtFault(t *testing.T) {
	l := Limits{MaxLabels: 3, MaxLabelNameBytes: 10, MaxLabelValueBytes: 20}
	for name, tc := range map[string]struct {
		in   []*typesv1.LabelPair
		want string
	}{
		"none":       {nil, "labels: __name__ is missing"},
		"no name":    {pairs("service_name", "cart"), "labels[0].name: 12 bytes are more than 10 (limits.max_label_name_bytes)"},
		"twice":      {pairs("__name__", "x", "pod", "a", "pod", "b"), `labels[2].name: "pod" occurs twice, as "a" and "b"`},
		"nameless":   {pairs("__name__", "x", "", "a"), `labels[1].name: "" is not a label name`},
		"too many":   {pairs("__name__", "x", "a", "1", "b", "2", "c", "3"), "4 labels are more than 3 (limits.max_labels)"},
		"long value": {pairs("__name__", "x", "a", strings.Repeat("v", 21)), "more than 20 (limits.max_label_value_bytes)"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Labels(tc.in, l)
			require.ErrorContains(t, err, tc.want)
		})
	}
}
