package forward

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/uuid"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/profile"
)

// labelDelta tells Pyroscope whether values are counters. It is not kept.
const labelDelta = "__delta__"

// An item is a profile as it is sent. What is below the line belongs to the
// queue's lock.
type item struct {
	id     string
	labels string // for messages
	series *pushv1.RawProfileSeries
	bytes  int64 // in memory: the compressed profile and the labels
	plain  int64 // of the profile before compression

	flying  bool // it is part of the present request
	gone    bool // it left the queue
	waiting []chan error
	// alone counts requests with nothing but this item that the server answered
	// with an error that may be the item's fault, each after another item got
	// through; acknowledged is the queue's count at the last.
	alone        int
	acknowledged uint64
}

// newItem encodes a profile: in pprof format, gzipped. A profile without an ID
// gets one, so that it can be sent twice.
func newItem(p profile.Profile) (*item, error) {
	raw, err := p.Pprof.MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("encode profile: %w", err)
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(raw)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("encode profile: %w", err)
	}
	if p.ID == "" {
		p.ID = uuid.NewString()
	}
	it := &item{id: p.ID, labels: p.Labels.String(), plain: int64(len(raw)), bytes: itemBytes + int64(b.Len())}
	it.series = &pushv1.RawProfileSeries{Samples: []*pushv1.RawSample{{RawProfile: bytes.Clone(b.Bytes()), ID: p.ID}}}
	// Counters have become growth in the sources. Pyroscope's storage v1
	// would take the difference of memory profiles once more.
	it.series.Labels = append(it.series.Labels, &typesv1.LabelPair{Name: labelDelta, Value: "false"})
	p.Labels.Range(func(l labels.Label) {
		it.series.Labels = append(it.series.Labels, &typesv1.LabelPair{Name: l.Name, Value: l.Value})
		it.bytes += labelBytes + int64(len(l.Name)+len(l.Value))
	})
	return it, nil
}

// What an item and a label take besides their texts, in bytes, roughly.
const (
	itemBytes  = 500
	labelBytes = 100
)

// tell gives the outcome to whoever waits for it.
func (it *item) tell(err error) {
	for _, c := range it.waiting {
		c <- err
	}
	it.waiting = nil
}
