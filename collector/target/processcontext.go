package target

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	processcontextv1 "go.opentelemetry.io/proto/otlp/processcontext/v1development"
	"google.golang.org/protobuf/proto"
)

// OpenTelemetry's process context (OTEP 4719): an SDK publishes the attributes of its
// resource in a mapping of memory that has the name OTEL_CTX. A header at its beginning
// says where the encoded attributes are.
const (
	contextSignature = "OTEL_CTX"
	contextVersion   = 2
	contextHeader    = 32 // bytes: signature, version, size, time, address

	maxContext  = 64 << 10 // bytes of encoded attributes
	maxMaps     = 16 << 20 // bytes of /proc/PID/maps, some 150 a mapping
	contextTry  = 3        // while the process writes it
	maxAttrText = 4 * maxLabelValue
)

var errNoContext = errors.New("the process publishes no context")

// processContext reads the attributes that a process publishes.
func (p procfs) processContext(pid int) (resource, error) {
	maps, err := os.Open(p.file(pid, "maps"))
	if err != nil {
		return nil, err
	}
	defer maps.Close()
	addr, err := findContext(io.LimitReader(maps, maxMaps))
	if err != nil {
		return nil, err
	}
	mem, err := os.Open(p.file(pid, "mem"))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	return readContext(mem, addr)
}

// findContext returns the address of the mapping with the context, from the lines of
// /proc/PID/maps: START-END PERMISSIONS OFFSET DEVICE INODE NAME, with the addresses in
// hexadecimal digits.
func findContext(maps io.Reader) (uint64, error) {
	lines := bufio.NewScanner(maps)
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		line := lines.Bytes()
		if !bytes.Contains(line, []byte(contextSignature)) {
			continue
		}
		fields := strings.Fields(string(line))
		if len(fields) < 6 || strings.Contains(fields[1], "x") {
			continue
		}
		switch strings.TrimSuffix(strings.Join(fields[5:], " "), " (deleted)") {
		case "/memfd:OTEL_CTX", "[anon_shmem:OTEL_CTX]", "[anon:OTEL_CTX]":
		default:
			continue
		}
		start, _, _ := strings.Cut(fields[0], "-")
		addr, err := strconv.ParseUint(start, 16, 63)
		if err != nil {
			return 0, fmt.Errorf("mapping %s: %w", fields[0], err)
		}
		return addr, nil
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, errNoContext
}

// readContext reads the context whose header is at an address of a process' memory. The
// process may write it anew meanwhile: then the time in the header changes, and is 0
// while it writes.
func readContext(mem io.ReaderAt, addr uint64) (resource, error) {
	for range contextTry {
		published, size, payload, err := readContextHeader(mem, addr)
		if err != nil {
			return nil, err
		}
		if published == 0 {
			continue
		}
		data := make([]byte, size)
		_, readErr := mem.ReadAt(data, int64(payload))
		after, _, _, err := readContextHeader(mem, addr)
		switch {
		case err != nil:
			return nil, err
		case after != published:
			continue
		case readErr != nil:
			return nil, fmt.Errorf("attributes at %#x: %w", payload, readErr)
		}
		return decodeContext(data)
	}
	return nil, errors.New("the process writes its context again and again")
}

// readContextHeader reads and checks the header: when the context was published, in ns,
// and the size and the address of the encoded attributes.
func readContextHeader(mem io.ReaderAt, addr uint64) (published uint64, size uint32, payload uint64, err error) {
	var b [contextHeader]byte
	if _, err := mem.ReadAt(b[:], int64(addr)); err != nil {
		return 0, 0, 0, fmt.Errorf("header of the context at %#x: %w", addr, err)
	}
	if s := string(b[:8]); s != contextSignature {
		return 0, 0, 0, fmt.Errorf("header of the context: signature %q is not %q", s, contextSignature)
	}
	order := binary.NativeEndian
	if v := order.Uint32(b[8:]); v != contextVersion {
		return 0, 0, 0, fmt.Errorf("header of the context: version %d is not %d", v, contextVersion)
	}
	size, published, payload = order.Uint32(b[12:]), order.Uint64(b[16:]), order.Uint64(b[24:])
	if published != 0 && (size == 0 || size > maxContext) {
		return 0, 0, 0, fmt.Errorf("header of the context: size %d is not within 1 and %d", size, maxContext)
	}
	if published != 0 && payload > 1<<63-1-maxContext {
		return 0, 0, 0, fmt.Errorf("header of the context: address %#x is not in the process' memory", payload)
	}
	return published, size, payload, nil
}

// decodeContext decodes the attributes of a context that are text, numbers or booleans.
func decodeContext(data []byte) (resource, error) {
	var c processcontextv1.ProcessContext
	if err := proto.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("attributes of the context: %w", err)
	}
	r := resource{}
	for _, a := range c.GetResource().GetAttributes() {
		switch v := a.GetValue().GetValue().(type) {
		case *commonv1.AnyValue_StringValue:
			r.add(a.GetKey(), v.StringValue[:min(len(v.StringValue), maxAttrText)])
		case *commonv1.AnyValue_IntValue:
			r.add(a.GetKey(), strconv.FormatInt(v.IntValue, 10))
		case *commonv1.AnyValue_BoolValue:
			r.add(a.GetKey(), strconv.FormatBool(v.BoolValue))
		case *commonv1.AnyValue_DoubleValue:
			r.add(a.GetKey(), strconv.FormatFloat(v.DoubleValue, 'g', -1, 64))
		}
	}
	// What SDKs call a service that has no name.
	if strings.HasPrefix(r[attrService], "unknown_service") {
		delete(r, attrService)
	}
	return r, nil
}
