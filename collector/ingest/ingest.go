// Package ingest turns what senders push into profiles: it decompresses and
// decodes pprof, the other formats of Pyroscope's SDKs and OTLP, checks every
// reference and every limit, and reads label sets. A refusal names the field at
// fault, and where it stands.
//
// It leaves to others where bytes come from (collector/server,
// collector/scrape) and what becomes of a profile (collector/store).
package ingest

// Limits bound what is read. A zero field is no limit. The names in messages
// are those of the configuration file.
type Limits struct {
	// MaxProfileBytes bounds one profile after decompression.
	MaxProfileBytes int64
	// MaxSamples bounds the samples of one profile, and MaxSymbols its types,
	// mappings, locations, lines, functions and strings together; in formats of
	// stacktraces alone, functions and nodes of the call tree.
	MaxSamples, MaxSymbols int
	// MaxStackDepth bounds the locations of one sample.
	MaxStackDepth int
	// MaxSymbolBytes bounds one string of a profile's string table.
	MaxSymbolBytes int
	// MaxLabels bounds the labels of one series or sample, the other two the
	// length of one label's name and value.
	MaxLabels, MaxLabelNameBytes, MaxLabelValueBytes int
	// MaxSeries bounds the series that the labels of one profile's samples make.
	MaxSeries int
	// Reserve is called before a compressed profile takes memory, in bytes, as it is
	// decompressed, with what it will take once it is decoded. Its errors end that, and
	// are wrapped. nil reserves nothing.
	Reserve func(bytes int64) error
	// Report collects what is left out or corrected on the way; nil if nobody asks.
	Report *Report
}

// exceeds reports whether n is over a limit; limit 0 is none.
func exceeds[N ~int | ~int64](n, limit N) bool { return limit > 0 && n > limit }
