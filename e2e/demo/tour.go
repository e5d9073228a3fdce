package main

import (
	"fmt"
	"slices"
	"time"
)

// printTour prints the addresses and what to look for.
func (d *demo) printTour() {
	start := d.flamelineURL
	if d.grafanaURL != "" && d.prometheusURL != "" {
		start = d.grafanaURL + dashboardPath
	}
	fmt.Printf("\nReady after %.0f s. Open %s\n\n", time.Since(d.began).Seconds(), start)
	fmt.Printf(`The tour, three minutes:
  1. The order service's CPU jumps for a minute every three minutes; the first
     jump begins %s after the start. See it in the chart.
  2. Drag over the jump. The flame graph now shows what ran then, and only then.
  3. Follow the widest path down: handleOrder, validateOrder, regexp.Compile.
     The service compiles a regular expression for every order: that is the line.
  4. Drag over a quiet minute: the same service without regexp.Compile.
`, d.spikeFirst)
	if d.prometheusURL != "" {
		fmt.Printf("  5. The alert HighCPU links to the same place: %s/alerts\n", d.prometheusURL)
	}
	if d.grafanaURL != "" && d.prometheusURL != "" {
		fmt.Print(`     Its link "explain" opens the dashboard Explain a spike, which says what
     grew: validateOrder, regexp.Compile, and their share.
`)
	}
	fmt.Printf("\n  Profiles (built-in page)  %s\n", d.flamelineURL)
	if d.prometheusURL != "" {
		fmt.Printf("  Metrics (Prometheus)      %s\n", d.prometheusURL)
	}
	if d.grafanaURL != "" {
		fmt.Printf("  Dashboard (Grafana)       %s%s\n", d.grafanaURL, dashboardPath)
	}
	fmt.Printf("  Data and logs             %s\n", d.dir)
	fmt.Println("\nCtrl-C stops everything.")
}

// keys returns the sorted keys of a set.
func keys(set map[string]bool) []string {
	var names []string
	for name := range set {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
