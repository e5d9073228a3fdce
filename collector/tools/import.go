package tools

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/collector/render"
	"github.com/flameline/flameline/pkg/profile"
)

// ImportOptions are the arguments of `flameline import`.
type ImportOptions struct {
	Read  ReadOptions
	Files []string
	// Server takes the profiles.
	Server *Server
	// Service is the label service_name; "" means each file's name. Labels are others.
	Service string
	Labels  map[string]string
	// From and Until are when the profile was taken, for files that do not say; zero if
	// they are not given.
	From, Until time.Time
	// SampleRate is in samples per second, for files that count samples of CPU time.
	SampleRate int64
	Note       func(string)
	Done       func(string) // told of each file that is stored
}

// Import stores files on a server, each as one push. It ends at the first file that
// cannot be read or that the server refuses; the files before it are stored.
func Import(ctx context.Context, o ImportOptions) error {
	if len(o.Files) > 1 && o.Read.countStdin(o.Files) > 1 {
		return usage("only one of the files can be the standard input")
	}
	for i, name := range o.Files {
		if err := o.push(ctx, name); err != nil {
			if i > 0 {
				return fmt.Errorf("%w; the %d files before it are stored", err, i)
			}
			return err
		}
	}
	return nil
}

func (ReadOptions) countStdin(files []string) (n int) {
	for _, f := range files {
		if f == "-" {
			n++
		}
	}
	return n
}

func (o *ImportOptions) push(ctx context.Context, name string) error {
	in, err := Read(ctx, name, o.Read)
	if err != nil {
		return err
	}
	for _, n := range in.Notes {
		o.Note(in.Name + ": " + n)
	}
	body, format, err := in.body(o.SampleRate)
	if err != nil {
		return fmt.Errorf("%s: %w", in.Name, err)
	}
	service := o.Service
	if service == "" {
		service, _, _ = strings.Cut(in.title(""), ".")
	}
	notes, err := o.Server.push(ctx, body, o.parameters(service, format))
	if err != nil {
		return fmt.Errorf("%s: %w", in.Name, err)
	}
	if notes != "" {
		o.Note(in.Name + ": the server says: " + notes)
	}
	o.Done(fmt.Sprintf("%s: stored as %s", in.Name, service))
	return nil
}

// body returns what is pushed. Formats that the server reads are sent as they are, so
// that the times of recordings are kept; others become pprof.
func (in *Input) body(rate int64) (body []byte, format string, err error) {
	if in.Sides != nil {
		return nil, "", fmt.Errorf("is a comparison of two profiles; import the two files")
	}
	switch {
	case in.pySpy:
		return in.pySpyBody(rate)
	case slices.Contains([]string{pprofFile, jfr, folded, speedscope}, in.Format):
		return in.raw, in.Format, nil
	}
	tree, t, err := in.tree("")
	if err != nil {
		return nil, "", err
	}
	tree = validNames(tree)
	if in.Stacks == nil || !in.Stacks.Periods {
		if t.SampleUnit == "count" { // of samples of CPU time
			if err := scaleTree(tree, int64(time.Second), max(rate, 1)); err != nil {
				return nil, "", err
			}
			t = profile.Type{SampleType: "cpu", SampleUnit: "nanoseconds", PeriodType: "cpu", PeriodUnit: "nanoseconds"}
		}
	} else if t.SampleUnit == "nanoseconds" {
		t = profile.Type{SampleType: "cpu", SampleUnit: "nanoseconds", PeriodType: "cpu", PeriodUnit: "nanoseconds"}
	}
	start, length := spanOf(in.Profiles)
	d := &render.Document{Type: t, Tree: tree, Duration: time.Duration(length)}
	if start > 0 {
		d.Start = time.Unix(0, start)
	}
	var b bytes.Buffer
	if err := render.Write(&b, render.Pprof, d); err != nil {
		return nil, "", err
	}
	return b.Bytes(), pprofFile, nil
}

