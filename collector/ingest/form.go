package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
)

// maxParts bounds the parts of a form. SDKs send two.
const maxParts = 16

// ReadForm returns the parts of a multipart/form-data body by name. A name that occurs
// twice is an error.
func ReadForm(contentType string, body []byte) (map[string][]byte, error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, fmt.Errorf("Content-Type: %q: %w", contentType, err)
	}
	if params["boundary"] == "" {
		return nil, fmt.Errorf("Content-Type: %q gives no boundary of the form's parts", contentType)
	}
	r := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	parts := map[string][]byte{}
	for n := 0; ; n++ {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			// mime/multipart does not notice a form that is truncated between parts.
			if !bytes.Contains(body, []byte("--"+params["boundary"]+"--")) {
				return nil, fmt.Errorf("form: is truncated: the closing boundary is missing after %d parts", n)
			}
			return parts, nil
		}
		if err != nil {
			return nil, fmt.Errorf("form: part %d: %w", n, err)
		}
		if n == maxParts {
			return nil, fmt.Errorf("form: more than %d parts", maxParts)
		}
		name := p.FormName()
		b, err := io.ReadAll(p)
		if err != nil {
			return nil, fmt.Errorf("form: part %d, %q: %w", n, name, err)
		}
		if _, ok := parts[name]; ok {
			return nil, fmt.Errorf("form: part %d, %q: occurs twice; send the profiles one by one", n, name)
		}
		parts[name] = b
	}
}
