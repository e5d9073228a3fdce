package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// results are what the guest printed on the console: a line "check ok NAME: DETAIL" or
// "check FAILED NAME: DETAIL" for each check, and "checks ended" after the last.
type results struct {
	passed int
	failed []string // name and detail
	ended  bool
}

// parseConsole reads results from a console, on which the kernel prints too.
func parseConsole(r io.Reader) (results, error) {
	var res results
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case strings.HasPrefix(line, "check ok "):
			res.passed++
		case strings.HasPrefix(line, "check FAILED "):
			res.failed = append(res.failed, strings.TrimPrefix(line, "check FAILED "))
		case line == "checks ended":
			res.ended = true
		}
	}
	if err := lines.Err(); err != nil {
		return res, fmt.Errorf("read console: %w", err)
	}
	return res, nil
}

// err returns what failed, or that checks are missing.
func (r results) err() error {
	switch {
	case len(r.failed) > 0:
		return fmt.Errorf("%d of %d checks failed: %s", len(r.failed), r.passed+len(r.failed), strings.Join(r.failed, "; "))
	case !r.ended:
		return fmt.Errorf("the machine stopped after %d checks, before the last one", r.passed)
	case r.passed == 0:
		return errors.New("there was no check")
	}
	return nil
}
