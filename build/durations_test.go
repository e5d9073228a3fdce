package build

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	d := &durations{}
	var shown bytes.Buffer
	w := watched(d.watch(t.Context(), "Go tests"), &shown)
	const printed = "ok  \texample.com/a\t1.250s\n" +
		"--- FAIL: TestX (0.00s)\nFAIL\nFAIL\texample.com/b\t61.5s\n" +
		"ok  \texample.com/c\t(cached)\n?   \texample.com/d\t[no test files]\n" +
		"ok  \texample.com/e\t0.010s [no tests to run]\nFAIL\texample.com/f [build failed]\n" +
		"repeated example.com/b.TestX/sub: 2 runs, 1 failures\nrepeated example.com/b.TestX: 2 runs, 1 failures\n"
	for _, c := range printed { // in whatever pieces it comes
		if _, err := w.Write([]byte(string(c))); err != nil {
			t.Fatal(err)
		}
	}
	if shown.String() != printed {
		t.Errorf("shown is %q", &shown)
	}
	d.add(duration{section: "Go tests", took: 70 * time.Second, note: "FAILED"})
	want := `  seconds  section, package
     70.0  Go tests  FAILED
     61.5    example.com/b  FAILED
      1.2    example.com/a
      0.0    example.com/e
      0.0    example.com/c  cached
      0.0    example.com/f  FAILED build failed
      0.0    example.com/b.TestX  2 runs, 1 failures
     70.0  all
`
	if got := d.table(); got != want {
		t.Errorf("table is\n%s\nwant\n%s", got, want)
	}
}

// A section's table has the packages that the real `go test` tests in it.
func TestSectionsCollectDurations(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module example.com/m\n\ngo 1.26\n",
		"a_test.go": "package m\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) {}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var s Sections
	s.Run(t.Context(), "tests", func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "./...")
		cmd.Dir, cmd.Stdout = dir, watched(ctx, &bytes.Buffer{})
		return cmd.Run()
	})
	s.Run(t.Context(), "lint", func(context.Context) error { return errors.New("no") })
	table := s.durations.table()
	for _, part := range []string{"  tests\n", "    example.com/m\n", "  lint  FAILED\n"} {
		if !strings.Contains(table, part) {
			t.Errorf("the table lacks %q:\n%s", part, table)
		}
	}
}
