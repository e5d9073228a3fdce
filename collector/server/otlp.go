package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/flameline/flameline/collector/ingest"
)

const (
	// otlpService is OpenTelemetry's service to which profiles are exported.
	otlpService   = "opentelemetry.proto.collector.profiles.v1development.ProfilesService"
	otlpProcedure = "/" + otlpService + "/Export"
	// otlpPath is the path to which OTLP's HTTP exporters post.
	otlpPath = "/v1development/profiles"
)

// An otlpMessage is a request as it was sent, or the answer. collector/ingest checks a
// request's bytes before it decodes them.
type otlpMessage struct {
	body []byte
	json bool
	// notes describe, in an answer, what was left out or corrected.
	notes string
}

// An otlpCodec passes on messages without decoding them. Its value is the codec's name.
type otlpCodec string

const (
	otlpProto    otlpCodec = "proto"
	otlpJSON     otlpCodec = "json"
	otlpJSONUTF8 otlpCodec = "json; charset=utf-8"
)

// Name returns the codec's name.
func (c otlpCodec) Name() string { return string(c) }

// Marshal encodes the answer.
func (c otlpCodec) Marshal(m any) ([]byte, error) {
	answer, ok := m.(*otlpMessage)
	if !ok {
		return nil, fmt.Errorf("a message of type %T", m)
	}
	return c.answer(answer.notes), nil
}

// Unmarshal keeps a request's bytes.
func (c otlpCodec) Unmarshal(b []byte, to any) error {
	m, ok := to.(*otlpMessage)
	if !ok {
		return fmt.Errorf("a message of type %T", to)
	}
	m.body, m.json = bytes.Clone(b), c != otlpProto
	return nil
}

// answer returns an encoded ExportProfilesServiceResponse. Notes become the message of
// its partial_success, with 0 rejected profiles: the protocol's way to convey warnings.
func (c otlpCodec) answer(notes string) []byte {
	if notes == "" {
		return c.empty()
	}
	if c == otlpProto {
		partial := protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), notes)
		return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), partial)
	}
	var partial struct {
		PartialSuccess struct {
			ErrorMessage string `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
	partial.PartialSuccess.ErrorMessage = notes
	b, err := json.Marshal(partial)
	if err != nil {
		return c.empty()
	}
	return b
}

// empty returns an encoded message without fields.
func (c otlpCodec) empty() []byte {
	if c == otlpProto {
		return nil
	}
	return []byte("{}")
}

// otlpHandler serves ProfilesService over gRPC, gRPC-web and Connect.
func (p *pusher) otlpHandler(options ...connect.HandlerOption) http.Handler {
	for _, c := range []otlpCodec{otlpProto, otlpJSON, otlpJSONUTF8} {
		options = append(options, connect.WithCodec(c))
	}
	return connect.NewUnaryHandler(otlpProcedure, func(ctx context.Context, req *connect.Request[otlpMessage]) (*connect.Response[otlpMessage], error) {
		resp := connect.NewResponse(&otlpMessage{})
		share, leave, err := p.memory.shareOf(ctx)
		if err != nil {
			p.metrics.refused.Inc()
			return nil, err
		}
		defer leave()
		if resp.Msg.notes, err = p.export(ctx, req.Msg.body, req.Msg.json, share, resp.Header()); err != nil {
			return nil, err
		}
		return resp, nil
	}, options...)
}

// export stores the profiles of one request, all or none. notes say what was left out or
// corrected within a profile; the answer's header gets them too. Its errors have a code.
func (p *pusher) export(ctx context.Context, body []byte, isJSON bool, share *pushShare, header http.Header) (notes string, err error) {
	report := &ingest.Report{}
	l, explain := p.limits.withReport(report).within(p.limits.MaxRequestBytes)
	if l.Reserve, err = share.admit(body); err != nil {
		p.metrics.refused.Inc()
		return "", err
	}
	ps, err := ingest.OTLP(body, isJSON, p.now(), l)
	if err == nil {
		err = p.limits.series(seriesOf(ps))
	}
	for i := range ps {
		if err == nil {
			if err = p.checkTime(ps[i].Pprof.TimeNanos); err != nil {
				err = fmt.Errorf("time_unix_nano: %w", err)
			}
		}
	}
	if err != nil {
		p.metrics.refused.Inc()
		return "", invalidPush(explain(err))
	}
	if len(ps) > 0 {
		if err := p.append(ctx, ps, int64(len(body))); err != nil {
			return "", err
		}
	}
	return p.notes.publish(header, report, ps), nil
}

// otlpHTTPHandler serves OTLP over HTTP, in protobuf or JSON. A panic fails its own
// request only.
func (p *pusher) otlpHTTPHandler(logger *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		began, result := time.Now(), "ok"
		codec := otlpProto
		p.metrics.inFlight.Inc()
		defer func() {
			p.metrics.inFlight.Dec()
			if v := recover(); v != nil {
				err := p.metrics.recovered(logger)(r.Context(), connect.Spec{Procedure: otlpPath}, r.Header, v)
				result = connect.CodeOf(err).String()
				codec.writeStatus(w, 0, err)
			}
			p.metrics.duration.WithLabelValues("Export", result).Observe(time.Since(began).Seconds())
		}()
		status, err := p.serveExport(w, r, &codec)
		if err != nil {
			result = connect.CodeOf(err).String()
			codec.writeStatus(w, status, err)
		}
	}
}

// serveExport answers a valid request, and sets codec to the request's encoding. Its
// errors have a code, and some a status that differs from the code's.
func (p *pusher) serveExport(w http.ResponseWriter, r *http.Request, codec *otlpCodec) (status int, err error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return http.StatusMethodNotAllowed, connect.NewError(connect.CodeUnimplemented, fmt.Errorf("%s: use POST", r.Method))
	}
	switch t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t {
	case "application/x-protobuf", "application/protobuf":
	case "application/json":
		*codec = otlpJSON
	default:
		return http.StatusUnsupportedMediaType, invalid(fmt.Errorf("Content-Type: %.100q is neither application/x-protobuf nor application/json", t))
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
	notes, err := p.export(r.Context(), in.body, *codec != otlpProto, share, w.Header())
	if err != nil {
		return 0, err
	}
	w.Header().Set("Content-Type", codec.contentType())
	_, _ = w.Write(codec.answer(notes)) // a client that has closed the connection sends again
	return 0, nil
}

func (c otlpCodec) contentType() string {
	if c == otlpProto {
		return "application/x-protobuf"
	}
	return "application/json"
}

// writeStatus answers with an error as OTLP asks: a google.rpc.Status in the request's
// encoding. If httpStatus is 0, it is that of the error's code.
func (c otlpCodec) writeStatus(w http.ResponseWriter, httpStatus int, err error) {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		ce = connect.NewError(connect.CodeInternal, err)
	}
	s := &status.Status{Code: int32(ce.Code()), Message: ce.Message()}
	encode := proto.Marshal
	if c != otlpProto {
		encode = protojson.Marshal
	}
	body, err := encode(s)
	if err != nil { // the message is not UTF-8
		body = c.empty()
	}
	if httpStatus == 0 {
		httpStatus = statusOf(ce.Code())
	}
	setRetryAfter(w.Header(), ce)
	w.Header().Set("Content-Type", c.contentType())
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(httpStatus)
	_, _ = w.Write(body)
}
