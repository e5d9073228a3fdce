package containers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/strutil"
)

// A dockerContainer is the part of an element of GET /containers/json that is read.
type dockerContainer struct {
	ID         string            `json:"Id"`
	Names      []string          `json:"Names"` // with / before each; of links NAME/ALIAS
	Image      string            `json:"Image"`
	Labels     map[string]string `json:"Labels"`
	HostConfig struct {
		NetworkMode string `json:"NetworkMode"`
	} `json:"HostConfig"`
}

// NewDocker returns a Source that asks Docker's Engine API, or Podman's which is
// compatible, at a Unix socket. A socket that does not exist, that nobody listens on, or
// that this process may not use, means that there are no containers, unless it is
// required.
func NewDocker(socket string, required bool, o Options) *Source {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		MaxIdleConns: 1,
	}}
	return newSource("docker", o, func(ctx context.Context) ([]found, error) {
		var list []dockerContainer
		// all: also those that have ended. A version in the path would be refused by
		// servers that do not support it any more.
		err := getJSON(ctx, client, "http://docker/containers/json?all=1", maxBody, &list)
		switch {
		case !required && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ECONNREFUSED)):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", socket, err)
		}
		all := make([]found, 0, len(list))
		for i := range list {
			all = append(all, found{list[i].ID, list[i].labels()})
		}
		return all, nil
	})
}

// labels returns what is known about a container, under the names of Prometheus'
// docker_sd_configs.
func (c *dockerContainer) labels() labels.Labels {
	m := map[string]string{
		"__meta_docker_container_id":           c.ID,
		"__meta_docker_container_name":         c.name(),
		"__meta_docker_container_image":        c.Image,
		"__meta_docker_container_network_mode": c.HostConfig.NetworkMode,
		"__meta_container_runtime":             "docker",
	}
	for name, value := range c.Labels {
		if len(value) <= maxMeta && len(name) <= maxMeta {
			m["__meta_docker_container_label_"+strutil.SanitizeLabelName(name)] = value
		}
	}
	return labels.FromMap(m)
}

// name returns the container's own name, with / before it as Docker has it.
func (c *dockerContainer) name() string {
	for _, name := range c.Names {
		if name = strings.TrimPrefix(name, "/"); name != "" && !strings.Contains(name, "/") {
			return "/" + name
		}
	}
	return ""
}
