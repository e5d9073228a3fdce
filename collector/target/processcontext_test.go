package target

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	processcontextv1 "go.opentelemetry.io/proto/otlp/processcontext/v1development"
	resourcev1 "go.opentelemetry.io/proto/otlp/resource/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

func encodeContext(attributes ...string) []byte {
	c := &processcontextv1.ProcessContext{Resource: &resourcev1.Resource{}}
	for i := 0; i < len(attributes); i += 2 {
		c.Resource.Attributes = append(c.Resource.Attributes, &commonv1.KeyValue{
			Key: attributes[i], Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: attributes[i+1]}},
		})
	}
	data, err := proto.Marshal(c)
	if err != nil {
		panic(err)
	}
	return data
}

// publish makes a test process publish a context as OpenTelemetry's SDKs do, and then,
// after a line of input, another one in the same place.
func publish() {
	in := bufio.NewReader(os.Stdin)
	fmt.Println("ready")
	in.ReadString('\n')
	fd, err := unix.MemfdCreate("OTEL_CTX", 0)
	if err != nil {
		panic(err)
	}
	if err := unix.Ftruncate(fd, 4096); err != nil {
		panic(err)
	}
	header, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	unix.Close(fd)
	var pinned runtime.Pinner
	write := func(published uint64, payload []byte) {
		pinned.Pin(unsafe.SliceData(payload))
		order := binary.NativeEndian
		order.PutUint64(header[16:], 0)
		order.PutUint32(header[8:], contextVersion)
		order.PutUint32(header[12:], uint32(len(payload)))
		order.PutUint64(header[24:], uint64(uintptr(unsafe.Pointer(unsafe.SliceData(payload)))))
		order.PutUint64(header[16:], published)
		copy(header, contextSignature)
	}
	write(1, encodeContext("service.name", "checkout", "service.namespace", "shop", "service.version", "1.4.2", "service.instance.id", "4711"))
	fmt.Println("published")
	in.ReadString('\n')
	write(2, encodeContext("service.name", "unknown_service:go", "deployment.environment.name", "prod"))
	fmt.Println("published again")
	in.ReadString('\n')
}

// TestProcessContext reads what a process publishes about itself after it was first
// seen, and what it publishes then.
func TestProcessContext(t *testing.T) {
	c := start(t, []string{"FLAMELINE_TEST_CONTEXT=1", "OTEL_SERVICE_NAME=environment", "OTEL_RESOURCE_ATTRIBUTES=team=red"}, self(t))
	r := New(Options{})
	require.Equal(t, "environment", r.Labels(c.pid, Hint{}).Get(LabelService))
	// Without the pause after which a process is read again.
	expire := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		e := r.known[c.pid].Value.(*entry)
		e.checked, e.reread = time.Time{}, time.Time{}
	}
	c.send()
	expire()
	raw := r.Raw(c.pid, Hint{})
	for name, want := range map[string]string{
		LabelServiceNamespace: "shop", LabelServiceVersion: "1.4.2", "__meta_otel_service_instance_id": "4711", "__meta_otel_team": "red",
	} {
		require.Equal(t, want, raw.Get(name), name)
	}
	ls := r.Labels(c.pid, Hint{})
	require.Equal(t, "checkout", ls.Get(LabelService))
	require.Equal(t, "shop", ls.Get(LabelServiceNamespace))
	require.Empty(t, ls.Get("__meta_otel_service_instance_id"))
	c.send()
	expire()
	require.Equal(t, "environment", r.Labels(c.pid, Hint{}).Get(LabelService), "an SDK without a configured name")
	require.Equal(t, "prod", r.Raw(c.pid, Hint{}).Get("__meta_otel_deployment_environment_name"))
}

