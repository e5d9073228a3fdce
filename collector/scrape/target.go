package scrape

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

const (
	labelService = "service_name"
	// labelPathPrefix is the label that holds path_prefix during relabelling, which may
	// change it per target.
	labelPathPrefix = "__profile_path_prefix__"
)

// A target is one address to scrape.
type target struct {
	job      string
	instance string
	labels   labels.Labels // of its series, without __name__
	url      url.URL       // without the profile's path
	interval time.Duration
	timeout  time.Duration
	loops    []*loop
	symbols  map[string]*symbolizer // by URL
}

// targets returns the targets of a job after relabelling, without dropped targets and
// duplicates.
func (c *Config) targets() ([]*target, error) {
	var (
		out  []*target
		seen = map[string]bool{}
		lb   = labels.NewBuilder(labels.EmptyLabels())
	)
	for i, group := range c.StaticConfigs {
		for _, discovered := range group.Targets {
			t, err := c.target(lb, discovered, group.Labels)
			if err != nil {
				return nil, fmt.Errorf("static_configs[%d]: target %q: %w", i, discovered[model.AddressLabel], err)
			}
			if t == nil {
				continue
			}
			key := t.url.String() + t.labels.String()
			if !seen[key] {
				seen[key] = true
				out = append(out, t)
			}
		}
	}
	return out, nil
}

// target relabels one target as Prometheus does. It returns nil if the rules drop the
// target.
func (c *Config) target(lb *labels.Builder, discovered, group model.LabelSet) (*target, error) {
	lb.Reset(labels.EmptyLabels())
	for name, value := range group {
		lb.Set(string(name), string(value))
	}
	for name, value := range discovered {
		lb.Set(string(name), string(value))
	}
	byDefault := func(name, value string) {
		if lb.Get(name) == "" {
			lb.Set(name, value)
		}
	}
	byDefault(model.JobLabel, c.JobName)
	byDefault(model.ScrapeIntervalLabel, c.ScrapeInterval.String())
	byDefault(model.ScrapeTimeoutLabel, c.ScrapeTimeout.String())
	byDefault(model.SchemeLabel, c.Scheme)
	byDefault(labelPathPrefix, c.ProfilingConfig.PathPrefix)
	for name, values := range c.Params {
		if len(values) > 0 {
			byDefault(model.ParamLabelPrefix+name, values[0])
		}
	}

	if !c.RelabelConfigs.Apply(lb) {
		return nil, nil
	}

	address := lb.Get(model.AddressLabel)
	if address == "" {
		return nil, errors.New("there is no address after relabelling")
	}
	if strings.ContainsRune(address, '/') {
		return nil, fmt.Errorf("%q is not an address of the form host:port", address)
	}
	interval, err := wholeSeconds(lb.Get(model.ScrapeIntervalLabel))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", model.ScrapeIntervalLabel, err)
	}
	timeout, err := model.ParseDuration(lb.Get(model.ScrapeTimeoutLabel))
	if err != nil || timeout == 0 {
		return nil, fmt.Errorf("%s: %q is not a duration", model.ScrapeTimeoutLabel, lb.Get(model.ScrapeTimeoutLabel))
	}
	scheme := lb.Get(model.SchemeLabel)
	if scheme != "http" && scheme != "https" {
		return nil, fmt.Errorf("%s: %q is neither http nor https", model.SchemeLabel, scheme)
	}
	byDefault(model.InstanceLabel, address)
	byDefault(labelService, lb.Get(model.JobLabel))

	t := &target{
		job:      lb.Get(model.JobLabel),
		instance: lb.Get(model.InstanceLabel),
		interval: interval,
		timeout:  time.Duration(timeout),
		url:      url.URL{Scheme: scheme, Host: address, Path: lb.Get(labelPathPrefix), RawQuery: c.query(lb).Encode()},
	}
	lb.Range(func(l labels.Label) {
		if strings.HasPrefix(l.Name, model.ReservedLabelPrefix) {
			lb.Del(l.Name)
		}
	})
	t.labels = lb.Labels()
	err = t.labels.Validate(func(l labels.Label) error {
		if !model.LabelValue(l.Value).IsValid() {
			return fmt.Errorf("value %q of label %s is not UTF-8", l.Value, l.Name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// query returns the query of a target's URL: params, whose first values relabelling may
// have changed.
func (c *Config) query(lb *labels.Builder) url.Values {
	query := url.Values{}
	for name, values := range c.Params {
		query[name] = append([]string(nil), values...)
	}
	lb.Range(func(l labels.Label) {
		name, ok := strings.CutPrefix(l.Name, model.ParamLabelPrefix)
		switch {
		case !ok:
		case len(query[name]) > 0:
			query[name][0] = l.Value
		default:
			query[name] = []string{l.Value}
		}
	})
	return query
}

func wholeSeconds(s string) (time.Duration, error) {
	d, err := model.ParseDuration(s)
	if err != nil {
		return 0, err
	}
	if d := time.Duration(d); d < time.Second || d%time.Second != 0 {
		return 0, fmt.Errorf("%q is not a whole number of seconds from 1s on", s)
	}
	return time.Duration(d), nil
}
