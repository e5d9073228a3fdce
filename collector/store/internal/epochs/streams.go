package epochs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// load returns a stream, read from disk if it is not live; nil if it is
// corrupt or missing.
func (e *Epoch) load(id uint32) (*labelindex.Stream, error) {
	if s := e.Live[id]; s != nil {
		return s, nil
	}
	s, err := e.readStream(id)
	if errors.Is(err, storeerr.ErrCorrupt) {
		e.Set.KV.Corrupt(err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e.addLive(s)
	return s, nil
}

func (e *Epoch) addLive(s *labelindex.Stream) {
	if old := e.Live[s.ID]; old != nil {
		e.forget(old)
	}
	e.Live[s.ID], e.byHash[s.Hash()] = s, s
}

func (e *Epoch) forget(s *labelindex.Stream) {
	delete(e.Live, s.ID)
	if hash := s.Hash(); e.byHash[hash] == s {
		delete(e.byHash, hash)
	}
}

// readStream reads a stream.
func (e *Epoch) readStream(id uint32) (*labelindex.Stream, error) {
	key := layout.StreamKey(e.ID, id)
	value, closer, err := e.Set.KV.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, fmt.Errorf("read stream %x: %w: missing", key, storeerr.ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("read stream %x: %w", key, err)
	}
	partition, def, err := labelindex.ReadStream(value)
	if err == nil && partition >= e.partitions { // a new service is going to take its number
		err = fmt.Errorf("%w: service %d is missing", storeerr.ErrCorrupt, partition)
	}
	if err := errors.Join(err, closer.Close()); err != nil {
		return nil, fmt.Errorf("read stream %x: %w", key, err)
	}
	return &labelindex.Stream{ID: id, Partition: partition, Def: def}, nil
}

// Evict forgets the streams that have no open hours, and for a quiet time no
// profiles.
func (e *Epoch) Evict(quiet time.Duration) {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	busy := make(map[uint32]bool, len(e.Live))
	for id, o := range e.Unmerged {
		if id.Hour != WholeDay || o.inFlight > 0 || o.last[0].ago() < quiet {
			busy[id.Stream] = true
		}
	}
	for id, s := range e.Live {
		if busy[id] {
			continue
		}
		e.forget(s)
		delete(e.Unmerged, StreamHour{id, WholeDay}) // its mark is on disk
	}
}

// Stream returns the stream of a definition, which it writes if it is new. The
// write is in the log before any later one, but not synced.
func (e *Epoch) Stream(def *labelindex.Definition) (*labelindex.Stream, error) {
	e.grow.Lock()
	defer e.grow.Unlock()
	service := def.Labels.Get(labelindex.LabelServiceName)
	e.Mu.RLock()
	partition, ok := e.current[service]
	next := e.partitions
	e.Mu.RUnlock()
	if !ok {
		if next >= MaxPartitions {
			return nil, fmt.Errorf("%w: %d services in a day", storeerr.ErrLimit, MaxPartitions)
		}
		partition = next
		err := e.Set.KV.Set(layout.PartitionKey(e.ID, partition), []byte(service), pebble.NoSync)
		if err != nil {
			return nil, fmt.Errorf("write partition: %w", err)
		}
		e.Mu.Lock()
		e.current[service], e.services[partition], e.partitions = partition, service, partition+1
		e.Mu.Unlock()
		if err := e.Set.addPartition(e.ID, partition); err != nil {
			return nil, err
		}
	}
	return e.lookUp(def, partition)
}

// lookUp is Stream for a partition that exists. The caller holds grow, and not
// the lock.
func (e *Epoch) lookUp(def *labelindex.Definition, partition uint32) (*labelindex.Stream, error) {
	e.key = labelindex.AppendStream(e.key[:0], partition, def)
	hash := xxhash.Sum64(e.key)
	e.Mu.RLock()
	s := e.byHash[hash]
	e.Mu.RUnlock()
	if s != nil && s.Is(e.key) {
		return s, nil
	}
	e.Mu.Lock()
	s, err := e.find(e.key)
	if s != nil {
		e.addLive(s)
	}
	e.Mu.Unlock()
	if s != nil || err != nil {
		return s, err
	}
	if e.Next >= MaxStreams {
		return nil, fmt.Errorf("%w: %d series and sums over them in a day", storeerr.ErrLimit, MaxStreams)
	}
	b := e.Set.KV.Pebble.NewBatch()
	defer b.Close()
	b.Set(layout.StreamKey(e.ID, e.Next), e.key, nil)
	b.Set(layout.FindKey(e.ID, hash), binary.AppendUvarint(nil, uint64(e.Next)), nil)
	if err := e.Set.KV.Commit(b, pebble.NoSync); err != nil {
		return nil, fmt.Errorf("write stream: %w", err)
	}
	s = &labelindex.Stream{ID: e.Next, Partition: partition, Def: def.Own()}
	e.Next++
	e.Mu.Lock()
	e.addLive(s)
	e.Mu.Unlock()
	return s, nil
}

// find returns the stream of an encoding, live or read from disk; nil if there is none. A
// second stream of the same definition serves as well as one that cannot be read, or that
// lost its place to another one of the same hash.
func (e *Epoch) find(encoded []byte) (*labelindex.Stream, error) {
	hash := xxhash.Sum64(encoded)
	if s := e.byHash[hash]; s != nil && s.Is(encoded) {
		return s, nil
	}
	key := layout.FindKey(e.ID, hash)
	value, closer, err := e.Set.KV.Get(key)
	if errors.Is(err, pebble.ErrNotFound) || errors.Is(err, storeerr.ErrCorrupt) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read stream %x: %w", key, err)
	}
	r := bitpack.Decoder{Data: value}
	id := r.Below(budget.EpochItself, "stream")
	if err := errors.Join(r.End(), closer.Close()); err != nil {
		e.Set.KV.Corrupt(fmt.Errorf("read stream %x: %w", key, err))
		return nil, nil
	}
	s := e.Live[id]
	if s == nil {
		if s, err = e.readStream(id); err != nil {
			if errors.Is(err, storeerr.ErrCorrupt) {
				err = nil
			}
			return nil, err
		}
	}
	if !s.Is(encoded) {
		return nil, nil
	}
	return s, nil
}

// LookFor returns the stream of a definition, nil if there is none.
func (e *Epoch) LookFor(def *labelindex.Definition) (*labelindex.Stream, error) {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	partition, ok := e.current[def.Labels.Get(labelindex.LabelServiceName)]
	if !ok {
		return nil, nil
	}
	return e.find(labelindex.AppendStream(nil, partition, def))
}

// EachStreamOf calls fn with the definitions of the streams of a service that have profiles
// in an hour, each once. Those that cannot be read are left out.
func (es *Set) EachStreamOf(id uint32, hour uint8, service string, fn func(*labelindex.Definition)) error {
	if !es.Has(id) {
		return nil
	}
	u, err := es.Acquire(id)
	if err != nil {
		return err
	}
	defer u.Release()
	e := u.Value
	var partitions []uint32 // one, as a rule
	e.Mu.RLock()
	for n, name := range e.services {
		if name == service {
			partitions = append(partitions, n)
		}
	}
	e.Mu.RUnlock()
	var streams []uint32
	err = es.EachIndexOf(e, hour, func(t *labelindex.HourIndex) error {
		for row, stream := range t.Streams {
			if slices.Contains(partitions, t.Partitions[row]) {
				streams = append(streams, stream)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(streams)
	for _, stream := range slices.Compact(streams) {
		e.Mu.RLock()
		s := e.Live[stream]
		e.Mu.RUnlock()
		if s == nil {
			if s, err = e.readStream(stream); errors.Is(err, storeerr.ErrCorrupt) {
				continue
			}
			if err != nil {
				return err
			}
		}
		fn(&s.Def)
	}
	return nil
}
