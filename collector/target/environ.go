package target

import (
	"bytes"
	"net/url"
	"strings"
)

// OpenTelemetry's environment variables that name a service.
const (
	envServiceName = "OTEL_SERVICE_NAME"
	envResource    = "OTEL_RESOURCE_ATTRIBUTES"
)

// serviceFromEnviron returns the service that an environment block, as in
// /proc/PID/environ, names; "" if it names none.
func serviceFromEnviron(block []byte) string {
	return serviceFromEnv(func(name string) string {
		for entry := range bytes.SplitSeq(block, []byte{0}) {
			if value, ok := bytes.CutPrefix(entry, []byte(name+"=")); ok {
				return string(value)
			}
		}
		return ""
	})
}

// serviceFromEnv returns the service that environment variables name.
func serviceFromEnv(get func(name string) string) string {
	if name := strings.TrimSpace(get(envServiceName)); name != "" {
		return name
	}
	return resourceAttribute(get(envResource), "service.name")
}

// resourceAttribute returns the value of a key in a list in the form of W3C Baggage:
// key=value pairs with percent-encoded values, separated by commas. As in
// OpenTelemetry's SDKs, the last of equal keys counts.
func resourceAttribute(list, key string) (value string) {
	for pair := range strings.SplitSeq(list, ",") {
		// Properties of the pair follow a semicolon.
		pair, _, _ = strings.Cut(pair, ";")
		k, v, ok := strings.Cut(pair, "=")
		if !ok || unescaped(strings.TrimSpace(k)) != key {
			continue
		}
		value = strings.TrimSpace(unescaped(strings.TrimSpace(v)))
	}
	return value
}

// unescaped decodes percent-encoding. It returns malformed text unchanged.
func unescaped(s string) string {
	if out, err := url.PathUnescape(s); err == nil {
		return out
	}
	return s
}
