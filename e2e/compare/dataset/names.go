package dataset

import (
	"math/rand/v2"
	"path"
	"strings"
	"unicode"
)

// Libraries as "package: functions and types", one a line. A type stands for
// its methods. They are named as Go's profiles name them; what calls what here
// is made up, except for the ways in.
const (
	entries = `
net/http: (*conn).serve serverHandler.ServeHTTP (*ServeMux).ServeHTTP HandlerFunc.ServeHTTP
net/http: (*conn).serve serverHandler.ServeHTTP (*timeoutHandler).ServeHTTP.func1
golang.org/x/net/http2: (*serverConn).runHandler serverHandler.ServeHTTP HandlerFunc.ServeHTTP
google.golang.org/grpc: (*Server).serveStreams.func2.1 (*Server).handleStream (*Server).processUnaryRPC
google.golang.org/grpc: (*Server).serveStreams.func2.1 (*Server).handleStream (*Server).processStreamingRPC
golang.org/x/sync/errgroup: (*Group).Go.func1
github.com/segmentio/kafka-go: (*Reader).run (*reader).read
runtime: goexit main`
	clients = `
database/sql: *DB *Conn *Rows *Stmt *Tx
github.com/jackc/pgx/v5: *Conn *Batch *baseRows
github.com/jackc/pgx/v5/pgconn: *PgConn *ResultReader
github.com/redis/go-redis/v9: *Client *baseClient *Pipeline
github.com/segmentio/kafka-go: *Writer *Batch *Conn
net/http: *Client *Transport *persistConn
golang.org/x/net/http2: *Framer *ClientConn *clientStream
google.golang.org/grpc/internal/transport: *http2Client *loopyWriter *controlBuffer
github.com/aws/aws-sdk-go-v2/service/s3: *Client`
	clientMethods = `Query Exec roundTrip send recv readLoop writeLoop flush next withRetry await release`
	encodings     = `
encoding/json: *Decoder *decodeState *encodeState structEncoder mapEncoder
google.golang.org/protobuf/proto: MarshalOptions UnmarshalOptions
google.golang.org/protobuf/internal/impl: *MessageInfo *coderFieldInfo
compress/flate: *compressor *decompressor *huffmanBitWriter
compress/gzip: *Writer *Reader
crypto/tls: *Conn *halfConn
regexp: *Regexp *machine
text/template: *state
fmt: *pp *fmt *ss
log/slog: *commonHandler *TextHandler *handleState
bufio: *Writer *Reader *Scanner
reflect: Value *rtype *MapIter
go.opentelemetry.io/otel/sdk/trace: *tracer *recordingSpan *batchSpanProcessor
github.com/prometheus/client_golang/prometheus: *CounterVec *histogram *metricMap`
	encodingMethods = `Read Write Flush Reset encode decode value array object append scan step`
	leaves          = `
runtime: mallocgc mallocgcSmallScanNoHeader mallocgcTiny newobject makeslice growslice memmove memclrNoHeapPointers memequal mapassign_faststr mapaccess2_faststr scanobject greyobject gcDrain gcAssistAlloc findObject heapSetTypeNoHeader nextFreeFast schedule findRunnable park_m futex epollwait lock2 unlock2 procyield usleep selectgo chansend chanrecv typedmemmove wbBufFlush1 convTstring concatstrings slicebytetostring stringtoslicebyte deferreturn morestack newstack copystack pcvalue funcspdelta duffcopy duffzero asyncPreempt nanotime1 systemstack mcall
internal/runtime/maps: (*Map).getWithoutKeySmallFastStr (*Map).putSlotSmallFastStr (*table).grow (*Iter).Next
internal/runtime/syscall: Syscall6 EpollWait
internal/bytealg: IndexByteString CountString Compare
internal/poll: (*FD).Read (*FD).Write (*fdMutex).rwlock (*fdMutex).rwunlock
sync: (*Mutex).Lock (*Mutex).lockSlow (*Mutex).Unlock (*RWMutex).RLock (*Pool).Get (*Pool).Put (*Once).doSlow
syscall: read write Syscall RawSyscall6
hash/crc32: castagnoliSSE42 update ieeeCLMUL
crypto/internal/fips140/aes/gcm: gcmAesEnc gcmAesDec gcmAesData
crypto/internal/fips140/sha256: blockAVX2
strconv: ParseInt ParseFloat AppendInt FormatFloat eiselLemire64
strings: (*Builder).WriteString Index EqualFold Fields
bytes: (*Buffer).Write (*Buffer).grow IndexByte
sort: insertionSort_func pdqsort_func
unicode/utf8: DecodeRune ValidString RuneCountInString`
)

