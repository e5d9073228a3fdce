package sample

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOptions(t *testing.T) {
	good := Options{Appender: appendFunc(nil), Targets: noLabels{}}
	o, err := good.withDefaults()
	require.NoError(t, err)
	require.Equal(t, DefaultFrequency, o.FrequencyHz)
	require.Equal(t, DefaultInterval, o.Interval)
	require.EqualValues(t, 52631578, o.period())

	for want, change := range map[string]func(*Options){
		"no appender":         func(o *Options) { o.Appender = nil },
		"no source of labels": func(o *Options) { o.Targets = nil },
		"frequency -1 Hz":     func(o *Options) { o.FrequencyHz = -1 },
		"frequency 1001 Hz":   func(o *Options) { o.FrequencyHz = 1001 },
		"interval 10ms":       func(o *Options) { o.Interval = 10 * time.Millisecond },
	} {
		o := good
		change(&o)
		_, err := o.withDefaults()
		require.ErrorContains(t, err, want)
	}
}
