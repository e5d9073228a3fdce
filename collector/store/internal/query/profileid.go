package query

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

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
	return fmt.Sprintf("%08x-%04x-8%03x-%04x-%012x", uint64(id>>32), uint64(id>>16)&0xffff, uint64(id>>4)&0xfff, 0x8000|uint64(id&0xf)<<8, 0)
}

// ParseProfileID reads what String returns, in upper or lower case.
func ParseProfileID(s string) (ProfileID, bool) {
	var b [16]byte
	digits := strings.ReplaceAll(s, "-", "")
	if len(digits) != 32 {
		return 0, false
	}
	if _, err := hex.Decode(b[:], []byte(digits)); err != nil {
		return 0, false
	}
	id := ProfileID(binary.BigEndian.Uint64(b[:])>>16<<16) | ProfileID(binary.BigEndian.Uint16(b[6:])&0xfff)<<4 | ProfileID(b[8]&0xf)
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
func (s *JobReader) addSpans(j *Job, sel *Selection, to target, b *buffer) (total wide, err error) {
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
				total.add(v, 1)
			}
		})
	})
	return total, err
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