// libraryFunctions lists the functions of one of the libraries above, with the
// methods that each of its types has.
func libraryFunctions(text, methods string) (out []function) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		pkg, names, _ := strings.Cut(strings.TrimSpace(line), ": ")
		for name := range strings.FieldsSeq(names) {
			isType := methods != "" && !strings.Contains(name, ".")
			if !isType {
				out = append(out, newFunction(pkg, name))
				continue
			}
			if strings.HasPrefix(name, "*") {
				name = "(" + name + ")"
			}
			for method := range strings.FieldsSeq(methods) {
				out = append(out, newFunction(pkg, name+"."+method))
			}
		}
	}
	return out
}

// The words of which a service's own names are made.
const (
	ownPackages = `api auth batch cache config domain events export handler index ledger model notify policy pricing queue rank report repository rules search session storage stream sync validate`
	ownTypes    = `Account Address Basket Candidate Catalog Customer Discount Document Event Feature Inventory Invoice Item Job Key Offer Order Page Partition Payment Plan Price Product Profile Query Quote Record Refund Region Report Route Rule Segment Session Shard Shipment Snapshot Stock Tenant Token User Voucher Window`
	ownSuffixes = `Store Service Handler Cache Loader Index Encoder Repository Reader Writer Pool Matcher`
	ownVerbs    = `Apply Build Check Collect Compute Convert Decode Encode Expand Fetch Filter Find Group Insert Load Lookup Match Merge Normalize Parse Rank Reduce Refresh Resolve Score Select Serialize Sort Split Store Update Validate Visit Walk`
	ownObjects  = `All Batch ByID Entries Fields Group Keys Locked Many Next Page Range Rows Slow Tree Values`
)

// serviceFunctions makes n different functions of a service's own code.
func serviceFunctions(service string, n int, r *rand.Rand) (out []function) {
	word := func(words []string) string { return words[r.IntN(len(words))] }
	packages, types, suffixes := strings.Fields(ownPackages), strings.Fields(ownTypes), strings.Fields(ownSuffixes)
	verbs, objects := strings.Fields(ownVerbs), strings.Fields(ownObjects)
	seen := map[string]bool{}
	for len(out) < n {
		pkg := "github.com/acme/" + service + "/internal/" + word(packages)
		name := word(verbs) + word(objects)
		switch r.IntN(10) {
		case 0, 1: // a function of the package
		case 2:
			name = strings.ToLower(name[:1]) + name[1:] + "[...]"
		default:
			name = "(*" + word(types) + word(suffixes) + ")." + name
		}
		if r.IntN(6) == 0 {
			name += ".func" + string(rune('1'+r.IntN(3)))
		}
		if seen[pkg+name] {
			continue
		}
		seen[pkg+name] = true
		out = append(out, newFunction(pkg, name))
	}
	return out
}

// newFunction names a function as Go's linker does, and a file for it: methods
// of what is called the same are in one.
func newFunction(pkg, name string) function {
	file := path.Base(pkg)
	if rest, ok := strings.CutPrefix(name, "(*"); ok {
		file, _, _ = strings.Cut(rest, ")")
		if i := strings.LastIndexFunc(file, unicode.IsUpper); i > 0 {
			file = file[i:]
		}
	}
	return function{name: pkg + "." + name, file: "/src/" + pkg + "/" + strings.ToLower(file) + ".go"}
}
