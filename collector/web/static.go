package web

import (
	"bytes"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

// contentTypes are the content types of the page's files. The system's table is not
// used, since it differs between machines.
var contentTypes = map[string]string{
	".html":  "text/html; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".css":   "text/css; charset=utf-8",
	".json":  "application/json; charset=utf-8",
	".map":   "application/json; charset=utf-8",
	".txt":   "text/plain; charset=utf-8",
	".svg":   "image/svg+xml; charset=utf-8",
	".png":   "image/png",
	".ico":   "image/x-icon",
	".woff2": "font/woff2",
}

const notBuilt = `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Flameline</title>
<p>This binary was built without its page. Build it, then the binary again:
<pre>npm ci && npm run build:page && go build -o bin/flameline ./collector</pre>
<p>Everything else works: Grafana and Pyroscope's clients can use this address.
</html>
`

// staticHandler serves the page's files. Names under assets/ contain a hash of the
// content, so browsers may keep those files without asking again.
func staticHandler(files fs.FS) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
		if name == "" {
			name = "index.html"
		}
		content, err := fs.ReadFile(files, name)
		switch {
		case err != nil && name == "index.html":
			w.Header().Set("Content-Type", contentTypes[".html"])
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(notBuilt))
			return
		case err != nil || path.Base(name) == ".gitkeep":
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", contentType(name))
		w.Header().Set("X-Content-Type-Options", "nosniff")
		switch {
		case strings.HasPrefix(name, "assets/"):
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		case name == "index.html":
			w.Header().Set("Cache-Control", "no-cache")
		default:
			w.Header().Set("Cache-Control", "public, max-age=86400")
		}
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	})
}

func contentType(name string) string {
	ext := path.Ext(name)
	if t, ok := contentTypes[ext]; ok {
		return t
	}
	if t := mime.TypeByExtension(ext); t != "" {
		return t
	}
	return "application/octet-stream"
}
