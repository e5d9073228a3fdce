package java

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func TestAnswer(t *testing.T) {
	a, err := readAnswer(iotest.OneByteReader(strings.NewReader("0\nOpenJDK 64-Bit Server VM version 17.0.15+6\nJDK 17.0.15\n")))
	require.NoError(t, err)
	require.Equal(t, 0, a.code)
	require.Equal(t, 17, a.jdk())
	require.Equal(t, 8, answer{text: "OpenJDK 64-Bit Server VM version 25.292-b10\nJDK 8.0_292\n"}.jdk())
	require.Equal(t, 25, answer{text: "x\nJDK 25\n"}.jdk())
	require.Zero(t, answer{text: "Unknown diagnostic command"}.jdk())

	for text, want := range map[string]string{
		"":                             "without an answer",
		"what\n":                       `begins with "what"`,
		strings.Repeat("0", 300<<10):   "more than 262144 bytes",
		strings.Repeat("1", 40) + "\n": "a number is due",
	} {
		_, err := readAnswer(strings.NewReader(text))
		require.ErrorContains(t, err, want)
	}
	for text, want := range map[string]int{"0\n0\n": 0, "0\nreturn code: 200\n": 200, "0\nreturn code: 0": 0} {
		a, err := parseAnswer([]byte(text))
		require.NoError(t, err)
		code, err := a.agentCode()
		require.NoError(t, err)
		require.Equal(t, want, code)
	}
	_, err = answer{code: -1, text: "/x.so was not loaded.\n/x.so: cannot open shared object file\n"}.agentCode()
	require.EqualError(t, err, `the JVM cannot load the library: "/x.so was not loaded. /x.so: cannot open shared object file"`)
}

func TestRecordings(t *testing.T) {
	for text, want := range map[string][]string{
		"No available recordings.\n\nUse jcmd 489 JFR.start to start a recording.\n":            nil,
		"Recording 1: name=flameline maxsize=64.0MB maxage=3m (running)\n":                      {"flameline"},
		"Recording 1: name=shop (running)\n\nRecording 2: name=flameline maxage=1m (running)\n": {"shop", "flameline"},
		"Recording: recording=1 name=\"my shop\" (running)\n":                                   {"my shop"},
		"Recording in another form\n":                                                           {""},
	} {
		require.Equal(t, want, answer{text: text}.recordings(), text)
	}
}

// FuzzAnswer never panics, and quotes one short line of whatever a process sends.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("0\nreturn code: 0\n"))
	f.Add([]byte("-1\nJDK 17\nRecording 1: name=x (running)"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := readAnswer(bytes.NewReader(b))
		if err != nil {
			return
		}
		a.jdk()
		a.recordings()
		_, _ = a.agentCode()
		if q := a.quote(); len(q) > 4*maxTextBytes+2 || strings.ContainsAny(q, "\n\x1b") {
			t.Fatalf("%q", q)
		}
	})
}

// header returns the beginning of a chunk.
func header(size, pools, metadata, begin uint64) []byte {
	b := make([]byte, chunkHeader)
	copy(b, chunkMagic)
	for at, v := range map[int]uint64{8: size, 16: pools, 24: metadata, 32: begin} {
		binary.BigEndian.PutUint64(b[at:], v)
	}
	return b
}

func TestChunks(t *testing.T) {
	file := append(append(header(100, 70, 68, 5), make([]byte, 32)...), header(1<<30, 0, 0, 6)...)
	r := bytes.NewReader(file)
	c, err := chunkAt(r, 0, r.Size())
	require.NoError(t, err)
	require.Equal(t, chunk{offset: 0, size: 100, begin: 5}, c)
	_, err = chunkAt(r, 100, r.Size())
	require.ErrorIs(t, err, errUnfinished)
	_, err = chunkAt(r, r.Size(), r.Size())
	require.ErrorIs(t, err, io.EOF)
	_, err = chunkAt(r, 1, r.Size())
	require.ErrorContains(t, err, "at byte 1 is not how a chunk begins")
	_, err = chunkAt(bytes.NewReader(header(1<<63, 70, 68, 5)), 0, chunkHeader)
	require.ErrorContains(t, err, "has 9223372036854775808 bytes, of which 68 are there")
}

// FuzzChunks walks a file, which ends, and whose chunks are within it.
func FuzzChunks(f *testing.F) {
	f.Add(append(header(68, 1, 1, 5), header(1<<30, 0, 0, 6)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for at := int64(0); ; {
			c, err := chunkAt(r, at, r.Size())
			if err != nil {
				if at == r.Size() && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				return
			}
			if c.offset != at || c.size < chunkHeader || at+c.size > r.Size() {
				t.Fatalf("chunk %+v at %d of %d", c, at, r.Size())
			}
			at += c.size
		}
	})
}
