// Package ingest turns what senders push into profiles: it decompresses and decodes
// pprof, the other formats of Pyroscope's SDKs and OTLP, checks every reference and
// every limit, and reads label sets. Errors name the invalid field and its position.
//
// Receiving bytes is left to collector/server and collector/scrape, and storing profiles
// to collector/store.
package ingest

// Limits bound what is read. 0 means no limit. Error messages use the names of the
// configuration file.
type Limits struct {
	// MaxProfileBytes bounds one profile after decompression.
	MaxProfileBytes int64
	// MaxSamples bounds the samples of one profile. MaxSymbols bounds its types,
	// mappings, locations, lines, functions and strings in total; in formats that have
	// only stacktraces, its functions and the nodes of its call tree.
	MaxSamples, MaxSymbols int
	// MaxStackDepth bounds the locations of one sample.
	MaxStackDepth int
	// MaxSymbolBytes bounds one string of a profile's string table.
	MaxSymbolBytes int
	// MaxLabels bounds the labels of one series or sample; the other two bound the
	// length of a label's name and value.
	MaxLabels, MaxLabelNameBytes, MaxLabelValueBytes int
	// MaxSeries bounds the series that the labels of one profile's samples make.
	MaxSeries int
	// SampleTimes keeps the times of the samples of JFR recordings and OTLP profiles, to
	// 20 ms, in the samples' label profile.LabelSampleTime.
	SampleTimes bool
	// Reserve is called before memory is allocated for a compressed profile, with the
	// bytes that the decompressed part will take when decoded. Its error ends
	// decompression and is wrapped. nil reserves nothing.
	Reserve func(bytes int64) error
	// Report collects what is left out or corrected; it may be nil.
	Report *Report
}

// exceeds reports whether n exceeds a limit. Limit 0 means none.
func exceeds[N ~int | ~int64](n, limit N) bool { return limit > 0 && n > limit }
