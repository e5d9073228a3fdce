package build

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Fuzz runs every fuzz test for FUZZTIME. With FUZZKEEP it then keeps a selection
// of the inputs that reached new code, which `go test` runs from then on.
func Fuzz(ctx context.Context) error {
	time := os.Getenv("FUZZTIME")
	if time == "" {
		time = "20s"
	}
	pkgs, err := packagePaths(ctx, func(string) bool { return true })
	if err != nil {
		return err
	}
	var unkept error // does not end the fuzzing
	for _, pkg := range pkgs {
		list, err := output(ctx, "go", "test", "-list=^Fuzz", pkg)
		if err != nil {
			return err
		}
		for name := range strings.FieldsSeq(list) {
			if !strings.HasPrefix(name, "Fuzz") {
				continue // the closing line
			}
			if err := fuzzOne(ctx, pkg, name, time); err != nil {
				return err
			}
			if os.Getenv("FUZZKEEP") != "" {
				unkept = errors.Join(unkept, keepCorpus(ctx, pkg, name))
			}
		}
	}
	return unkept
}

// fuzzOne runs one fuzz test. Go's fuzzer sometimes fails when its time is over; a
// failure of the test itself comes with an input.
func fuzzOne(ctx context.Context, pkg, name, time string) error {
	args := []string{"test", "-run=^$", "-fuzz=^" + name + "$", "-fuzztime=" + time, "-fuzzminimizetime=1s", pkg}
	fmt.Println("+ go", strings.Join(args, " "))
	var text bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(os.Stdout, &text), os.Stderr
	err := cmd.Run()
	if err != nil && bytes.Contains(text.Bytes(), []byte("    context deadline exceeded\n")) &&
		!bytes.Contains(text.Bytes(), []byte("Failing input written")) {
		fmt.Println("the fuzzer's own time ran out; no input failed")
		return nil
	}
	if err != nil {
		return fmt.Errorf("fuzz %s of %s: %w", name, pkg, err)
	}
	return nil
}

// Bounds of a fuzz test's corpus: files, and bytes of each.
const (
	keptInputs     = 16
	keptInputBytes = 4 << 10
)

// keepCorpus copies inputs of a fuzz test from Go's cache to the directory where go test
// reads them, small and large ones in equal parts. Existing files stay.
func keepCorpus(ctx context.Context, pkg, name string) error {
	cache, err := output(ctx, "go", "env", "GOCACHE")
	if err != nil {
		return err
	}
	dir, err := output(ctx, "go", "list", "-f={{.Dir}}", pkg)
	if err != nil {
		return err
	}
	from, to := filepath.Join(cache, "fuzz", filepath.FromSlash(pkg), name), filepath.Join(dir, "testdata", "fuzz", name)
	found, err := os.ReadDir(from)
	if os.IsNotExist(err) {
		return nil // nothing beyond the seeds reached new code
	}
	if err != nil {
		return fmt.Errorf("keep corpus of %s: %w", name, err)
	}
	type input struct {
		name string
		size int64
	}
	var inputs []input
	for _, f := range found {
		if info, err := f.Info(); err == nil && info.Size() <= keptInputBytes {
			inputs = append(inputs, input{f.Name(), info.Size()})
		}
	}
	slices.SortFunc(inputs, func(a, b input) int { return cmp.Or(cmp.Compare(a.size, b.size), strings.Compare(a.name, b.name)) })
	there, err := filepath.Glob(filepath.Join(to, "*"))
	if err != nil {
		return err
	}
	room := min(keptInputs-len(there), len(inputs))
	if room <= 0 {
		return nil
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	var kept []string
	for i := range room {
		chosen := inputs[i*len(inputs)/room].name
		b, err := os.ReadFile(filepath.Join(from, chosen))
		if err != nil {
			return fmt.Errorf("keep corpus of %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(to, chosen), b, 0o644); err != nil {
			return fmt.Errorf("keep corpus of %s: %w", name, err)
		}
		kept = append(kept, filepath.Join(to, chosen))
	}
	// The cache may have inputs of an older signature of the test.
	if err := Run(ctx, "go", "test", "-run=^"+name+"$", pkg); err != nil {
		for _, file := range kept {
			err = errors.Join(err, os.Remove(file))
		}
		return fmt.Errorf("keep corpus of %s: clean the fuzz cache (go clean -fuzzcache): %w", name, err)
	}
	return nil
}
