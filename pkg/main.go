// Command gpx_flameline is the backend of the Flameline data source. Grafana
// starts it and speaks its plugin protocol with it; everything else is in
// package plugin.
package main

import (
	"os"

	"github.com/grafana/grafana-plugin-sdk-go/backend/datasource"
	"github.com/grafana/grafana-plugin-sdk-go/backend/log"

	"github.com/flameline/flameline/pkg/plugin"
)

func main() {
	plugin.EncodeFrames()
	if err := datasource.Manage(plugin.ID, plugin.NewInstance, datasource.ManageOpts{}); err != nil {
		log.DefaultLogger.Error("plugin stopped", "error", err)
		os.Exit(1)
	}
}
