package ingest

import "fmt"

// Bounds of a JSON document's parts, as multiples of Limits.MaxSymbols, which bounds the
// objects. Arrays have stacktraces; an object has some names and texts.
const (
	arraysPerSymbol  = 4
	stringsPerSymbol = 8
)

// Memory in bytes that parts of a JSON document take when they are decoded into slices,
// which double as they grow.
const (
	jsonArrayCost  = 2 * 24
	jsonStringCost = 2 * 16
)

// CheckJSON bounds the parts of a JSON document before it is decoded, since {} and [] have
// two bytes and take many times as much, and reserves what they take beyond CostPerByte for
// each byte. An object takes perObject bytes at most.
func CheckJSON(raw []byte, l Limits, perObject int64) error {
	var objects, arrays, strings int
	inString := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			if inString = !inString; inString {
				strings++
			}
		case inString:
			if c == '\\' {
				i++ // what is escaped
			}
		case c == '{':
			objects++
		case c == '[':
			arrays++
		}
	}
	for _, part := range []struct {
		name string
		n    int
		most int
	}{{"objects", objects, 1}, {"arrays", arrays, arraysPerSymbol}, {"strings", strings, stringsPerSymbol}} {
		if most := part.most * l.MaxSymbols; exceeds(part.n, most) {
			times := ""
			if part.most > 1 {
				times = fmt.Sprintf("%d times ", part.most)
			}
			return fmt.Errorf("%d %s are more than %d (%slimits.max_symbols)", part.n, part.name, most, times)
		}
	}
	return reserveBeyond(l, int64(len(raw)), int64(objects)*2*perObject+int64(arrays)*jsonArrayCost+int64(strings)*jsonStringCost)
}

// reserveBeyond reserves what decoding a message of size bytes takes beyond CostPerByte for
// each of them.
func reserveBeyond(l Limits, size, cost int64) error {
	if beyond := cost - size*CostPerByte; l.Reserve != nil && beyond > 0 {
		return l.Reserve(beyond)
	}
	return nil
}
