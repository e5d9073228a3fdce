package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/pkg/profile"
)

// ingestPath is where Pyroscope's SDKs push to.
const ingestPath = "/ingest"

// A pushed is the body of a request to /ingest: the whole body, or the parts of a
// multipart form.
type pushed struct {
	body  []byte
	parts map[string][]byte // nil if the body is no form
}

// formats are the readers of bodies by the parameter format. size is in bytes after
// decompression.
var formats = map[string]func(in pushed, m ingest.Push, l ingest.Limits) (ps []profile.Profile, size int, err error){
	"pprof":      pushedPprof,
	"jfr":        pushedJFR,
	"groups":     text(ingest.Folded),
	"folded":     text(ingest.Folded),
	"collapsed":  text(ingest.Folded),
	"lines":      text(ingest.Lines),
	"trie":       text(ingest.Trie),
	"tree":       text(ingest.Tree),
	"speedscope": text(ingest.Speedscope),
}

// ownUnits are the formats whose bodies give the units of their values.
var ownUnits = map[string]bool{"pprof": true, "jfr": true, "speedscope": true}

func pushedPprof(in pushed, m ingest.Push, l ingest.Limits) ([]profile.Profile, int, error) {
	if in.parts != nil {
		return ingest.PprofForm(in.parts, m, l)
	}
	return ingest.PushedPprof(in.body, nil, m, l)
}

// pushedJFR reads a recording, or a form that has a recording and the labels of its
// events, as Pyroscope's Java agent sends it.
func pushedJFR(in pushed, m ingest.Push, l ingest.Limits) ([]profile.Profile, int, error) {
	if in.parts == nil {
		return ingest.JFR(in.body, nil, m, l)
	}
	body, ok := in.parts["jfr"]
	if !ok {
		return nil, 0, errors.New("form: the part jfr is missing")
	}
	return ingest.JFR(body, in.parts["labels"], m, l)
}

// text adapts the reader of a format that cannot be sent as a form.
func text(read func([]byte, ingest.Push, ingest.Limits) ([]profile.Profile, int, error)) func(pushed, ingest.Push, ingest.Limits) ([]profile.Profile, int, error) {
	return func(in pushed, m ingest.Push, l ingest.Limits) ([]profile.Profile, int, error) {
		if in.parts != nil {
			return nil, 0, errors.New("Content-Type: this format cannot be sent as a multipart form")
		}
		return read(in.body, m, l)
	}
}

// ingestHandler serves /ingest. A panic fails its own request only.
func (p *pusher) ingestHandler(logger *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				writeError(w, 0, p.metrics.recovered(logger)(r.Context(), connect.Spec{Procedure: ingestPath}, r.Header, v))
			}
		}()
		p.serveIngest(w, r)
	}
}

// serveIngest answers POST /ingest, by which Pyroscope's SDKs push. Like PusherService,
// it stores all of the request or nothing, and answers once that is on disk. The answer
// is empty, or an error in Connect's JSON form.
func (p *pusher) serveIngest(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	p.metrics.inFlight.Inc()
	defer p.metrics.inFlight.Dec()
	status, err := p.ingest(w, r)
	result := "ok"
	if err != nil {
		result = connect.CodeOf(err).String()
		writeError(w, status, err)
	}
	p.metrics.duration.WithLabelValues("Ingest", result).Observe(time.Since(began).Seconds())
}

// ingest stores a request's profiles. status is the HTTP status of an error where it
// differs from the status of the error's code, else 0.
func (p *pusher) ingest(w http.ResponseWriter, r *http.Request) (status int, err error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return http.StatusMethodNotAllowed, connect.NewError(connect.CodeUnimplemented, fmt.Errorf("%s: use POST", r.Method))
	}
	report := &ingest.Report{}
	m, format, err := p.parameters(r, report)
	if err != nil {
		p.metrics.refused.Inc()
		return 0, invalid(err)
	}
	share, err := p.memory.enter(r.Context())
	if err != nil {
		p.metrics.refused.Inc()
		return 0, err
	}
	defer share.leave()
	in, status, err := p.body(w, r, share)
	if err != nil {
		p.metrics.refused.Inc()
		return status, err
	}
	profiles, size, err := p.read(m, format, in, share, report)
	if err != nil {
		p.metrics.refused.Inc()
		return 0, invalidPush(err)
	}
	if len(profiles) > 0 { // a push from an idle program has no profile, and succeeds
		err = p.append(r.Context(), profiles, size)
	}
	if err == nil {
		p.notes.publish(w.Header(), report, profiles)
	}
	return 0, err
}

