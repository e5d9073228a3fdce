package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/grafana/grafana-plugin-sdk-go/data"
)

// askPeer asks a Pyroscope server, to which TestPyroscopeAsPeer pushed, queries that need
// more than its API: the result says what is approximate, or the error what they need.
func askPeer(t *testing.T, ds *dataSource, ask func(queryType, profileType, selector string, groupBy ...string) panelQuery) {
	const all = 8 * pushed
	with := func(q panelQuery, fields map[string]any) panelQuery {
		for name, v := range fields {
			q.model[name] = v
		}
		return q
	}
	said := func(t *testing.T, f *data.Frame, wanted ...string) {
		t.Helper()
		var texts []string
		for _, n := range f.Meta.Notices {
			texts = append(texts, n.Text)
		}
		for _, text := range wanted {
			if !strings.Contains(strings.Join(texts, "\n"), text) {
				t.Errorf("no notice has %q: %q", text, texts)
			}
		}
	}
	shop := `{service_name="shop"}`
	cart := map[string]any{"kind": "same", "labelSelector": `{service_name="cart"}`}

	t.Run("options", func(t *testing.T) {
		f := onlyFrame(t, ds, with(ask("profile", cpuType, shop), map[string]any{"view": map[string]any{"focus": "^price$", "reverse": true}}))
		if f.Rows() != 4 || column(t, f, "value").At(1) != int64(all-all/5) {
			t.Errorf("%d rows, the first function has %v; want the root, price and its two callers, and %d", f.Rows(), column(t, f, "value").At(1), all-all/5)
		}
		said(t, f, "Shown are 80 %", "only the largest calls")
	})
	t.Run("first level", func(t *testing.T) {
		f := onlyFrame(t, ds, with(ask("profile", cpuType, "{}"), map[string]any{"view": map[string]any{"groupBy": []string{"service_name"}}}))
		label, value, got := column(t, f, "label"), column(t, f, "value"), map[string]int64{}
		for i := range f.Rows() {
			got[label.Config.TypeConfig.Enum.Text[label.At(i).(data.EnumItemIndex)]] = value.At(i).(int64)
		}
		if got["service_name=shop"] != all || got["service_name=cart"] != all/2 {
			t.Errorf("the first level is %v, want shop with %d and cart with half of it", got, all)
		}
	})
	t.Run("samples", func(t *testing.T) {
		said(t, onlyFrame(t, ds, with(ask("profile", cpuType, shop), map[string]any{"unit": "samples"})), "do not say how many samples")
	})
	t.Run("comparison", func(t *testing.T) {
		f := onlyFrame(t, ds, with(ask("comparison", cpuType, shop), map[string]any{"baseline": cart}))
		if l, r := column(t, f, "value").At(0), column(t, f, "valueRight").At(0); l != int64(all/2) || r != int64(all) {
			t.Errorf("the baseline has %v and the time range %v, want %d and %d", l, r, all/2, all)
		}
	})
	t.Run("functions", func(t *testing.T) {
		f := onlyFrame(t, ds, ask("functions", cpuType, shop))
		if name, own := f.Fields[0].At(0), column(t, f, "Own").At(0); name != "price" || own != float64(all-all/5) {
			t.Errorf("the largest is %v with %v, want price with %d", name, own, all-all/5)
		}
		said(t, f, "no query for functions")
	})
	t.Run("explain", func(t *testing.T) {
		f := onlyFrame(t, ds, with(ask("explain", cpuType, shop), map[string]any{"baseline": cart}))
		said(t, f, "From 30 s to 60 s, a rise of 30 s", "no query for functions")
		if field, _ := f.FieldByName("Change ±"); field != nil {
			t.Error("it has what chance explains, without numbers of samples")
		}
	})
	t.Run("heat map", func(t *testing.T) {
		f := onlyFrame(t, ds, ask("heatmap", cpuType, "{}"))
		if len(f.Fields) != 3 || f.Rows() != 8 {
			t.Fatalf("%d fields and %d rows, want time and two services, 8 steps", len(f.Fields), f.Rows())
		}
		for i := range f.Rows() {
			if low, high := *f.Fields[1].At(i).(*float64), *f.Fields[2].At(i).(*float64); low != 0.25 || high != 0.5 {
				t.Errorf("step %d has %v and %v cores, want 0.25 and 0.5", i, low, high)
			}
		}
	})
	for name, q := range map[string]panelQuery{
		"functions over time": ask("functionSeries", cpuType, shop),
		"heat map by offset":  with(ask("heatmap", cpuType, shop), map[string]any{"heatmap": "offset"}),
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := ds.query(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if a := resp.Responses["A"]; a.Error == nil || a.Status != http.StatusNotImplemented || !strings.Contains(a.Error.Error(), "it needs a Flameline server") {
				t.Errorf("status %d, error %v", a.Status, a.Error)
			}
		})
	}
}
