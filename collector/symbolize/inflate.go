package symbolize

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/flameline/flameline/collector/untrusted"
)

const (
	// maxInflatedInMemory bounds the compressed sections that are inflated into
	// memory, for the time of one read, where there is no directory for them.
	maxInflatedInMemory = 16 << 20
	// maxInflatedFile bounds those that are inflated into a file, of one binary.
	maxInflatedFile = 512 << 20
	// inflateStep is how much is inflated between two looks at the time, and
	// bytesPerStep how much of that costs as much as an entry.
	inflateStep  = 1 << 20
	bytesPerStep = 8
	// maxZstdWindow is what compressors use at most if they are not asked for more.
	maxZstdWindow = 8 << 20
)

// Ways in which a section of DWARF may be compressed.
const (
	uncompressed = iota
	compressedELF
	compressedGNU // .zdebug_: "ZLIB" and the size, in big endian, before the data
)

func compression(s *elf.Section) int {
	switch {
	case s.Flags&elf.SHF_COMPRESSED != 0:
		return compressedELF
	case strings.HasPrefix(s.Name, ".zdebug_"):
		return compressedGNU
	}
	return uncompressed
}

// An inflated has the compressed sections of a file, uncompressed: one after the
// other in a file without a name, or in memory. It is closed by whoever dropped
// it and has no reader left. A nil inflated has no sections.
type inflated struct {
	parts map[string]inflatedPart
	size  int64
	file  *os.File // nil: data is used
	data  []byte

	mu      sync.Mutex
	users   int
	dropped bool
}

type inflatedPart struct{ offset, size int64 }

// part returns the content of a section.
func (i *inflated) part(name string) (*io.SectionReader, bool) {
	if i == nil {
		return nil, false
	}
	p, ok := i.parts[name]
	if i.file != nil {
		return io.NewSectionReader(i.file, p.offset, p.size), ok
	}
	return io.NewSectionReader(bytes.NewReader(i.data), p.offset, p.size), ok
}

// use keeps the file open until the function that it returns is called. It
// reports false if the file is dropped already.
func (i *inflated) use() (done func(), ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dropped {
		return nil, false
	}
	i.users++
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.users--
		i.close()
	}, true
}

// drop closes the file once it is not in use.
func (i *inflated) drop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.dropped = true
	i.close()
}

func (i *inflated) close() {
	if i.dropped && i.users == 0 && i.file != nil {
		_ = i.file.Close() // it has no name any more: its blocks are freed
		i.file = nil
	}
}

// A compressedSection is a section that is to be inflated.
type compressedSection struct {
	name string
	size uint64 // uncompressed, as its header says
	open func() (io.ReadCloser, error)
}

// compressedSections returns the compressed sections that lines and inlined
// calls are read from, and the bytes that they have when they are inflated.
func compressedSections(in *untrusted.Reader, f *elf.File) (list []compressedSection, total uint64, err error) {
	seen := map[string]bool{}
	for _, s := range f.Sections {
		name, kind := dwarfSuffix(s), compression(s)
		if !slices.Contains(usedSections, name) || seen[name] {
			continue
		}
		seen[name] = true
		if kind == uncompressed {
			continue
		}
		if err := untrusted.SectionError(s); err != nil {
			return nil, 0, err
		}
		c := compressedSection{name: name}
		if err := c.readHeader(in, f, s, kind); err != nil {
			return nil, 0, fmt.Errorf("section %s: %w", s.Name, err)
		}
		list, total = append(list, c), total+min(c.size, 1<<40)
	}
	return list, total, nil
}

// readHeader reads how a section is compressed, and how large it is otherwise.
func (c *compressedSection) readHeader(in *untrusted.Reader, f *elf.File, s *elf.Section, kind int) error {
	var b [24]byte
	n, err := in.ReadAt(b[:min(uint64(len(b)), s.FileSize)], int64(s.Offset))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	header, algorithm := 12, elf.COMPRESS_ZLIB
	switch {
	case kind == compressedGNU:
		if c.size = binary.BigEndian.Uint64(b[4:]); string(b[:4]) != "ZLIB" {
			return fmt.Errorf("does not begin with ZLIB: %w", untrusted.ErrMalformed)
		}
	case f.Class == elf.ELFCLASS64:
		header, algorithm, c.size = 24, elf.CompressionType(f.ByteOrder.Uint32(b[:])), f.ByteOrder.Uint64(b[8:])
	default:
		algorithm, c.size = elf.CompressionType(f.ByteOrder.Uint32(b[:])), uint64(f.ByteOrder.Uint32(b[4:]))
	}
	if n < header {
		return fmt.Errorf("%d bytes of its header: %w", n, untrusted.ErrMalformed)
	}
	data := io.NewSectionReader(in, int64(s.Offset)+int64(header), int64(s.FileSize)-int64(header))
	switch algorithm {
	case elf.COMPRESS_ZLIB:
		c.open = func() (io.ReadCloser, error) { return zlib.NewReader(data) }
	case elf.COMPRESS_ZSTD:
		c.open = func() (io.ReadCloser, error) {
			z, err := zstd.NewReader(data, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderMaxMemory(maxInflatedFile))
			if err != nil {
				return nil, err
			}
			return z.IOReadCloser(), nil
		}
	default:
		return fmt.Errorf("%v: %w", algorithm, untrusted.ErrMalformed)
	}
	return nil
}

// inflate inflates the compressed sections of a file that are used; nil if there
// are none. dir is where files without a name may be made; "" allows as many
// bytes as memory may hold. room is called before with the bytes that the file
// is going to have.
func inflate(in *untrusted.Reader, f *elf.File, dir string, steps *stepCounter, room func(bytes int64) error) (*inflated, error) {
	list, total, err := compressedSections(in, f)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	out := &inflated{parts: map[string]inflatedPart{}, size: int64(total)}
	if total > maxInflatedFile || dir == "" && total > maxInflatedInMemory {
		most := maxInflatedFile
		if dir == "" {
			most = maxInflatedInMemory
		}
		return nil, fmt.Errorf("compressed sections of DWARF: %d bytes: %w of %d", total, untrusted.ErrTooLarge, most)
	}
	var to io.Writer
	memory := bytes.Buffer{}
	if dir == "" {
		to = &memory
	} else {
		if err := room(out.size); err != nil {
			return nil, err
		}
		if out.file, err = unnamed(dir); err != nil {
			return nil, err
		}
		to = out.file
	}
	offset := int64(0)
	for _, c := range list {
		if err := c.inflate(to, steps); err != nil {
			out.drop()
			return nil, fmt.Errorf("inflate .debug_%s: %w", c.name, err)
		}
		out.parts[c.name] = inflatedPart{offset, int64(c.size)}
		offset += int64(c.size)
	}
	out.data = memory.Bytes()
	return out, nil
}

// inflate writes the section, which must be as large as its header says.
func (c compressedSection) inflate(to io.Writer, steps *stepCounter) error {
	from, err := c.open()
	if err != nil {
		return malformed(err)
	}
	defer from.Close()
	for left := int64(c.size); left > 0; {
		if err := steps.add(inflateStep / bytesPerStep); err != nil {
			return err
		}
		n, err := io.CopyN(to, from, min(left, inflateStep))
		if left -= n; err == nil {
			continue
		}
		if path := (*os.PathError)(nil); errors.As(err, &path) {
			return err // of the file that it is written to
		}
		return fmt.Errorf("%d bytes of %d: %w", int64(c.size)-left, c.size, malformed(err))
	}
	return nil
}

// unnamed makes a file in a directory that is gone once it is closed, and the directory
// where there is none.
func unnamed(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "inflated-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
