package server

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"

	"connectrpc.com/connect"
	"github.com/klauspost/compress/gzhttp"
	"github.com/klauspost/compress/gzip"
)

// A download is an answer outside of Connect, ready to be written.
type download struct {
	contentType string
	// file is the name under which a browser saves the answer, "" for an answer that is
	// not to be saved.
	file string
	// compressed says that write writes compressed data, so that HTTP compression is of
	// no use.
	compressed bool
	write      func(io.Writer) error
}

// downloads serves GET requests with the answer that a function gives for their
// parameters. It counts and queues them as queries over Connect. Errors have Connect's
// JSON form: {"code": "invalid_argument", "message": "..."}.
func (s *Server) downloads(method string, queries queryLimiter, answer func(context.Context, url.Values) (*download, error)) http.Handler {
	zip, err := gzhttp.NewWrapper(gzhttp.CompressionLevel(gzip.BestSpeed), gzhttp.MinSize(1024))
	if err != nil {
		panic(err) // the options are constants
	}
	logger := s.options.Logger
	return zip(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var d *download
		err := s.metrics.measure(logger, method, func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = s.metrics.recovered(logger)(r.Context(), connect.Spec{Procedure: method}, r.Header, p)
				}
			}()
			params, err := url.ParseQuery(r.URL.RawQuery)
			if err != nil {
				return invalid(fmt.Errorf("the URL's parameters: %w", err))
			}
			release, err := queries.acquire(r.Context())
			if err != nil {
				return err
			}
			defer release()
			d, err = answer(r.Context(), params)
			return err
		})
		if err != nil {
			_ = connect.NewErrorWriter().Write(w, r, err)
			return
		}
		h := w.Header()
		h.Set("Content-Type", d.contentType)
		h.Set("X-Content-Type-Options", "nosniff")
		if d.file != "" {
			h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": d.file}))
		}
		if d.compressed {
			h.Set(gzhttp.HeaderNoCompression, "1")
		}
		if err := d.write(w); err != nil {
			logger.Debug("an answer was not read to its end", "procedure", method, "err", err)
		}
	}))
}
