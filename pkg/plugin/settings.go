package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/profile"
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
	// DefaultType is the profile type of new queries and of drilldowns; the zero type
	// means CPU time.
	DefaultType profile.Type
	// PrometheusUID is the data source that links of CPU series lead to; "" for no links.
	PrometheusUID string
	LabelMapping  []query.LabelMapping
	Source        SourceTemplate
	Price         query.Price
}

// Bounds of settings.
const (
	maxMappings = 100
	maxCurrency = 8    // characters
	maxTemplate = 2000 // bytes, the length of URL that browsers and servers agree on
)

// defaultCurrency is the currency of a price that names none.
const defaultCurrency = "$"

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
	var options jsonData
	if len(s.JSONData) > 0 {
		err := json.Unmarshal(s.JSONData, &options)
		var kind *json.UnmarshalTypeError
		switch {
		case errors.As(err, &kind) && kind.Field != "":
			return Settings{}, client.Invalidf(kind.Field, "want %s, not %s", kind.Type, kind.Value)
		case err != nil:
			return Settings{}, client.Invalidf("jsonData", "%w", err)
		}
	}
	switch d, err := query.ParseStep(options.MinStep); {
	case err != nil:
		return Settings{}, client.Invalidf("minStep", "%q is not a duration such as 15s", options.MinStep)
	case d > 0:
		set.MinStep = d
	}
	if id := strings.TrimSpace(options.DefaultProfileType); id != "" {
		if set.DefaultType, err = profile.ParseType(id); err != nil {
			return Settings{}, client.Invalidf("defaultProfileType", "%w", err)
		}
	}
	set.PrometheusUID = strings.TrimSpace(options.PrometheusUID)
	if set.LabelMapping, err = checkMapping(options.LabelMapping); err != nil {
		return Settings{}, err
	}
	if set.Source, err = ParseSourceTemplate(options.SourceTemplate); err != nil {
		return Settings{}, err
	}
	set.Price, err = options.price()
	return set, err
}

// jsonData are the data source's own settings as Grafana stores them.
type jsonData struct {
	MinStep            string               `json:"minStep"`
	DefaultProfileType string               `json:"defaultProfileType"`
	PrometheusUID      string               `json:"prometheusUid"`
	LabelMapping       []query.LabelMapping `json:"labelMapping"`
	SourceTemplate     string               `json:"sourceTemplate"`
	CorePrice          float64              `json:"corePrice"`
	Currency           string               `json:"currency"`
}

// checkMapping returns the mapping without entries that are empty on both sides, which
// the editor has while one is being written.
func checkMapping(in []query.LabelMapping) ([]query.LabelMapping, error) {
	if len(in) > maxMappings {
		return nil, client.Invalidf("labelMapping", "%d labels are mapped, more than %d", len(in), maxMappings)
	}
	var out []query.LabelMapping
	for i, m := range in {
		m.Metrics, m.Profiles = strings.TrimSpace(m.Metrics), strings.TrimSpace(m.Profiles)
		switch {
		case m.Metrics == "" && m.Profiles == "":
			continue
		case m.Metrics == "":
			return nil, client.Invalidf(fmt.Sprintf("labelMapping[%d].metrics", i), "is missing; it is the name of a label of metrics")
		case m.Profiles == "":
			return nil, client.Invalidf(fmt.Sprintf("labelMapping[%d].profiles", i), "is missing; it is the name of a label of profiles")
		}
		out = append(out, m)
	}
	return out, nil
}

func (o *jsonData) price() (query.Price, error) {
	if o.CorePrice < 0 || math.IsInf(o.CorePrice, 0) || math.IsNaN(o.CorePrice) {
		return query.Price{}, client.Invalidf("corePrice", "%g is not the price of a core for an hour", o.CorePrice)
	}
	currency := strings.TrimSpace(o.Currency)
	if n := len([]rune(currency)); n > maxCurrency {
		return query.Price{}, client.Invalidf("currency", "it has %d characters, more than %d; enter a symbol such as $ or €", n, maxCurrency)
	}
	if strings.ContainsAny(currency, ":\t\r\n") {
		return query.Price{}, client.Invalidf("currency", "%q is not a symbol such as $ or €", currency)
	}
	if currency == "" {
		currency = defaultCurrency
	}
	return query.Price{CoreHour: o.CorePrice, Currency: currency}, nil
}