// pySpyBody returns folded stacks of py-spy as pprof, which has fields for the files and
// lines in py-spy's frames. The number of samples becomes CPU time, as on the server.
func (in *Input) pySpyBody(rate int64) (body []byte, format string, err error) {
	push := ingest.Push{App: "file", Labels: labels.FromStrings("service_name", "file"), SampleRate: rate, PySpy: true}
	ps, _, err := ingest.Folded(in.raw, push, limits)
	if err != nil {
		return nil, "", err
	}
	p := ps[0].Pprof                    // in.Profiles has samples, so this has too
	p.TimeNanos, p.DurationNanos = 0, 0 // the push says
	var b bytes.Buffer
	if err := render.Write(&b, render.Pprof, &render.Document{Pprof: p}); err != nil {
		return nil, "", err
	}
	return b.Bytes(), pprofFile, nil
}

// parameters returns those of a push to /ingest.
func (o *ImportOptions) parameters(service, format string) url.Values {
	app := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./", r) {
			return r
		}
		return '-'
	}, service)
	if app == "" {
		app = "import"
	}
	all := map[string]string{"service_name": service}
	if service == "" {
		all["service_name"] = app
	}
	for k, v := range o.Labels {
		all[k] = v
	}
	if all["service_name"] == app { // the application's name is the service's
		delete(all, "service_name")
	}
	// In these formats what follows the last dot is the profile type.
	if format == folded || format == speedscope && strings.Contains(app, ".") {
		app += ".cpu"
	}
	var labels []string
	for _, k := range sortedKeys(all) {
		labels = append(labels, k+"="+strconv.Quote(all[k]))
	}
	v := url.Values{"name": {app + "{" + strings.Join(labels, ",") + "}"}, "format": {format}, "spyName": {"flameline-import"}}
	if !o.From.IsZero() {
		v.Set("from", strconv.FormatInt(o.From.UnixNano(), 10))
	}
	if !o.Until.IsZero() {
		v.Set("until", strconv.FormatInt(o.Until.UnixNano(), 10))
	}
	if o.SampleRate > 0 {
		v.Set("sampleRate", strconv.FormatInt(o.SampleRate, 10))
	}
	return v
}

// push sends a profile to /ingest, and returns what the server left out or corrected.
func (s *Server) push(ctx context.Context, body []byte, v url.Values) (notes string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/ingest?"+v.Encode(), bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode != http.StatusOK {
		var answer struct{ Message string }
		if json.Unmarshal(text, &answer) != nil || answer.Message == "" {
			answer.Message = string(bytes.TrimSpace(text))
		}
		return "", fmt.Errorf("%s: %s: %s", s.url, resp.Status, answer.Message)
	}
	return resp.Header.Get("Flameline-Notes"), nil
}

// ExportOptions are the arguments of `flameline export`.
type ExportOptions struct {
	Server *Server
	Query  string
	Range  Range
	// Covers is what the profiles are of, if that is not Range.
	Covers Range
	Title  string
	Out    Output
}

// Export writes the profiles of a selector on a server, merged, to a file.
func Export(ctx context.Context, o ExportOptions) error {
	format, err := o.Out.format(render.Folded)
	if err != nil {
		return err
	}
	in, err := o.Server.Query(ctx, o.Query, o.Range)
	if err != nil {
		return err
	}
	if o.Covers.valid() {
		in.setRange(o.Covers)
	}
	d, err := in.document("", format)
	if err != nil {
		return err
	}
	if o.Title != "" {
		d.Title = o.Title
	}
	return o.Out.write(func(w io.Writer) error { return render.Write(w, format, d) })
}

// ParseLabels reads name=value pairs.
func ParseLabels(pairs []string) (map[string]string, error) {
	out := map[string]string{}
	for _, p := range pairs {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return nil, usage("--label: %q is not name=value", p)
		}
		if _, twice := out[name]; twice {
			return nil, usage("--label: %s is given twice", name)
		}
		out[name] = value
	}
	return out, nil
}
