package scrape

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

const (
	labelService = "service_name"
	// labelPathPrefix and labelPath are the labels that hold path_prefix and the paths of
	// profiles during relabelling, which may change them per target. %s is the profile's
	// name. A target's profile without a path is not pulled.
	labelPathPrefix = "__profile_path_prefix__"
	labelPath       = "__profile_path_%s__"
)

// discoveredService are the labels of service discovery that give a service its name, if
// neither service_name nor job was set. The first that is there is taken.
var discoveredService = []string{
	"__meta_kubernetes_pod_annotation_resource_opentelemetry_io_service_name",
	"__meta_kubernetes_pod_annotation_pyroscope_io_service_name",
	"__meta_kubernetes_pod_label_app_kubernetes_io_name",
	"__meta_kubernetes_pod_container_name",
	"__meta_docker_container_label_com_docker_compose_service",
	"__meta_docker_container_name",
}

// A target is one address to scrape.
type target struct {
	job        string
	instance   string
	discovered labels.Labels     // before relabelling
	labels     labels.Labels     // of its series, without __name__
	url        url.URL           // without the profile's path
	paths      map[string]string // by name of a profile, below the URL's path
	interval   time.Duration
	timeout    time.Duration
	loops      []*loop
	symbols    map[string]*symbolizer // by URL
	key        string                 // differs if anything differs but discovered and loops

	stop context.CancelFunc // nil before start
	done sync.WaitGroup     // of the running loops
}

// LabelLimits bound the labels of a target's series; 0 means no bound. The names in
// errors are the keys below limits of the configuration file.
type LabelLimits struct {
	MaxLabels, MaxLabelNameBytes, MaxLabelValueBytes int
}

func (l LabelLimits) check(ls labels.Labels) error {
	if n := ls.Len(); l.MaxLabels > 0 && n > l.MaxLabels {
		return fmt.Errorf("%d labels are more than %d (limits.max_labels)", n, l.MaxLabels)
	}
	return ls.Validate(func(pair labels.Label) error {
		switch {
		case !model.UTF8Validation.IsValidLabelName(pair.Name):
			return fmt.Errorf("%q is not a label name", pair.Name)
		case l.MaxLabelNameBytes > 0 && len(pair.Name) > l.MaxLabelNameBytes:
			return fmt.Errorf("a label name of %d bytes is longer than %d (limits.max_label_name_bytes)", len(pair.Name), l.MaxLabelNameBytes)
		case !model.LabelValue(pair.Value).IsValid():
			return fmt.Errorf("value %q of label %s is not UTF-8", pair.Value, pair.Name)
		case l.MaxLabelValueBytes > 0 && len(pair.Value) > l.MaxLabelValueBytes:
			return fmt.Errorf("the value of label %s has %d bytes, more than %d (limits.max_label_value_bytes)", pair.Name, len(pair.Value), l.MaxLabelValueBytes)
		}
		return nil
	})
}

// discoveredLabels sets b to the labels that the rules of relabel_configs see: those of
// the target and its group, and the configuration's as the defaults of others.
func (c *Config) discoveredLabels(b *labels.Builder, target, group model.LabelSet) {
	b.Reset(labels.EmptyLabels())
	for name, value := range group {
		b.Set(string(name), string(value))
	}
	for name, value := range target {
		b.Set(string(name), string(value))
	}
	setDefault(b, model.JobLabel, c.JobName)
	setDefault(b, model.ScrapeIntervalLabel, c.ScrapeInterval.String())
	setDefault(b, model.ScrapeTimeoutLabel, c.ScrapeTimeout.String())
	setDefault(b, model.SchemeLabel, c.Scheme)
	setDefault(b, labelPathPrefix, c.ProfilingConfig.PathPrefix)
	for _, name := range c.ProfilingConfig.enabled() {
		setDefault(b, fmt.Sprintf(labelPath, name), c.ProfilingConfig.pprof(name).Path)
	}
	for name, values := range c.Params {
		if len(values) > 0 {
			setDefault(b, model.ParamLabelPrefix+name, values[0])
		}
	}
}

// setDefault sets a label that is missing.
func setDefault(b *labels.Builder, name, value string) {
	if b.Get(name) == "" {
		b.Set(name, value)
	}
}

