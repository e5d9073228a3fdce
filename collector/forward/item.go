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

// labelDelta says to Pyroscope whether values are cumulative counters. Pyroscope does
// not store the label.
const labelDelta = "__delta__"

// An item is an encoded profile in the queue. The fields after the blank line are
// guarded by the queue's lock.
type item struct {
	id     string
	labels string // for messages
	series *pushv1.RawProfileSeries
	bytes  int64 // in memory: the compressed profile and the labels
	plain  int64 // of the profile before compression

	inFlight bool // it is part of the present request
	removed  bool // it left the queue
	waiting  []chan error
	// alone counts failed requests that had only this item and whose error may be about
	// the item. Each is counted only if another item was acknowledged since the one
	// before; acknowledged is the queue's counter at the last of them.
	alone        int
	acknowledged uint64
}

// newItem encodes a profile in pprof format, gzipped. It gives a profile without an ID
// one, so that the server recognises a repeated profile.
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
	// The sources have turned counters into differences. Without this label Pyroscope's
	// storage v1 would compute differences of memory profiles again.
	it.series.Labels = append(it.series.Labels, &typesv1.LabelPair{Name: labelDelta, Value: "false"})
	p.Labels.Range(func(l labels.Label) {
		it.series.Labels = append(it.series.Labels, &typesv1.LabelPair{Name: l.Name, Value: l.Value})
		it.bytes += labelBytes + int64(len(l.Name)+len(l.Value))
	})
	return it, nil
}

// Approximate memory of an item and of a label besides their texts, in bytes.
const (
	itemBytes  = 500
	labelBytes = 100
)

// finish passes the outcome to the callers that wait for it.
func (it *item) finish(err error) {
	for _, c := range it.waiting {
		c <- err
	}
	it.waiting = nil
}
