package plugin

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/query"
)

// DefaultMinStep is the interval at which Pyroscope's SDKs and scrapers send profiles.
// Flameline's own eBPF source sends every 5 s.
const DefaultMinStep = 15 * time.Second

// Settings are the data source's settings other than those that Grafana's SDK reads
// itself, which are authentication and TLS.
type Settings struct {
	URL     string
	MinStep time.Duration
}

// ParseSettings reads and checks the settings.
func ParseSettings(s backend.DataSourceInstanceSettings) (Settings, error) {
	set := Settings{URL: strings.TrimRight(strings.TrimSpace(s.URL), "/"), MinStep: DefaultMinStep}
	if set.URL == "" {
		return Settings{}, client.Invalidf("URL", "the data source has no address; enter one such as http://localhost:4040")
	}
	u, err := url.Parse(set.URL)
	if err != nil {
		return Settings{}, client.Invalidf("URL", "%w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return Settings{}, client.Invalidf("URL", "%q is not of the form http://host:port", s.URL)
	}
	var options struct {
		MinStep string `json:"minStep"`
	}
	if len(s.JSONData) > 0 {
		if err := json.Unmarshal(s.JSONData, &options); err != nil {
			return Settings{}, client.Invalidf("jsonData", "%w", err)
		}
	}
	switch d, err := query.ParseStep(options.MinStep); {
	case err != nil:
		return Settings{}, client.Invalidf("minStep", "%q is not a duration such as 15s", options.MinStep)
	case d > 0:
		set.MinStep = d
	}
	return set, nil
}