// target relabels one target as Prometheus does. It returns nil if the rules drop the
// target.
func (c *Config) target(b *labels.Builder, limits LabelLimits) (*target, error) {
	discovered := b.Labels()
	if !c.RelabelConfigs.Apply(b) {
		return nil, nil
	}
	address := b.Get(model.AddressLabel)
	if address == "" {
		return nil, errors.New("there is no address after relabelling")
	}
	if strings.ContainsAny(address, "/?#@") {
		return nil, fmt.Errorf("%q is not an address of the form host:port", address)
	}
	interval, err := model.ParseDuration(b.Get(model.ScrapeIntervalLabel))
	if err == nil && !isWholeSeconds(time.Duration(interval)) {
		err = fmt.Errorf("%q is not a whole number of seconds from 1s on", b.Get(model.ScrapeIntervalLabel))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", model.ScrapeIntervalLabel, err)
	}
	timeout, err := model.ParseDuration(b.Get(model.ScrapeTimeoutLabel))
	if err != nil || timeout == 0 {
		return nil, fmt.Errorf("%s: %q is not a duration", model.ScrapeTimeoutLabel, b.Get(model.ScrapeTimeoutLabel))
	}
	scheme := b.Get(model.SchemeLabel)
	if scheme != "http" && scheme != "https" {
		return nil, fmt.Errorf("%s: %q is neither http nor https", model.SchemeLabel, scheme)
	}
	paths := map[string]string{}
	for _, e := range c.ProfilingConfig.PprofConfig.entries() {
		label := fmt.Sprintf(labelPath, e.name)
		switch path := b.Get(label); {
		case strings.HasPrefix(path, "/"):
			paths[e.name] = path
		case path != "":
			return nil, fmt.Errorf("%s: %q does not begin with /", label, path)
		}
	}
	if len(paths) == 0 {
		return nil, errors.New("no profile has a path after relabelling")
	}
	setDefault(b, model.InstanceLabel, address)
	setDefault(b, labelService, c.service(b))

	t := &target{
		job:        b.Get(model.JobLabel),
		instance:   b.Get(model.InstanceLabel),
		discovered: discovered,
		interval:   time.Duration(interval),
		timeout:    time.Duration(timeout),
		url:        url.URL{Scheme: scheme, Host: address, Path: b.Get(labelPathPrefix), RawQuery: c.query(b).Encode()},
		paths:      paths,
	}
	b.Range(func(l labels.Label) {
		if strings.HasPrefix(l.Name, model.ReservedLabelPrefix) {
			b.Del(l.Name)
		}
	})
	t.labels = b.Labels()
	if err := limits.check(t.labels); err != nil {
		return nil, err
	}
	t.key = fmt.Sprint(t.url.String(), t.labels, t.interval, t.timeout, paths) // fmt sorts maps
	return t, nil
}

// service returns the name of a target's service if there is no label service_name: the
// label job, if it is not job_name, then discoveredService, then job_name.
func (c *Config) service(b *labels.Builder) string {
	job := b.Get(model.JobLabel)
	if job != "" && job != c.JobName {
		return job
	}
	for _, name := range discoveredService {
		if value := strings.TrimPrefix(b.Get(name), "/"); value != "" { // Docker's names begin with a slash
			return value
		}
	}
	return job
}

// query returns the query of a target's URL: params, whose first values relabelling may
// have changed.
func (c *Config) query(b *labels.Builder) url.Values {
	query := url.Values{}
	for name, values := range c.Params {
		query[name] = append([]string(nil), values...)
	}
	b.Range(func(l labels.Label) {
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

// newLoops makes the loops of the target's profiles, which do not run yet.
func (t *target) newLoops(m *Manager, c *Config, client *http.Client) {
	for _, name := range slices.Sorted(maps.Keys(t.paths)) {
		t.loops = append(t.loops, newLoop(m, c, t, client, name))
	}
}

// start runs the loops until stop is called or ctx ends.
func (t *target) start(ctx context.Context) {
	ctx, t.stop = context.WithCancel(ctx)
	for _, l := range t.loops {
		t.done.Go(func() { l.run(ctx) })
	}
}
