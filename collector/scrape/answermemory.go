package scrape

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
)

const (
	// smallAnswer is the number of bytes up to which an answer is small.
	smallAnswer = 1 << 20
	// smallAnswers is the number of answers that are read and processed at once.
	smallAnswers = 64
)

// answerMemory bounds the memory of answers that are read and processed: a number of
// small ones, of which a few may become large. The others wait, and large ones do not
// keep small ones from being read.
type answerMemory struct{ small, large chan struct{} }

func newAnswerMemory() *answerMemory {
	return &answerMemory{small: make(chan struct{}, smallAnswers), large: make(chan struct{}, max(4, runtime.GOMAXPROCS(0)))}
}

// read reads all of r. It waits for memory once the first byte is there, since targets
// may take the length of a profile until then. release, which is never nil, gives the
// memory back.
func (m *answerMemory) read(ctx context.Context, r io.Reader) (body []byte, release func(), err error) {
	var held []chan struct{}
	release = func() {
		for _, c := range held {
			<-c
		}
		held = nil
	}
	hold := func(c chan struct{}) error {
		select {
		case c <- struct{}{}:
			held = append(held, c)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	buffered := bufio.NewReaderSize(r, 512)
	if _, err := buffered.Peek(1); err != nil && !errors.Is(err, io.EOF) {
		return nil, release, err
	}
	if err := hold(m.small); err != nil {
		return nil, release, err
	}
	var b bytes.Buffer
	switch _, err := io.CopyN(&b, buffered, smallAnswer); {
	case errors.Is(err, io.EOF):
		return b.Bytes(), release, nil
	case err != nil:
		return nil, release, err
	}
	if err := hold(m.large); err != nil {
		return nil, release, err
	}
	_, err = b.ReadFrom(buffered)
	return b.Bytes(), release, err
}
