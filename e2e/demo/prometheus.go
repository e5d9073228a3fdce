package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/flameline/flameline/build"
	"github.com/flameline/flameline/e2e/proc"
)

// startPrometheus starts Prometheus if it can be had.
func (d *demo) startPrometheus(ctx context.Context) error {
	binary := find("PROMETHEUS_BIN", "prometheus")
	if binary == "" {
		binary = d.installPrometheus(ctx)
	}
	if binary == "" {
		d.say("no Prometheus: set PROMETHEUS_BIN or put prometheus on PATH to see metrics beside profiles")
		return nil
	}
	address, err := d.address("Prometheus", "127.0.0.1:9090")
	if err != nil {
		return err
	}
	folder, err := d.provision("prometheus")
	if err != nil {
		return err
	}
	p, err := d.start(proc.Spec{
		Name: "prometheus",
		Args: []string{
			binary,
			"--config.file=" + filepath.Join(folder, "prometheus.yaml"),
			"--storage.tsdb.path=" + filepath.Join(d.dir, "prometheus-data"),
			"--web.listen-address=" + address,
			"--web.enable-remote-write-receiver", // for Grafana's recording rule
			"--log.level=warn",
		},
		Log: filepath.Join(d.dir, "prometheus.log"),
	})
	if err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := p.Await(limit, proc.Answers("http://"+address+"/-/ready")); err != nil {
		return err
	}
	d.prometheusURL = "http://" + address
	d.say("Prometheus scrapes the programs: %s", d.prometheusURL)
	return nil
}

// installPrometheus installs Debian's package where that is possible and
// returns the binary, or "".
func (d *demo) installPrometheus(ctx context.Context) string {
	if !build.CanInstall() {
		return ""
	}
	d.say("installing Prometheus with apt-get")
	if err := build.Install(ctx, "prometheus"); err != nil {
		d.say("installing Prometheus: %v", err)
	}
	return find("PROMETHEUS_BIN", "prometheus")
}
