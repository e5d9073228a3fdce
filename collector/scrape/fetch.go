package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// A scrapeError is a failed scrape with its reason, a value of the metrics' label
// result.
type scrapeError struct {
	reason string
	err    error
}

func (e *scrapeError) Error() string { return e.err.Error() }
func (e *scrapeError) Unwrap() error { return e.err }

// fetch gets a body of up to max bytes, and the answer's header. The body counts as
// memory until release is called, which is never nil.
func fetch(ctx context.Context, client *http.Client, address string, max int64, memory *answerMemory) (body []byte, header http.Header, release func(), err error) {
	release = func() {}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, release, &scrapeError{reasonConnect, err}
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, nil, release, transportError(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, nil, release, &scrapeError{reasonStatus, fmt.Errorf("server answered %s%s", res.Status, firstLine(res.Body))}
	}
	if res.ContentLength > max {
		return nil, nil, release, tooLarge(max)
	}
	body, release, err = memory.read(ctx, io.LimitReader(res.Body, max+1))
	if err != nil {
		return nil, nil, release, transportError(err)
	}
	if int64(len(body)) > max {
		return nil, nil, release, tooLarge(max)
	}
	return body, res.Header, release, nil
}

func tooLarge(max int64) error {
	return &scrapeError{reasonTooLarge, fmt.Errorf("body is larger than %d bytes (body_size_limit)", max)}
}

// transportError distinguishes a timeout from a failed connection. It drops the URL from
// the message, since the caller adds it.
func transportError(err error) error {
	reason := reasonConnect
	if errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err) {
		reason = reasonTimeout
	}
	var inner interface{ Unwrap() error }
	if errors.As(err, &inner) && inner.Unwrap() != nil && strings.HasPrefix(err.Error(), "Get ") {
		err = inner.Unwrap()
	}
	return &scrapeError{reason, err}
}

// firstLine returns ": " and the first line of an error's body, where net/http/pprof
// says, for instance, that profiling is in use already.
func firstLine(r io.Reader) string {
	data, _ := io.ReadAll(io.LimitReader(r, 512))
	line, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
	line = strings.TrimSpace(strings.ToValidUTF8(line, "\uFFFD"))
	if line == "" {
		return ""
	}
	return ": " + line
}

// joinPath joins a prefix and a path that begins with a slash.
func joinPath(prefix, path string) string {
	prefix = strings.TrimRight(prefix, "/")
	if prefix != "" && prefix[0] != '/' {
		prefix = "/" + prefix
	}
	return prefix + path
}
