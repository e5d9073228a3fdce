package dataset

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
)

// manifest is the file that lists a folder's profiles, a JSON object a line.
const manifest = "manifest.jsonl"

// entry is one line of the manifest.
type entry struct {
	File     string            `json:"file"` // below the folder: pprof, compressed with gzip
	Labels   map[string]string `json:"labels"`
	OffsetMs int64             `json:"offset_ms"` // from the start of the set
	RawBytes int64             `json:"raw_bytes"` // uncompressed; 0 if it is not known
}

// Read returns the profiles that the manifest of a folder lists. Only the
// manifest is read now; a profile that cannot be read, or is of another size
// than the manifest says, is an error when its bytes are asked for.
func Read(dir string) (*Set, error) {
	path := filepath.Join(dir, manifest)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read data set: %w", err)
	}
	defer f.Close()
	s := &Set{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		p, err := e.profile(dir)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		s.Profiles = append(s.Profiles, p)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(s.Profiles) == 0 {
		return nil, fmt.Errorf("%s lists no profiles", path)
	}
	slices.SortStableFunc(s.Profiles, byOffset)
	last := s.Profiles[len(s.Profiles)-1].Offset
	s.Length = last.Truncate(time.Minute) + time.Minute
	s.Origin = fmt.Sprintf("%d profiles from a folder: services: %d, minutes: %d",
		len(s.Profiles), len(s.Services()), s.Length/time.Minute)
	return s, nil
}

func (e entry) profile(dir string) (Profile, error) {
	switch {
	case !filepath.IsLocal(e.File):
		return Profile{}, fmt.Errorf("file %q is not below the folder", e.File)
	case e.Labels[labelServiceName] == "":
		return Profile{}, fmt.Errorf("labels have no %s", labelServiceName)
	case e.OffsetMs < 0:
		return Profile{}, errors.New("offset_ms is negative")
	}
	path := filepath.Join(dir, e.File)
	return Profile{
		Labels: pairs(e.Labels),
		Offset: time.Duration(e.OffsetMs) * time.Millisecond,
		load: func() ([]byte, error) {
			b, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("read profile: %w", err)
			}
			raw, err := decompress(b)
			if err != nil {
				return nil, fmt.Errorf("decompress %s: %w", path, err)
			}
			if e.RawBytes != 0 && int64(len(raw)) != e.RawBytes {
				return nil, fmt.Errorf("%s has %d bytes, %s says %d", path, len(raw), manifest, e.RawBytes)
			}
			return raw, nil
		},
	}, nil
}

func byOffset(a, b Profile) int { return cmp.Compare(a.Offset, b.Offset) }

func pairs(m map[string]string) []*typesv1.LabelPair {
	var out []*typesv1.LabelPair
	for name, value := range m {
		out = append(out, &typesv1.LabelPair{Name: name, Value: value})
	}
	slices.SortFunc(out, func(a, b *typesv1.LabelPair) int { return strings.Compare(a.Name, b.Name) })
	return out
}
