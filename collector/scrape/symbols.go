package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

const (
	// symbolBatch is the number of addresses in one request.
	symbolBatch = 512
	// maxSymbolNames and maxSymbolBytes bound what is known of one target: addresses,
	// and the bytes of their functions' names, each name counted once.
	maxSymbolNames = 256 << 10
	maxSymbolBytes = 16 << 20
	// symbolRetry is how long a target is not asked again after a failure, and
	// symbolRetryAbsent after an answer that it does not name addresses.
	symbolRetry       = time.Minute
	symbolRetryAbsent = 10 * time.Minute
)

// A symbolizer has a target name the addresses of its native profiles, by the protocol
// of gperftools' /pprof/symbol. It is safe for concurrent use: loops of a target share
// it and wait for one another.
//
// It keeps the names of addresses in mapped files as long as the process does not
// change: the mappings of a process stay where they are, and those of the next one are
// elsewhere. Names of other addresses, such as those of just-in-time compiled code, are
// asked for each time.
type symbolizer struct {
	client  *http.Client
	url     url.URL
	timeout time.Duration // of all requests for one profile

	mu     sync.Mutex
	mapped map[symbolMapping]bool              // of the process, if of a file
	known  map[symbolMapping]map[uint64]string // "" for addresses that the target cannot name
	count  int                                 // of known addresses
	text   map[string]string                   // distinct names
	bytes  int                                 // of text
	asked  bool                                // the target said that it names addresses
	again  time.Time                           // before it the target is not asked
}

// A symbolMapping is a file that is mapped into a process.
type symbolMapping struct {
	start, limit, offset uint64
	file, buildID        string
}

// newSymbolizer returns the symbolizer of a loop's target. Loops with the same URL share
// one.
func newSymbolizer(c *Config, t *target, client *http.Client, profileURL url.URL) *symbolizer {
	s := &c.ProfilingConfig.SymbolConfig
	if s.Enabled != nil && !*s.Enabled {
		return nil
	}
	u := profileURL
	if s.Path != "" {
		u.Path = joinPath(t.url.Path, s.Path)
	} else {
		u.Path = path.Join(path.Dir(u.Path), "symbol")
	}
	query := u.Query()
	query.Del("seconds") // makes targets wait
	u.RawQuery = query.Encode()
	key := u.String()
	if t.symbols[key] == nil {
		if t.symbols == nil {
			t.symbols = map[string]*symbolizer{}
		}
		t.symbols[key] = &symbolizer{client: client, url: u, timeout: t.timeout}
	}
	return t.symbols[key]
}

// forget drops all names: the process may be another one.
func (s *symbolizer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}

func (s *symbolizer) clear() {
	s.mapped, s.known, s.text = nil, nil, nil
	s.count, s.bytes, s.asked = 0, 0, false
}

