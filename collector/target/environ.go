package target

import (
	"bytes"
	"net/url"
	"strings"
)

// OpenTelemetry's environment variables that name a service and other attributes of it.
const (
	envServiceName = "OTEL_SERVICE_NAME"
	envResource    = "OTEL_RESOURCE_ATTRIBUTES"
)

// A resource is OpenTelemetry's: attributes of a process by key, such as service.name.
// It has at most maxAttributes.
type resource map[string]string

const (
	attrService   = "service.name"
	attrNamespace = "service.namespace"
	attrVersion   = "service.version"

	maxAttributes = 64
)

// add adds an attribute. As in OpenTelemetry's SDKs, the last of equal keys counts.
func (r resource) add(key, value string) {
	if _, known := r[key]; key != "" && value != "" && (known || len(r) < maxAttributes) {
		r[key] = value
	}
}

// resourceFromEnviron returns the attributes that an environment block, as in
// /proc/PID/environ, gives.
func resourceFromEnviron(block []byte) resource {
	return resourceFromEnv(func(name string) string {
		for entry := range bytes.SplitSeq(block, []byte{0}) {
			if value, ok := bytes.CutPrefix(entry, []byte(name+"=")); ok {
				return string(value)
			}
		}
		return ""
	})
}

// resourceFromEnv returns the attributes that environment variables give: a list in the
// form of W3C Baggage, which has key=value pairs with percent-encoded values, separated
// by commas; and the service's name.
func resourceFromEnv(get func(name string) string) resource {
	r := resource{}
	for pair := range strings.SplitSeq(get(envResource), ",") {
		// Properties of the pair follow a semicolon.
		pair, _, _ = strings.Cut(pair, ";")
		if k, v, ok := strings.Cut(pair, "="); ok {
			r.add(unescaped(strings.TrimSpace(k)), strings.TrimSpace(unescaped(strings.TrimSpace(v))))
		}
	}
	if name := strings.TrimSpace(get(envServiceName)); name != "" {
		r[attrService] = name
	}
	return r
}

// unescaped decodes percent-encoding. It returns malformed text unchanged.
func unescaped(s string) string {
	if out, err := url.PathUnescape(s); err == nil {
		return out
	}
	return s
}
