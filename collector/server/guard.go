package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"connectrpc.com/connect"
)

// A web page can make a browser send requests to any address that the browser can reach,
// including this service. Two checks refuse such requests.
//
// The check of origins refuses requests other than GET, HEAD and OPTIONS that a browser
// marks as made by a page of another origin. Other clients do not send these marks and
// are not affected.
//
// The check of hosts is against DNS rebinding: a page of evil.example whose name
// resolves to 127.0.0.1 has the same origin as the service, as far as the browser knows,
// but its requests carry the name evil.example in the header Host.

// protectOrigins wraps a handler with the check of origins. Pages of the trusted
// origins, such as https://profiles.example.com, may send requests.
func (s *Server) protectOrigins(next http.Handler, trusted []string) http.Handler {
	p := http.NewCrossOriginProtection()
	for _, origin := range trusted {
		if err := p.AddTrustedOrigin(origin); err != nil {
			s.options.Logger.Warn("an allowed origin is ignored", "err", err)
		}
	}
	p.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.metrics.guarded.WithLabelValues("origin").Inc()
		refuse(w, r, connect.NewError(connect.CodePermissionDenied, fmt.Errorf(
			"the request was made by a web page of another origin, %.200q, and this service was asked as %.200q; pages of the origins in web.allowed_origins may ask",
			r.Header.Get("Origin"), r.Host)))
	}))
	return p.Handler(next)
}

// CheckOrigin returns an error if an entry of web.allowed_origins is not the origin of a
// web page: a scheme, a host, and a port unless it is the scheme's default, such as
// https://profiles.example.com.
func CheckOrigin(origin string) error {
	if err := http.NewCrossOriginProtection().AddTrustedOrigin(origin); err != nil {
		return fmt.Errorf("%q is not an origin such as https://profiles.example.com: %w", origin, err)
	}
	return nil
}

// localNames are the names that the /etc/hosts files of Linux distributions give to
// loopback addresses. None of them can be registered in DNS.
var localNames = []string{"localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"}

// ProtectHost wraps the handler of a service that listens on an address. Where that is a
// loopback address, requests have to name it in their header Host as localhost, a name
// below .localhost, a loopback IP address or one of the allowed names. An allowed name
// that begins with "*." stands for all names below it, and "*" alone for any. On other
// addresses requests are checked only if there are allowed names, and an IP address is
// always allowed, since DNS rebinding needs a name.
func (s *Server) ProtectHost(next http.Handler, address net.Addr, allowed []string) http.Handler {
	loopback := isLoopback(address)
	if !loopback && len(allowed) == 0 || slices.Contains(allowed, "*") {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isAllowed(r.Host, allowed, loopback) {
			next.ServeHTTP(w, r)
			return
		}
		s.metrics.guarded.WithLabelValues("host").Inc()
		refuse(w, r, connect.NewError(connect.CodePermissionDenied, fmt.Errorf(
			"the request is for the host %.200q, which is not one of this service's names; add the name to web.allowed_hosts, if it is yours", r.Host)))
	})
}

// CheckHost returns an error if an entry of web.allowed_hosts is invalid: it must be a
// URL's host without a port, which may begin with "*.", or "*" alone.
func CheckHost(host string) error {
	name := strings.TrimPrefix(host, "*.")
	if host == "*" || name != "" && hostOf(name) == name && !strings.ContainsAny(name, "*/@ ") {
		return nil
	}
	if u, err := url.Parse(host); err == nil && u.Hostname() != "" {
		return fmt.Errorf("%q is a URL; write %q", host, u.Hostname())
	}
	if name := hostOf(host); name != host && strings.Trim(name, "*") != "" && CheckHost(name) == nil {
		return fmt.Errorf("%q is not written as a lower-case name without a port; write %q", host, name)
	}
	return fmt.Errorf("%q is not the name of a host, such as host.docker.internal", host)
}

// isAllowed reports whether the service answers to a request's Host. A request without
// Host, which HTTP/1.0 allows, does not come from a browser and is allowed.
func isAllowed(host string, allowed []string, loopback bool) bool {
	if host == "" {
		return true
	}
	name := hostOf(host)
	if ip, err := netip.ParseAddr(name); err == nil && (!loopback || ip.Unmap().IsLoopback()) {
		return true
	}
	if slices.Contains(localNames, name) || strings.HasSuffix(name, ".localhost") {
		return true
	}
	return slices.ContainsFunc(allowed, func(a string) bool {
		below, wild := strings.CutPrefix(a, "*")
		return a == name || wild && strings.HasSuffix(name, below)
	})
}

// hostOf returns the host of a Host header in lower case, without port, brackets and the
// dot that ends a fully qualified domain name.
func hostOf(host string) string {
	if name, port, err := net.SplitHostPort(host); err == nil && strings.Trim(port, "0123456789") == "" {
		host = name
	} else if inner, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(inner, "]")
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

func isLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