// resolve returns the functions at the addresses of a profile's locations that have
// none. The names are those that are known if it returns an error, which says what
// failed at which URL.
func (s *symbolizer) resolve(ctx context.Context, p *googlev1.Profile) (names map[uint64]string, err error) {
	mappings := symbolMappings(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.follow(mappings)
	names = map[uint64]string{}
	var missing []uint64
	at := map[uint64]symbolMapping{} // of missing addresses
	for _, l := range p.Location {
		if !unnamed(l) {
			continue
		}
		m := mappings[l.MappingId]
		if text, ok := s.known[m][l.Address]; ok {
			if text != "" {
				names[l.Address] = text
			}
			continue
		}
		if _, ok := at[l.Address]; !ok && len(missing) < maxSymbolNames {
			at[l.Address] = m
			missing = append(missing, l.Address)
		}
	}
	if len(missing) == 0 || time.Now().Before(s.again) {
		return names, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.ask(ctx, missing, at, names); err != nil {
		wait := symbolRetry
		if errors.Is(err, errNoSymbols) {
			wait = symbolRetryAbsent
		}
		s.again, s.asked = time.Now().Add(wait), false
		return names, fmt.Errorf("resolve addresses at %s: %w", s.url.Redacted(), err)
	}
	return names, nil
}

// symbolMappings returns the mappings of a profile by ID.
func symbolMappings(p *googlev1.Profile) map[uint64]symbolMapping {
	out := make(map[uint64]symbolMapping, len(p.Mapping))
	for _, m := range p.Mapping {
		// The profile's strings may share memory with its encoding.
		out[m.Id] = symbolMapping{
			m.MemoryStart, m.MemoryLimit, m.FileOffset,
			strings.Clone(p.StringTable[m.Filename]), strings.Clone(p.StringTable[m.BuildId]),
		}
	}
	return out
}

// follow drops all names if a mapping is gone, as those of a process are once it has
// ended. Libraries may have been loaded meanwhile.
func (s *symbolizer) follow(mappings map[uint64]symbolMapping) {
	now := map[symbolMapping]bool{}
	for _, m := range mappings {
		if m.file != "" {
			now[m] = true
		}
	}
	for m := range s.mapped {
		if !now[m] {
			s.clear()
			break
		}
	}
	s.mapped = now
}

// errNoSymbols says that a target does not name addresses.
var errNoSymbols = errors.New("the target does not name addresses")

// ask asks for the names of addresses, in several requests, and adds them to names and to
// what is known.
func (s *symbolizer) ask(ctx context.Context, addresses []uint64, at map[uint64]symbolMapping, names map[uint64]string) error {
	if !s.asked {
		answer, err := s.request(ctx, http.MethodGet, "")
		if err != nil {
			return err
		}
		if n, ok := symbolCount(answer); !ok || n == 0 {
			return fmt.Errorf("%w: the answer to GET is %.80q", errNoSymbols, answer)
		}
		s.asked = true
	}
	for len(addresses) > 0 {
		batch := addresses[:min(len(addresses), symbolBatch)]
		addresses = addresses[len(batch):]
		if s.count+len(batch) > maxSymbolNames {
			return fmt.Errorf("more than %d addresses", maxSymbolNames)
		}
		var body strings.Builder
		wanted := make(map[uint64]bool, len(batch))
		for i, a := range batch {
			if i > 0 {
				body.WriteByte('+')
			}
			body.WriteString("0x" + strconv.FormatUint(a, 16))
			wanted[a] = true
		}
		answer, err := s.request(ctx, http.MethodPost, body.String())
		if err != nil {
			return err
		}
		parseSymbols(answer, func(address uint64, text string) {
			if wanted[address] && text != "" && names[address] == "" {
				if text = s.intern(text); text != "" {
					names[address] = text
				}
			}
		})
		if s.bytes > maxSymbolBytes {
			s.clear()
			return fmt.Errorf("the names have more than %d bytes", maxSymbolBytes)
		}
		for _, a := range batch {
			s.keep(at[a], a, names[a])
		}
	}
	return nil
}

// intern returns one copy of equal names, and "" beyond maxSymbolBytes.
func (s *symbolizer) intern(text string) string {
	if known, ok := s.text[text]; ok {
		return known
	}
	if s.bytes += len(text); s.bytes > maxSymbolBytes {
		return ""
	}
	if s.text == nil {
		s.text = map[string]string{}
	}
	text = strings.Clone(text)
	s.text[text] = text
	return text
}

// keep remembers the name of an address in a mapped file.
func (s *symbolizer) keep(m symbolMapping, address uint64, text string) {
	if m.file == "" {
		return
	}
	if s.known == nil {
		s.known = map[symbolMapping]map[uint64]string{}
	}
	if s.known[m] == nil {
		s.known[m] = map[uint64]string{}
	}
	s.known[m][address] = text
	s.count++
}

// request sends a request and returns its answer.
func (s *symbolizer) request(ctx context.Context, method, body string) ([]byte, error) {
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url.String(), in)
	if err != nil {
		return nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	res, err := s.client.Do(req)
	if err != nil {
		return nil, transportError(err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return nil, fmt.Errorf("%w: server answered %s to %s", errNoSymbols, res.Status, method)
	default:
		return nil, fmt.Errorf("server answered %s%s", res.Status, firstLine(res.Body))
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxSymbolAnswer+1))
	if err != nil {
		return nil, transportError(err)
	}
	if len(answer) > maxSymbolAnswer {
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxSymbolAnswer)
	}
	return answer, nil
}

// resolve returns the functions at a native profile's addresses, as the target names
// them, or else the files of a process on this machine. A target that cannot name them
// costs no profile: what is unknown keeps its address.
func (l *loop) resolve(ctx context.Context, p *googlev1.Profile) map[uint64]string {
	if l.manager.o.Name == nil || !slices.ContainsFunc(p.Location, unnamed) {
		return nil
	}
	names := l.ask(ctx, p)
	if l.manager.o.Local == nil || !slices.ContainsFunc(p.Location, func(at *googlev1.Location) bool { return unnamed(at) && names[at.Address] == "" }) {
		return names
	}
	local := l.manager.o.Local(p)
	if local == nil {
		return names
	}
	if names == nil {
		names = map[uint64]string{}
	}
	for _, at := range p.Location {
		if unnamed(at) && names[at.Address] == "" {
			if name := local(at.Address); name != "" {
				names[at.Address] = name
			}
		}
	}
	return names
}

// unnamed reports whether a location has an address alone.
func unnamed(l *googlev1.Location) bool { return len(l.Line) == 0 && l.Address != 0 }

// ask asks the target for names, and logs once that it has none.
func (l *loop) ask(ctx context.Context, p *googlev1.Profile) map[uint64]string {
	if l.symbols == nil {
		return nil
	}
	names, err := l.symbols.resolve(ctx, p)
	if err == nil {
		l.unresolved = l.unresolved && len(names) == 0
		return names
	}
	log := l.manager.log.With("job", l.target.job, "instance", l.target.instance, "profile", l.name)
	if l.unresolved || errors.Is(err, errNoSymbols) && !l.symbolsWanted {
		log.Debug("the target does not name addresses", "err", err)
	} else {
		log.Warn("the target does not name addresses", "err", err)
	}
	l.unresolved = true
	return names
}

// nameAddresses gives a profile's addresses the functions that resolve has found.
func (l *loop) nameAddresses(p *googlev1.Profile, names map[uint64]string) {
	if p != nil && len(names) > 0 {
		l.manager.o.Name(p, func(address uint64) string { return names[address] })
	}
}
