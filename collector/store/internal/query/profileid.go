package query

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"

	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/scan"
)

// A ProfileID is what the store knows a profile by: the 64-bit xxHash of the ID
// that its sender gave, or a random number. All series of a profile have the same
// one.
type ProfileID uint64

// String returns a UUID of version 8, which has the number in its first bytes and
// ends in zeros.
func (id ProfileID) String() string {
	// 48 bits │ 8 │ 12 bits │ 10 in binary, 4 bits │ 0
	var u uuid.UUID
	binary.BigEndian.PutUint64(u[:], uint64(id))
	binary.BigEndian.PutUint16(u[6:], 0x8000|uint16(id>>4)&0xfff)
	u[8] = 0x80 | byte(id&0xf)
	return u.String()
}

// ParseProfileID reads what String returns, in upper or lower case.
func ParseProfileID(s string) (ProfileID, bool) {
	u, err := uuid.Parse(s)
	if err != nil {
		return 0, false
	}
	id := ProfileID(binary.BigEndian.Uint64(u[:])>>16<<16) | ProfileID(binary.BigEndian.Uint16(u[6:])&0xfff)<<4 | ProfileID(u[8]&0xf)
	return id, strings.EqualFold(id.String(), s)
}

// profileIDs are those that a selection names: each text may be the sender's or
// ProfileID.String's.
func profileIDs(texts []string) map[uint64]bool {
	ids := make(map[uint64]bool, len(texts))
	for _, s := range texts {
		ids[xxhash.Sum64String(s)] = true
		if id, ok := ParseProfileID(s); ok {
			ids[uint64(id)] = true
		}
	}
	return ids
}

// addSpans is mergeJob for the values of the spans and traces that a selection names.
func (s *JobReader) addSpans(j *Job, sel *Selection, to target, b *buffer) (all total, err error) {
	var p rowcodec.PackedSpans
	selected := sel.tagged()
	err = s.eachProfile(j, layout.KindSpans, sel, func(st *JobStream, w scan.Window) error {
		if err := p.Decode(w.Value); err != nil {
			return err
		}
		if !slices.ContainsFunc(p.Tags, func(t rowcodec.Tag) bool { return selected(&t) }) {
			return nil
		}
		return p.Each(st.SampleType, to.Limit(), &b.scratch, func(t *rowcodec.Tag, node uint32, v int64) {
			if selected(t) && (!to.rest || to.Place[node] != 0) {
				to.Add(uint64(node), v)
				all.add(v, 1)
			}
		})
	})
	return all, err
}

// eachProfile visits the rows, or the spans, of a job's single profiles, those that
// the selection names if it names any.
func (s *JobReader) eachProfile(j *Job, kind byte, sel *Selection, fn VisitStream) error {
	lo, hi := sel.Times(j.Epoch)
	var ids map[uint64]bool
	if len(sel.Profiles) > 0 {
		ids = profileIDs(sel.Profiles)
	}
	for i := range j.Streams {
		st := &j.Streams[i]
		from, to := s.Within(st.span, lo, hi)
		if err := s.Profiles(kind, st.ID, from, to, ids, fn.of(st)); err != nil {
			return err
		}
	}
	return nil
}
