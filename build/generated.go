package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// objectCompiler is the major version of clang (Debian 12's) that built the committed
// eBPF objects. Other versions build different objects from the same source.
const objectCompiler = "14"

// CheckGenerated runs the generators and fails if a file changes.
func CheckGenerated(ctx context.Context) error {
	found, err := output(ctx, "git", "ls-files", "*.go")
	if err != nil {
		return err
	}
	if !anyGenerates(strings.Fields(found)) {
		fmt.Println("There is no generated code.")
		return nil
	}
	version, err := output(ctx, "clang", "--version")
	if err != nil {
		return err
	}
	if m := regexp.MustCompile(`version (\d+)`).FindStringSubmatch(version); m == nil || m[1] != objectCompiler {
		fmt.Printf("The eBPF objects were made by clang %s and cannot be compared with what this makes: %s\n", objectCompiler, version)
		return nil
	}
	before, err := output(ctx, "git", "diff", "HEAD")
	if err != nil {
		return err
	}
	if err := Run(ctx, "go", "generate", "./..."); err != nil {
		return err
	}
	after, err := output(ctx, "git", "diff", "HEAD")
	if err != nil {
		return err
	}
	if before != after {
		// This is for the log; the error is returned in any case.
		_ = Run(ctx, "git", "diff", "--stat", "HEAD")
		return errors.New("generated code is not what `go tool mage generate` writes: commit its result")
	}
	return nil
}

// anyGenerates reports whether a file has a go:generate directive.
func anyGenerates(files []string) bool {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil { // deleted, not committed yet
			continue
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "//go:generate ") {
				return true
			}
		}
	}
	return false
}
