package query_test

import (
	"errors"
	"net/url"
	"strconv"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/query"
)

// profiled are the profiles of these tests.
func profiled() *querier {
	return &querier{
		types: []string{"memory:inuse_space:bytes:space:bytes", cpu},
		rows: []labels.Labels{
			labels.FromStrings("service_name", "order-service", "node", "web1", "comm", "order", "pod", "order-1"),
			labels.FromStrings("service_name", "cart", "node", "web2", "comm", "java", "pod", "cart-1"),
		},
	}
}

func ms(d time.Duration) string { return strconv.FormatInt(now.Add(d).UnixMilli(), 10) }

func TestDrilldownMatchesTheAlert(t *testing.T) {
	for _, c := range []struct {
		name, params, selector, notice string
		leftOut                        []string
	}{
		{"labels that profiles have", "service_name=order-service&node=web1", `{service_name="order-service",node="web1"}`, "", nil},
		{
			"unknown labels", "alertname=HighCPU&service_name=order-service&severity=page&team=a%20b",
			`{service_name="order-service"}`,
			`From the alert HighCPU: left out severity (profiles have no such label); left out team (profiles have no such label).`,
			[]string{"severity", "team"},
		},
		{
			"a value without profiles", "service_name=order-service&pod=gone",
			`{service_name="order-service"}`, `From the alert's labels: left out pod="gone" (no profiles under it).`, []string{"pod"},
		},
		{
			"a value without profiles beside the others", "service_name=order-service&pod=cart-1",
			`{service_name="order-service"}`, `From the alert's labels: left out pod="cart-1" (no profiles under it).`, []string{"pod"},
		},
		{"a job that is a service", "job=cart", `{service_name="cart"}`, `From the alert's labels: job is taken as service_name="cart".`, nil},
		{"a job of the operator", "job=shop/cart", `{service_name="cart"}`, `From the alert's labels: job is taken as service_name="cart".`, nil},
		{
			"a job that is none", "job=node", "{}",
			"From the alert's labels: left out job (profiles have no such label).", []string{"job"},
		},
		{
			"the service is known already", "service_name=order-service&job=cart", `{service_name="order-service"}`,
			"From the alert's labels: left out job (profiles have no such label).", []string{"job"},
		},
		{"a node exporter's instance", "instance=web2:9100", `{node="web2"}`, `From the alert's labels: instance is taken as node="web2".`, nil},
		{"nothing", "", "{}", "", nil},
		{"quotes", `service_name=%22%7D%0A`, "{}", `From the alert's labels: left out service_name="\"}\n" (no profiles under it).`, []string{"service_name"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			params, err := url.ParseQuery(c.params)
			require.NoError(t, err)
			d, err := runner(t, profiled()).Drilldown(t.Context(), params)
			require.NoError(t, err)
			require.Equal(t, c.selector, d.LabelSelector)
			require.Equal(t, c.notice, d.Notice)
			require.Equal(t, c.leftOut, d.LeftOut)
			require.Equal(t, cpu, d.ProfileTypeID)
		})
	}
}

func TestDrilldownWindow(t *testing.T) {
	rfc := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }
	seconds := func(d time.Duration) string { return strconv.FormatInt(now.Add(d).Unix(), 10) }
	const pad = 10 * time.Minute
	for _, c := range []struct {
		name     string
		params   url.Values
		from, to string
	}{
		{"resolved", url.Values{"startsAt": {rfc(-3 * time.Hour)}, "endsAt": {rfc(-2 * time.Hour)}}, ms(-3*time.Hour - pad), ms(-2*time.Hour + pad)},
		{"firing in Grafana", url.Values{"startsAt": {rfc(-time.Hour)}, "endsAt": {"0001-01-01T00:00:00Z"}}, ms(-time.Hour - pad), ms(0)},
		{"firing, zero as epoch", url.Values{"startsAt": {seconds(-time.Hour)}, "endsAt": {"0"}}, ms(-time.Hour - pad), ms(0)},
		{"zero time as epoch", url.Values{"startsAt": {seconds(-time.Hour)}, "endsAt": {"-62135596800"}}, ms(-time.Hour - pad), ms(0)},
		{"milliseconds", url.Values{"startsAt": {ms(-time.Hour)}}, ms(-time.Hour - pad), ms(0)},
		{"as Prometheus prints numbers", url.Values{"startsAt": {strconv.FormatFloat(float64(now.Add(-time.Hour).Unix()), 'e', -1, 64)}}, ms(-time.Hour - pad), ms(0)},
		{"ends later than now", url.Values{"startsAt": {rfc(-time.Hour)}, "endsAt": {rfc(time.Hour)}}, ms(-time.Hour - pad), ms(0)},
		{"only its end", url.Values{"endsAt": {rfc(-2 * time.Hour)}}, ms(-3*time.Hour - pad), ms(-2*time.Hour + pad)},
		{"no times", url.Values{}, ms(-time.Hour - pad), ms(0)},
		{"own padding", url.Values{"startsAt": {rfc(-time.Hour)}, "pad": {"1m"}}, ms(-time.Hour - time.Minute), ms(0)},
		{"own range", url.Values{"startsAt": {rfc(-time.Hour)}, "from": {"now-6h"}, "to": {"now"}}, "now-6h", "now"},
		{"own range in other forms", url.Values{"from": {rfc(-6 * time.Hour)}, "to": {seconds(-time.Hour)}}, ms(-6 * time.Hour), ms(-time.Hour)},
		{"relative times", url.Values{"startsAt": {"now-1h"}, "endsAt": {"-30min"}}, ms(-time.Hour - pad), ms(-30*time.Minute + pad)},
		{"a point of a chart", url.Values{"around": {ms(-time.Hour)}}, ms(-time.Hour - time.Minute), ms(-time.Hour + time.Minute)},
		{"a point of a chart, own padding", url.Values{"around": {ms(-time.Hour)}, "pad": {"5m"}}, ms(-time.Hour - 5*time.Minute), ms(-time.Hour + 5*time.Minute)},
		{"the last point of a chart", url.Values{"around": {ms(-time.Second)}}, ms(-61 * time.Second), ms(0)},
		{"seconds with a fraction", url.Values{"startsAt": {seconds(-time.Hour) + ".0"}}, ms(-time.Hour - pad), ms(0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := runner(t, profiled()).Drilldown(t.Context(), c.params)
			require.NoError(t, err)
			require.Equal(t, c.from, d.From)
			require.Equal(t, c.to, d.To)
		})
	}
}

