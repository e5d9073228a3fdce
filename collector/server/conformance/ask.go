package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	q "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// An Answer is what a server said, reduced to what can be compared.
type Answer struct {
	// Code is Connect's error code, empty for success.
	Code string `json:"code,omitempty"`
	// Message is the error's text. Servers word errors differently, so it is not
	// compared.
	Message string `json:"message,omitempty"`
	// Lines are the answer's content, one fact a line. Times are relative to
	// the base time.
	Lines []string `json:"lines,omitempty"`
}

// response returns an empty response of a procedure.
func response(procedure string) proto.Message {
	switch procedure {
	case pushv1connect.PusherServicePushProcedure:
		return &pushv1.PushResponse{}
	case q.QuerierServiceProfileTypesProcedure:
		return &querierv1.ProfileTypesResponse{}
	case q.QuerierServiceLabelValuesProcedure:
		return &typesv1.LabelValuesResponse{}
	case q.QuerierServiceLabelNamesProcedure:
		return &typesv1.LabelNamesResponse{}
	case q.QuerierServiceSeriesProcedure:
		return &querierv1.SeriesResponse{}
	case q.QuerierServiceSelectMergeStacktracesProcedure:
		return &querierv1.SelectMergeStacktracesResponse{}
	case q.QuerierServiceSelectMergeSpanProfileProcedure:
		return &querierv1.SelectMergeSpanProfileResponse{}
	case q.QuerierServiceSelectMergeProfileProcedure:
		return &googlev1.Profile{}
	case q.QuerierServiceSelectSeriesProcedure:
		return &querierv1.SelectSeriesResponse{}
	case q.QuerierServiceSelectHeatmapProcedure:
		return &querierv1.SelectHeatmapResponse{}
	case q.QuerierServiceDiffProcedure:
		return &querierv1.DiffResponse{}
	case q.QuerierServiceAnalyzeQueryProcedure:
		return &querierv1.AnalyzeQueryResponse{}
	case q.QuerierServiceGetProfileStatsProcedure:
		return &typesv1.GetProfileStatsResponse{}
	}
	panic("no response type for " + procedure)
}

// A Response is what a server said, in full: a message, JSON, or the code and
// message of an error.
type Response struct {
	Msg           proto.Message
	JSON          map[string]any // the answer to a call by URL
	Code, Message string
}

// Fetch sends one call to the server at url, as Connect does with JSON.
func Fetch(ctx context.Context, url string, c Call) (Response, error) {
	if c.Exemplars != nil {
		var err error
		if c.Request, err = ofExemplars(ctx, url, c); err != nil {
			return Response{}, fmt.Errorf("%s: %w", c.Name, err)
		}
		if c.Request == nil {
			return Response{Code: "not_found", Message: "the server gives no exemplars"}, nil
		}
	}
	ask, url := post, url+c.Procedure
	if c.Path != "" {
		ask, url = get, url+c.Path
	}
	raw, status, err := ask(ctx, url, c.Request)
	if err != nil {
		return Response{}, fmt.Errorf("%s: %w", c.Name, err)
	}
	if status != http.StatusOK {
		var e struct{ Code, Message string }
		if err := json.Unmarshal(raw, &e); err != nil || e.Code == "" {
			return Response{}, fmt.Errorf("%s: HTTP status %d: %s", c.Name, status, raw)
		}
		return Response{Code: e.Code, Message: e.Message}, nil
	}
	if c.Path != "" {
		var r Response
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&r.JSON); err != nil {
			return Response{}, fmt.Errorf("%s: %w", c.Name, err)
		}
		return r, nil
	}
	resp := response(c.Procedure)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, resp); err != nil {
		return Response{}, fmt.Errorf("%s: %w", c.Name, err)
	}
	return Response{Msg: resp}, nil
}

// Reduce returns the part of a response that can be compared. base is the corpus' base
// time.
func Reduce(c Call, r Response, base int64) (Answer, error) {
	if r.Code != "" {
		return Answer{Code: r.Code, Message: r.Message}, nil
	}
	if r.JSON != nil {
		lines, err := render(r.JSON, base, c.Timeline)
		return Answer{Lines: lines}, err
	}
	lines, err := reduce(r.Msg, base)
	return Answer{Lines: lines}, err
}

// Ask fetches and reduces.
func Ask(ctx context.Context, url string, base int64, c Call) (Answer, error) {
	r, err := Fetch(ctx, url, c)
	if err != nil {
		return Answer{}, err
	}
	a, err := Reduce(c, r, base)
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", c.Name, err)
	}
	return a, nil
}

// Empty reports whether the answer has no content.
func (a Answer) Empty() bool {
	if a.Code != "" {
		return false
	}
	return len(a.Lines) == 0 || slices.ContainsFunc([]string{
		"no flame graph", "an empty profile", "total 0, max self 0",
	}, func(s string) bool { return strings.HasPrefix(a.Lines[0], s) })
}

// Push sends the corpus.
func Push(ctx context.Context, url string, base int64) error {
	for i, req := range Corpus(base) {
		raw, status, err := post(ctx, url+pushv1connect.PusherServicePushProcedure, req)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("push %d of the corpus: HTTP status %d: %s", i, status, raw)
		}
	}
	return nil
}

func post(ctx context.Context, url string, msg proto.Message) ([]byte, int, error) {
	body, err := protojson.Marshal(msg)
	if err != nil {
		return nil, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	return do(req)
}

func get(ctx context.Context, url string, _ proto.Message) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, 0, err
	}
	return do(req)
}

func do(req *http.Request) ([]byte, int, error) {
	// Without it Pyroscope leaves label names beyond ASCII out of its answers.
	req.Header.Set("Accept", "*/*;allow-utf8-labelnames=true")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return bytes.TrimSpace(raw), resp.StatusCode, err
}

// Difference returns how got differs from want, "" if it does not. Error messages are
// not compared.
func Difference(want, got Answer) string {
	if want.Code != got.Code {
		return fmt.Sprintf("code %q (%s) where %q (%s) is due", got.Code, got.Message, want.Code, want.Message)
	}
	var b strings.Builder
	wantLines, gotLines := toSet(want.Lines), toSet(got.Lines)
	for _, l := range want.Lines {
		if gotLines[l] < wantLines[l] {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	for _, l := range got.Lines {
		if wantLines[l] < gotLines[l] {
			fmt.Fprintf(&b, "+ %s\n", l)
		}
	}
	if b.Len() == 0 {
		for i, l := range want.Lines {
			if got.Lines[i] != l {
				return fmt.Sprintf("line %d is %q where %q is due", i, got.Lines[i], l)
			}
		}
	}
	return b.String()
}

func toSet(lines []string) map[string]int {
	m := make(map[string]int, len(lines))
	for _, l := range lines {
		m[l]++
	}
	return m
}
