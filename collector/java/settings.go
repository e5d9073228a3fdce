package java

import (
	"fmt"
	"strings"
	"time"
)

// flightSettings returns the settings file for the flight recorder of a JDK: samples of
// allocations, at most 150 per second, and contended monitors. JDKs before 16 have no
// samples of allocations; there each new buffer of a thread (TLAB) is recorded.
func flightSettings(jdk int, lockThreshold time.Duration, allocRate int) []byte {
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<configuration version=\"2.0\" label=\"Flameline\">\n")
	event := func(name string, settings ...string) {
		fmt.Fprintf(&b, "  <event name=%q>\n    <setting name=\"enabled\">true</setting>\n    <setting name=\"stackTrace\">true</setting>\n", name)
		for i := 0; i+1 < len(settings); i += 2 {
			fmt.Fprintf(&b, "    <setting name=%q>%s</setting>\n", settings[i], settings[i+1])
		}
		b.WriteString("  </event>\n")
	}
	event("jdk.ActiveSetting")
	if jdk >= 16 {
		event("jdk.ObjectAllocationSample", "throttle", fmt.Sprintf("%d/s", allocRate))
	} else {
		event("jdk.ObjectAllocationInNewTLAB")
		event("jdk.ObjectAllocationOutsideTLAB")
	}
	event("jdk.JavaMonitorEnter", "threshold", fmt.Sprintf("%d us", lockThreshold.Microseconds()))
	b.WriteString("</configuration>\n")
	return []byte(b.String())
}
