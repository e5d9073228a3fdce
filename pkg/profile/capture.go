package profile

import (
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// LabelCapture is the label of profiles that were sampled on demand beside the usual ones,
// with the capture's ID. Both are of the same time, so no query adds them up: one takes the
// captures if its matchers of this label do not match the empty value, and else the rest.
const LabelCapture = "capture"

// CapturePrefix begins the IDs of captures. Other values of LabelCapture are labels like
// any other.
const CapturePrefix = "cap-"

// maxCaptureID bounds an ID, in bytes.
const maxCaptureID = 64

// IsCaptureID reports whether a text has the form of a capture's ID: the prefix, and letters,
// digits and dashes.
func IsCaptureID(s string) bool {
	rest, ok := strings.CutPrefix(s, CapturePrefix)
	if !ok || rest == "" || len(s) > maxCaptureID {
		return false
	}
	return strings.IndexFunc(rest, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) < 0
}

// WantsCaptures reports whether a query with these matchers is about captures.
func WantsCaptures(ms []*labels.Matcher) bool {
	for _, m := range ms {
		if m.Name == LabelCapture && !m.Matches("") {
			return true
		}
	}
	return false
}