func TestFindContext(t *testing.T) {
	for maps, want := range map[string]uint64{
		"7f12a000-7f12b000 rw-p 00000000 00:01 2051 /memfd:OTEL_CTX (deleted)\n":                        0x7f12a000,
		"1000-2000 r--p 00000000 00:00 0\n7f12a000-7f12b000 r--p 00000000 00:00 0    [anon:OTEL_CTX]\n": 0x7f12a000,
		"7f12a000-7f12b000 rw-p 00000000 00:01 2051 [anon_shmem:OTEL_CTX]":                              0x7f12a000,
		"7f12a000-7f12b000 r-xp 00000000 00:01 2051 /memfd:OTEL_CTX (deleted)\n":                        0, // executable
		"7f12a000-7f12b000 rw-p 00000000 00:01 2051 /tmp/OTEL_CTX\n":                                    0,
		"7f12a000-7f12b000 rw-p 00000000 00:01 2051 /memfd:OTEL_CTX2\n":                                 0,
		"ffffffffffffffff-ffffffffffffffff rw-p 00000000 00:01 2051 /memfd:OTEL_CTX\n":                  0,
		strings.Repeat("x", 100<<10) + " OTEL_CTX\n":                                                    0,
		"": 0,
	} {
		addr, err := findContext(strings.NewReader(maps))
		require.Equal(t, want, addr, maps[:min(len(maps), 100)])
		require.Equal(t, want == 0, err != nil, maps[:min(len(maps), 100)])
	}
}

func contextMemory(version, size uint32, published, payload uint64, data []byte) []byte {
	b := []byte(contextSignature)
	b = binary.NativeEndian.AppendUint32(b, version)
	b = binary.NativeEndian.AppendUint32(b, size)
	b = binary.NativeEndian.AppendUint64(b, published)
	b = binary.NativeEndian.AppendUint64(b, payload)
	return append(b, data...)
}

func TestReadContextMistakes(t *testing.T) {
	data := encodeContext("service.name", "shop")
	n := uint32(len(data))
	for want, mem := range map[string][]byte{
		"":                                               contextMemory(2, n, 1, 32, data),
		"signature \"OTEL_CTY\" is not":                  append([]byte("OTEL_CTY"), contextMemory(2, n, 1, 32, data)[8:]...),
		"version 1 is not 2":                             contextMemory(1, n, 1, 32, data),
		"size 0 is not within":                           contextMemory(2, 0, 1, 32, data),
		"size 65537 is not within":                       contextMemory(2, 65537, 1, 32, data),
		"address 0xffffffffffffffff is not in":           contextMemory(2, n, 1, 1<<64-1, data),
		"attributes at 0x1000: EOF":                      contextMemory(2, n, 1, 0x1000, data),
		"header of the context at 0x0: EOF":              contextMemory(2, n, 1, 32, nil)[:31],
		"the process writes its context again":           contextMemory(2, n, 0, 32, data),
		"attributes of the context: proto: cannot parse": contextMemory(2, 4, 1, 32, []byte("\xff\xff\xff\xff")),
	} {
		r, err := readContext(bytes.NewReader(mem), 0)
		if want == "" {
			require.NoError(t, err)
			require.Equal(t, resource{"service.name": "shop"}, r)
			continue
		}
		require.ErrorContains(t, err, strings.SplitN(want, " cannot", 2)[0])
	}
}

func FuzzContext(f *testing.F) {
	data := encodeContext("service.name", "shop", "a.b", "c")
	f.Add(contextMemory(2, uint32(len(data)), 1, 32, data))
	f.Add(contextMemory(2, 40, 1, 0, nil))
	f.Add([]byte("7f12a000-7f12b000 rw-p 00000000 00:01 2051 /memfd:OTEL_CTX (deleted)\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		findContext(bytes.NewReader(data))
		r, err := readContext(bytes.NewReader(data), 0)
		if err != nil {
			return
		}
		if len(r) > maxAttributes {
			t.Fatalf("%d attributes", len(r))
		}
		for k, v := range r {
			if len(v) > maxAttrText || k == "" {
				t.Fatalf("attribute %q has %d bytes", k, len(v))
			}
		}
	})
}
