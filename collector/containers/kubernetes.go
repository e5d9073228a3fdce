package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxBody bounds the list of containers, in bytes. The 250 pods that a node may have take
// some 3 MB.
const maxBody = 64 << 20

// NewKubernetes returns a Source that asks a kubelet or an API server for the pods of a
// node. For a kubelet the URL has no path, or that of its list, /pods; for an API server
// it is its address, and node the name of the node. client has the credentials.
func NewKubernetes(client *http.Client, base string, kubelet bool, node string, o Options) (*Source, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not the address of a server: http://HOST:PORT or https://HOST:PORT", base)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	switch {
	case kubelet && u.Path == "":
		u.Path = "/pods"
	case kubelet:
	case node == "":
		return nil, errors.New("the name of the node is missing")
	default:
		u.Path += "/api/v1/pods"
		// Version 0 may be answered from the API server's cache.
		u.RawQuery = url.Values{"fieldSelector": {"spec.nodeName=" + node}, "resourceVersion": {"0"}}.Encode()
	}
	return newSource("kubernetes", o, func(ctx context.Context) ([]found, error) {
		var list podList
		if err := getJSON(ctx, client, u.String(), maxBody, &list); err != nil {
			return nil, err
		}
		var all []found
		for i := range list.Items {
			all = list.Items[i].appendFound(all)
		}
		return all, nil
	}), nil
}

// getJSON reads the answer of a GET request, of at most so many bytes.
func getJSON(ctx context.Context, client *http.Client, address string, most int64, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return fmt.Errorf("GET %s: %s: %s", address, resp.Status, strings.TrimSpace(string(text)))
	}
	body := &io.LimitedReader{R: resp.Body, N: most}
	if err := json.NewDecoder(body).Decode(into); err != nil {
		if body.N <= 0 {
			return fmt.Errorf("GET %s: the answer has more than %d bytes", address, most)
		}
		return fmt.Errorf("GET %s: %w", address, err)
	}
	return nil
}