func TestDrilldownErrors(t *testing.T) {
	for field, params := range map[string]url.Values{
		"startsAt":      {"startsAt": {"yesterday"}},
		"endsAt":        {"endsAt": {"2026-13-01T00:00:00Z"}},
		"from":          {"from": {"then"}},
		"to":            {"to": {"now-"}},
		"pad":           {"pad": {"wide"}},
		"around":        {"around": {"noon"}},
		"around: 2026":  {"around": {ms(time.Hour)}},
		"around: give":  {"around": {ms(-time.Hour)}, "startsAt": {ms(-time.Hour)}},
		"profileTypeId": {"profileTypeId": {"cpu"}},
	} {
		_, err := runner(t, profiled()).Drilldown(t.Context(), params)
		require.ErrorContains(t, err, field)
		require.Equal(t, 400, int(client.Status(err)), field)
	}
	q := profiled()
	q.err = connect.NewError(connect.CodeUnavailable, errors.New("starting"))
	_, err := runner(t, q).Drilldown(t.Context(), nil)
	require.Equal(t, 502, int(client.Status(err)))
}

func TestDrilldownProfileType(t *testing.T) {
	const memory, wall = "memory:inuse_space:bytes:space:bytes", "wall:cpu:nanoseconds:wall:nanoseconds"
	for _, c := range []struct {
		types        []string
		params, want string
	}{
		{[]string{memory, cpu}, "", cpu},
		{[]string{memory, wall}, "", wall},
		{[]string{memory}, "", memory},
		{nil, "", cpu},
		{[]string{cpu}, memory, memory},
	} {
		q := profiled()
		q.types = c.types
		d, err := runner(t, q).Drilldown(t.Context(), url.Values{"profileTypeId": {c.params}})
		require.NoError(t, err)
		require.Equal(t, c.want, d.ProfileTypeID)
	}
}

// Labels of the settings' mapping come before those that are known anyway.
func TestDrilldownMapsLabels(t *testing.T) {
	r := runner(t, profiled())
	r.LabelMapping = []query.LabelMapping{{Metrics: "squad", Profiles: "service_name"}, {Metrics: "host", Profiles: "node"}}
	found, err := r.Drilldown(t.Context(), url.Values{"squad": {"cart"}, "host": {"web2"}, "job": {"order-service"}})
	require.NoError(t, err)
	require.Equal(t, `{service_name="cart",node="web2"}`, found.LabelSelector)
	require.Equal(t, []string{"job"}, found.LeftOut)
}

// The type of the settings is used if the server has it.
func TestDrilldownDefaultType(t *testing.T) {
	memory := "memory:inuse_space:bytes:space:bytes"
	for id, want := range map[string]string{memory: memory, "block:delay:nanoseconds::": cpu} {
		r := runner(t, profiled())
		var err error
		r.DefaultType, err = profile.ParseType(id)
		require.NoError(t, err)
		found, err := r.Drilldown(t.Context(), url.Values{})
		require.NoError(t, err)
		require.Equal(t, want, found.ProfileTypeID)
	}
}
