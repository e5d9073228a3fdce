package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestSections checks that a failure is remembered, that later sections run
// all the same, and that nothing runs after one that must succeed.
func TestSections(t *testing.T) {
	var ran []string
	step := func(name string, err error) func(context.Context) error {
		return func(context.Context) error {
			ran = append(ran, name)
			return err
		}
	}
	var s Sections
	wrong := errors.New("wrong")
	s.Must(t.Context(), "build", step("build", nil))
	s.Run(t.Context(), "lint", step("lint", wrong))
	s.Run(t.Context(), "test", step("test", nil))
	s.Must(t.Context(), "install", step("install", wrong))
	s.Run(t.Context(), "browser", step("browser", nil))
	if len(ran) != 4 || ran[2] != "test" {
		t.Errorf("ran %v, want build, lint, test, install", ran)
	}
	if err := s.Result(); !errors.Is(err, wrong) {
		t.Errorf("result is %v, want the failures", err)
	}
	if err := (&Sections{}).Result(); err != nil {
		t.Errorf("result of nothing is %v", err)
	}
}

func TestAnyGenerates(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := write("plain.go", "package a\n\n// it speaks of //go:generate only\n")
	if anyGenerates([]string{plain, filepath.Join(dir, "deleted.go")}) {
		t.Error("a comment counts as a directive")
	}
	if !anyGenerates([]string{plain, write("gen.go", "package a\n\n//go:generate true\n")}) {
		t.Error("a directive was not found")
	}
}

// Tests of which none fails are run once, and there is no report.
func TestMeasuredTestsThatPass(t *testing.T) {
	t.Chdir("..")
	if err := measuredTests(t.Context(), nil, []string{"github.com/flameline/flameline/collector/sample/cut"}, "-timeout=1m"); err != nil {
		t.Fatal(err)
	}
}
