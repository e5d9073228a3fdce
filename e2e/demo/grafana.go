package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/flameline/flameline/e2e/proc"
)

const (
	pluginID       = "flameline-profiles-datasource"
	grafanaImage   = "grafana/grafana:12.4.0"
	grafanaDefault = "127.0.0.1:3000"
	dashboardPath  = "/d/flameline-cpu"
	// Where Grafana's image has its provisioning and the plugin; the provisioned file
	// of dashboards names the latter.
	provisioningDefault = "/etc/grafana/provisioning"
	pluginDefault       = "/var/lib/grafana/plugins/" + pluginID
)

// startGrafana starts Grafana with the plugin and the dashboard if it can be
// had: GRAFANA_HOME, on PATH, or with docker.
func (d *demo) startGrafana(ctx context.Context) error {
	command, home := findGrafana()
	docker := ""
	if command == nil {
		docker = d.findDocker(ctx)
	}
	if command == nil && docker == "" {
		d.say("no Grafana: set GRAFANA_HOME, put grafana on PATH or start docker to see the dashboard; the built-in page shows profiles without it")
		return nil
	}
	address, err := d.address("Grafana", grafanaDefault)
	if err != nil {
		return err
	}
	replace := []string{}
	if docker == "" {
		replace = []string{pluginDefault, filepath.Join(d.dir, "plugins", pluginID)}
	}
	folder, err := d.provision("grafana", replace...)
	if err != nil {
		return err
	}
	spec := proc.Spec{Name: "grafana", Log: filepath.Join(d.dir, "grafana.log")}
	if docker != "" {
		spec.Args = d.dockerCommand(docker, address, folder)
	} else {
		spec.Args = command
		spec.Dir = home
		plugins, err := d.linkPlugin()
		if err != nil {
			return err
		}
		spec.Env = append(grafanaEnv(address),
			"GF_PATHS_PLUGINS="+plugins,
			"GF_PATHS_PROVISIONING="+folder,
			"GF_PATHS_DATA="+filepath.Join(d.dir, "grafana-data"),
			"GF_PATHS_LOGS="+filepath.Join(d.dir, "grafana-logs"),
		)
	}
	p, err := d.start(spec)
	if err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := p.Await(limit, proc.Answers("http://"+address+"/api/health")); err != nil {
		return err
	}
	d.grafanaURL = "http://" + address
	d.say("Grafana is up: %s", d.grafanaURL)
	return nil
}

// findGrafana returns Grafana's command and its home folder, or nil.
func findGrafana() (command []string, home string) {
	home = os.Getenv("GRAFANA_HOME")
	if absolute, err := filepath.Abs(home); err == nil && home != "" {
		home = absolute // Grafana runs in it
	}
	candidates := []string{filepath.Join(home, "bin", "grafana"), filepath.Join(home, "bin", "grafana-server")}
	if home == "" {
		// Grafana's packages put its files here.
		home = "/usr/share/grafana"
		candidates = nil
		for _, name := range []string{"grafana", "grafana-server"} {
			if path, err := exec.LookPath(name); err == nil {
				candidates = append(candidates, path)
			}
		}
	}
	for _, path := range candidates {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		command = []string{path}
		if filepath.Base(path) == "grafana" {
			command = append(command, "server")
		}
		return append(command, "--homepath", home), home
	}
	return nil, ""
}

// grafanaEnv configures a Grafana that anybody on this machine may use.
func grafanaEnv(address string) []string {
	host, port, err := net.SplitHostPort(address)
	if err != nil { // it is an address that was listened on
		host, port = "127.0.0.1", "3000"
	}
	return []string{
		"GF_SERVER_HTTP_ADDR=" + host,
		"GF_SERVER_HTTP_PORT=" + port,
		"GF_PLUGINS_ALLOW_LOADING_UNSIGNED_PLUGINS=" + pluginID,
		"GF_AUTH_ANONYMOUS_ENABLED=true",
		"GF_AUTH_ANONYMOUS_ORG_ROLE=Admin",
		"GF_AUTH_DISABLE_LOGIN_FORM=true",
		"GF_ANALYTICS_REPORTING_ENABLED=false",
		"GF_ANALYTICS_CHECK_FOR_UPDATES=false",
		"GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES=false",
		"GF_PLUGINS_PREINSTALL_DISABLED=true",
		// Where the provisioned recording rule writes.
		"GF_RECORDING_RULES_ENABLED=true",
		"GF_RECORDING_RULES_DEFAULT_DATASOURCE_UID=prometheus",
	}
}

// linkPlugin returns a folder in which the built plugin stands under its ID.
func (d *demo) linkPlugin() (string, error) {
	plugins := filepath.Join(d.dir, "plugins")
	built, err := filepath.Abs(d.plugin)
	if err == nil {
		err = os.MkdirAll(plugins, 0o755)
	}
	if err == nil {
		err = os.Symlink(built, filepath.Join(plugins, pluginID))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("link plugin: %w", err)
	}
	return plugins, nil
}

// findDocker returns docker if its engine answers.
func (d *demo) findDocker(ctx context.Context) string {
	docker, err := exec.LookPath("docker")
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := exec.CommandContext(ctx, docker, "info").Run(); err != nil {
		return "" // its engine does not run
	}
	return docker
}

// dockerCommand runs Grafana in the host's network, where the services are. It
// stays in the foreground and passes signals on.
func (d *demo) dockerCommand(docker, address, folder string) []string {
	built, err := filepath.Abs(d.plugin)
	if err != nil {
		built = d.plugin
	}
	args := []string{
		docker, "run", "--rm", "--network=host",
		"--name", fmt.Sprintf("flameline-demo-grafana-%d", os.Getpid()),
		"--volume", built + ":" + pluginDefault + ":ro",
		"--volume", folder + ":" + provisioningDefault + ":ro",
	}
	for _, variable := range grafanaEnv(address) {
		args = append(args, "--env", variable)
	}
	return append(args, grafanaImage)
}
