package epochs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
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
	if old := e.Live[s.ID]; old == s {
		return
	} else if old != nil {
		e.forget(old)
	}
	e.Live[s.ID] = s
	hash := s.Def.Hash()
	s.Same, e.byHash[hash] = e.byHash[hash], s
}

// readStream reads a stream. An empty value marks a number that is not to be used.
func (e *Epoch) readStream(id uint32) (*labelindex.Stream, error) {
	key := layout.StreamKey(e.ID, id)
	value, closer, err := e.Set.KV.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, fmt.Errorf("read stream %x: %w: missing", key, storeerr.ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("read stream %x: %w", key, err)
	}
	if len(value) == 0 {
		return nil, errors.Join(fmt.Errorf("read stream %x: %w: empty", key, storeerr.ErrCorrupt), closer.Close())
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
		delete(e.Live, id)
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

// lookUp is stream for a partition that exists. The caller holds grow, and not
// the lock.
func (e *Epoch) lookUp(def *labelindex.Definition, partition uint32) (*labelindex.Stream, error) {
	e.key = def.Append(e.key[:0])
	if s := e.known(e.key, partition); s != nil {
		return s, nil
	}
	key := string(e.key)
	e.Mu.Lock()
	s, same, err := e.find(key, partition)
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
	b.Set(layout.StreamKey(e.ID, e.Next), labelindex.AppendStream(nil, partition, def), nil)
	b.Set(layout.FindKey(e.ID, xxhash.Sum64String(key)), AppendStreams(nil, append(same, e.Next)), nil)
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

// known returns the live stream of a definition's encoding in a partition.
func (e *Epoch) known(key []byte, partition uint32) *labelindex.Stream {
	e.Mu.RLock()
	defer e.Mu.RUnlock()
	return e.liveOf(key, partition)
}

// liveOf is known for who holds the lock.
func (e *Epoch) liveOf(key []byte, partition uint32) *labelindex.Stream {
	for s := e.byHash[xxhash.Sum64(key)]; s != nil; s = s.Same {
		if s.Partition == partition && s.Def.Is(key) {
			return s
		}
	}
	return nil
}

// forget takes a stream out of those that are found by definition.
func (e *Epoch) forget(s *labelindex.Stream) {
	hash := s.Def.Hash()
	if e.byHash[hash] == s {
		if e.byHash[hash] = s.Same; s.Same == nil {
			delete(e.byHash, hash)
		}
	} else {
		for at := e.byHash[hash]; at != nil; at = at.Same {
			if at.Same == s {
				at.Same = s.Same
				break
			}
		}
	}
	s.Same = nil
}

// find returns the stream of a definition's encoding in a partition, live or read
// from disk; nil if there is none, and then the streams that share its hash.
func (e *Epoch) find(key string, partition uint32) (s *labelindex.Stream, same []uint32, err error) {
	if s := e.liveOf([]byte(key), partition); s != nil {
		return s, nil, nil
	}
	if same, err = e.Set.findStreams(e.ID, xxhash.Sum64String(key)); err != nil {
		return nil, nil, err
	}
	for _, id := range same {
		s := e.Live[id]
		if s == nil {
			if s, err = e.readStream(id); errors.Is(err, storeerr.ErrCorrupt) {
				continue // it cannot be this one any more
			}
			if err != nil {
				return nil, nil, err
			}
		}
		if s.Partition == partition && string(s.Def.Append(nil)) == key {
			return s, same, nil
		}
	}
	return nil, same, nil
}

// findStreams lists the streams of an epoch whose definition has a hash.
func (es *Set) findStreams(epoch uint32, hash uint64) (ids []uint32, err error) {
	key := layout.FindKey(epoch, hash)
	value, closer, err := es.KV.Get(key)
	if errors.Is(err, pebble.ErrNotFound) || errors.Is(err, storeerr.ErrCorrupt) {
		return nil, nil // a second stream of the same definition serves as well
	}
	if err != nil {
		return nil, fmt.Errorf("read streams %x: %w", key, err)
	}
	if ids, err = ReadStreams(value); err != nil { // a stream of the same definition will do
		es.KV.Corrupt(fmt.Errorf("read streams %x: %w", key, err))
		ids = nil
	}
	return ids, closer.Close()
}

// AppendStreams appends the encoding of numbers of streams: their count, then each, as
// varints.
func AppendStreams(b []byte, ids []uint32) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return b
}

// ReadStreams reads what AppendStreams appended.
func ReadStreams(value []byte) (ids []uint32, err error) {
	r := bitpack.Decoder{Data: value}
	for range r.Count(1, "stream count") {
		ids = append(ids, r.Below(budget.EpochItself, "stream"))
	}
	return ids, r.End()
}

// LookFor returns the stream of a definition, nil if there is none.
func (e *Epoch) LookFor(def *labelindex.Definition) (*labelindex.Stream, error) {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	partition, ok := e.current[def.Labels.Get(labelindex.LabelServiceName)]
	if !ok {
		return nil, nil
	}
	s, _, err := e.find(string(def.Append(nil)), partition)
	return s, err
}

// StreamsOf lists the streams that have profiles in an hour, by service.
func (es *Set) StreamsOf(id uint32, hour uint8) (map[string][]uint32, error) {
	out := map[string][]uint32{}
	if !es.Has(id) {
		return out, nil
	}
	u, err := es.Acquire(id)
	if err != nil {
		return nil, err
	}
	defer u.Release()
	u.Value.Mu.RLock()
	services := maps.Clone(u.Value.services)
	u.Value.Mu.RUnlock()
	err = es.EachIndexOf(u.Value, hour, func(t *labelindex.HourIndex) error {
		for row, stream := range t.Streams {
			name := services[t.Partitions[row]]
			out[name] = append(out[name], stream)
		}
		return nil
	})
	return out, err
}

// EachDefinition calls fn with the definitions of streams, each once. Those that
// cannot be read are left out.
func (es *Set) EachDefinition(id uint32, streams []uint32, fn func(*labelindex.Definition)) error {
	u, err := es.Acquire(id)
	if err != nil {
		return err
	}
	defer u.Release()
	e := u.Value
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
