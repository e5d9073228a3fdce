package store

import "github.com/flameline/flameline/collector/store/internal/rowcodec"

// A SpanID is an OpenTelemetry span's, of whose 8 bytes the first is the
// highest. 0 is no span.
type SpanID = rowcodec.SpanID

// ParseSpanID reads 16 hexadecimal digits.
var ParseSpanID = rowcodec.ParseSpanID

// A TraceID is an OpenTelemetry trace's. Zeros are no trace.
type TraceID = rowcodec.TraceID

// ParseTraceID reads 32 hexadecimal digits.
var ParseTraceID = rowcodec.ParseTraceID