// read decodes the profiles of a body.
func (p *pusher) read(m ingest.Push, format string, in pushed, share *pushShare, report *ingest.Report) (ps []profile.Profile, size int64, err error) {
	bodies := [][]byte{in.body}
	if in.parts != nil {
		bodies = slices.Collect(maps.Values(in.parts))
	}
	l, explain := p.limits.withReport(report).within(p.limits.MaxRequestBytes)
	if l.Reserve, err = share.admit(bodies...); err != nil {
		return nil, 0, err
	}
	ps, n, err := formats[format](in, m, l)
	if err != nil {
		return nil, 0, explain(err)
	}
	// SDKs send samples and sum with any format.
	if ownUnits[format] && (m.Units != "" && m.Units != "samples" || m.AggregationType == "average") {
		report.Skip("parameter", "units or aggregationType, as the body gives those of its values", 1)
	}
	if err := p.limits.series(seriesOf(ps)); err != nil {
		return nil, 0, err
	}
	for _, one := range ps {
		if err := p.checkTime(one.Pprof.TimeNanos); err != nil {
			return nil, 0, fmt.Errorf("from, or the profile's own time: %w", err)
		}
	}
	return ps, int64(n), nil
}

// body reads the request's body, and undoes its Content-Encoding.
func (p *pusher) body(w http.ResponseWriter, r *http.Request, share *pushShare) (in pushed, status int, err error) {
	most := p.limits.MaxRequestBytes
	if in.body, status, err = readBody(w, r, share, most, keyRequestBytes, nil); err != nil {
		return pushed{}, status, err
	}
	contentType := r.Header.Get("Content-Type")
	isForm := isForm(contentType)
	switch coding := strings.ToLower(r.Header.Get("Content-Encoding")); { // by RFC 9110 in any case
	case coding == "gzip" || coding == "x-gzip" || coding == "zstd" || coding == "deflate" || isForm && (coding == "" || coding == "identity"):
		if in.body, err = ingest.Decompress(in.body, coding, most, share.spend); err != nil {
			if errors.Is(err, ingest.ErrTooLarge) {
				err = fmt.Errorf("the request's body is larger than %d bytes after decompression (limits.max_request_bytes)", most)
			}
			return pushed{}, 0, invalidPush(fmt.Errorf("body: %w", err))
		}
	case coding != "" && coding != "identity":
		return pushed{}, 0, invalid(fmt.Errorf("Content-Encoding: %q is not one of gzip, zstd, deflate, identity", coding))
	}
	if isForm {
		if err := share.spend(2 * int64(len(in.body))); err != nil { // copies of its parts
			return pushed{}, 0, err
		}
		if in.parts, err = ingest.ReadForm(contentType, in.body); err != nil {
			return pushed{}, 0, invalid(err)
		}
		in.body = nil
	}
	return in, 0, nil
}

func isForm(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return t == "multipart/form-data" || err != nil && strings.HasPrefix(strings.ToLower(contentType), "multipart/form-data")
}

// formatOf returns the format of a body: the one that the parameter names, else the one
// that follows from the content type, as in Pyroscope, else folded stacks.
func formatOf(parameter, contentType string) (string, error) {
	switch {
	case parameter != "":
		if _, ok := formats[parameter]; !ok {
			return "", fmt.Errorf("format: %.100q is not one of %s", parameter, strings.Join(slices.Sorted(maps.Keys(formats)), ", "))
		}
		if is, ok := strings.CutPrefix(contentType, "binary/octet-stream+"); ok && formats[is] != nil && is != parameter {
			return "", fmt.Errorf("format: %s, and the Content-Type is %s", parameter, contentType)
		}
		return parameter, nil
	case contentType == "binary/octet-stream+trie":
		return "trie", nil
	case contentType == "binary/octet-stream+tree":
		return "tree", nil
	case isForm(contentType):
		return "pprof", nil
	}
	return "groups", nil
}

// writeError answers with an error in Connect's JSON form. If status is 0, it is that of
// the error's code.
func writeError(w http.ResponseWriter, status int, err error) {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		ce = connect.NewError(connect.CodeInternal, err)
	}
	if status == 0 {
		status = statusOf(ce.Code())
	}
	setRetryAfter(w.Header(), ce)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{ce.Code().String(), ce.Message()})
}

// statusOf returns the HTTP status of a Connect code, by Connect's protocol.
func statusOf(c connect.Code) int {
	switch c {
	case connect.CodeInvalidArgument:
		return http.StatusBadRequest
	case connect.CodePermissionDenied:
		return http.StatusForbidden
	case connect.CodeResourceExhausted:
		return http.StatusTooManyRequests
	case connect.CodeUnavailable:
		return http.StatusServiceUnavailable
	case connect.CodeDeadlineExceeded:
		return http.StatusGatewayTimeout
	case connect.CodeCanceled:
		return 499
	case connect.CodeUnimplemented:
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}
