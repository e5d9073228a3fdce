package debuginfo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxWanted bounds the build IDs that wait, maxMissing those that no server has.
	maxWanted  = 1024
	maxMissing = 16 << 10

	debugSuffix = ".debug"
)

// Options configure a Client; URLs and Dir are required.
type Options struct {
	// URLs are the addresses of debuginfod servers, in the order in which they are asked.
	URLs []string
	HTTP *http.Client // nil is http.DefaultClient
	// Dir has the files, as BUILDID.debug. It is created if it is missing.
	Dir string
	// MaxBytes bounds the size of all files: those that were not opened for longest are
	// removed. 0 is 1 GiB. A file larger than MaxFileBytes is not kept; 0 is 512 MiB.
	MaxBytes, MaxFileBytes int64
	// MinFreeBytes is the free disk space that the store needs; twice as much is kept free.
	MinFreeBytes int64
	// Timeout bounds the time that one server has for one file; 0 is 90 s.
	Timeout time.Duration
	// MissingFor is how long a file that no server has is not asked for again; 0 is one
	// hour. After other errors it is a tenth of that.
	MissingFor time.Duration
	// Arrived is called with the build ID of each file that was fetched.
	Arrived func(buildID string)

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers nothing
}

// A Client fetches debug files from debuginfod servers, one after the other and in the
// background, and keeps them on disk. It is safe for concurrent use and closed by the
// caller.
type Client struct {
	o       Options
	fetches *prometheus.CounterVec
	bytes   prometheus.Gauge
	stop    context.CancelFunc
	done    sync.WaitGroup
	work    chan struct{} // has an element while something may be wanted

	mu      sync.Mutex
	wanted  []string             // build IDs, oldest first; the first is being fetched
	missing map[string]time.Time // until when a build ID is not asked for
}

// NewClient returns a Client. It removes what an interrupted fetch left.
func NewClient(o Options) (*Client, error) {
	o.HTTP = cmp.Or(o.HTTP, http.DefaultClient)
	o.MaxBytes = cmp.Or(o.MaxBytes, 1<<30)
	o.MaxFileBytes = cmp.Or(o.MaxFileBytes, 512<<20)
	o.Timeout = cmp.Or(o.Timeout, 90*time.Second)
	o.MissingFor = cmp.Or(o.MissingFor, time.Hour)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for _, u := range o.URLs {
		if err := CheckURL(u); err != nil {
			return nil, err
		}
	}
	if err := makeDir(o.Dir); err != nil {
		return nil, err
	}
	c := &Client{
		o: o,
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_debuginfod_fetches_total",
			Help: "Debug files that debuginfod servers were asked for, by result (ok, missing, error).",
		}, []string{"result"}),
		bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flameline_debuginfod_cache_bytes", Help: "Size of the debug files that were fetched and are kept.",
		}),
		work:    make(chan struct{}, 1),
		missing: map[string]time.Time{},
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(c.fetches, c.bytes)
	}
	if err := c.trim(); err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, c.stop = context.WithCancel(context.Background())
	c.done.Go(func() { c.run(ctx) })
	return c, nil
}

// CheckURL returns an error unless a server's address is one of HTTP or HTTPS.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%q is not the address of an HTTP server", s)
	}
	return nil
}

// Open opens the file of a build ID, which the caller closes. If the file is not there it
// returns an error that wraps os.ErrNotExist, and fetches the file in the background,
// unless it is known to be missing.
func (c *Client) Open(buildID string) (*os.File, error) {
	id, err := CheckBuildID(buildID)
	if err != nil {
		return nil, err
	}
	name := c.path(id)
	f, err := os.Open(name)
	if err == nil {
		now := time.Now()
		_ = os.Chtimes(name, now, now) // of the last use
		return f, nil
	}
	if errors.Is(err, os.ErrNotExist) {
		c.want(id)
	}
	return nil, err
}

func (c *Client) path(id string) string { return filepath.Join(c.o.Dir, id+debugSuffix) }

// want puts a build ID into the queue.
func (c *Client) want(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.wanted) >= maxWanted || slices.Contains(c.wanted, id) || time.Now().Before(c.missing[id]) {
		return
	}
	c.wanted = append(c.wanted, id)
	select {
	case c.work <- struct{}{}:
	default:
	}
}

// run fetches what is wanted until ctx ends.
func (c *Client) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.work:
		}
		for {
			c.mu.Lock()
			id := ""
			if len(c.wanted) > 0 {
				id = c.wanted[0]
			}
			c.mu.Unlock()
			if id == "" || ctx.Err() != nil {
				break
			}
			c.fetch(ctx, id)
		}
	}
}

// errMissing says that a server does not have a file.
var errMissing = errors.New("not found")

// fetch asks one server after the other.
func (c *Client) fetch(ctx context.Context, id string) {
	err := errMissing
	for _, u := range c.o.URLs {
		e := c.fetchFrom(ctx, u, id)
		if e == nil {
			err = nil
			break
		}
		if !errors.Is(e, errMissing) {
			err = e
			c.o.Logger.Warn("debuginfod: a file could not be fetched", "url", u, "build_id", id, "err", e)
		}
	}
	c.mu.Lock()
	c.wanted = c.wanted[1:]
	now := time.Now()
	if err != nil {
		if len(c.missing) >= maxMissing {
			clear(c.missing)
		}
		wait := c.o.MissingFor
		if !errors.Is(err, errMissing) {
			wait /= 10
		}
		c.missing[id] = now.Add(wait)
	}
	c.mu.Unlock()
	switch {
	case err == nil:
		c.fetches.WithLabelValues("ok").Inc()
		c.o.Logger.Info("debuginfod: debug file fetched", "build_id", id)
		if err := c.trim(); err != nil {
			c.o.Logger.Warn("debuginfod: the cache cannot be trimmed", "err", err)
		}
		if c.o.Arrived != nil {
			c.o.Arrived(id)
		}
	case errors.Is(err, errMissing):
		c.fetches.WithLabelValues("missing").Inc()
	default:
		c.fetches.WithLabelValues("error").Inc()
	}
}

func (c *Client) fetchFrom(ctx context.Context, server, id string) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(server, "/")+"/buildid/"+id+"/debuginfo", nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "flameline")
	resp, err := c.o.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return errMissing
	case resp.StatusCode != http.StatusOK:
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return fmt.Errorf("%s: %.200q", resp.Status, text)
	}
	from := &guarded{Reader: resp.Body, space: space{c.o.Dir, c.o.MinFreeBytes}}
	tmp, _, err := receive(c.o.Dir, id, from, min(c.o.MaxFileBytes, c.o.MaxBytes))
	if err != nil {
		return err
	}
	return os.Rename(tmp, c.path(id))
}

// trim removes the files that were not used for longest until the others are within
// MaxBytes.
func (c *Client) trim() error {
	entries, err := os.ReadDir(c.o.Dir)
	if err != nil {
		return err
	}
	var files []os.FileInfo
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !strings.HasSuffix(e.Name(), debugSuffix) {
			continue
		}
		files = append(files, info)
		total += info.Size()
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		if total <= c.o.MaxBytes {
			break
		}
		if err := os.Remove(filepath.Join(c.o.Dir, f.Name())); err != nil {
			return err
		}
		total -= f.Size()
	}
	c.bytes.Set(float64(total))
	return nil
}

// Close ends what is being fetched. Files that are there can be opened all the same.
func (c *Client) Close() error {
	c.stop()
	c.done.Wait()
	return nil
}
