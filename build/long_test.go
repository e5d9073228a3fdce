package build

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestLongTests(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.go": "package a\n\nfunc TestNot() { testing.Short() }\n",
		"a_test.go": `package a

import "testing"

func TestMain(m *testing.M) { testing.Short() }

func TestLong(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
}

func TestShort(t *testing.T) { t.Log("testing.Short()") }

func TestByHelper(t *testing.T) { t.Run("x", func(t *testing.T) { rig{}.start(t) }) }
`,
		"b_test.go": `package a_test

import "testing"

type rig struct{}

func (rig) start(t *testing.T) { rounds() }

func rounds() int {
	if testing.Short() {
		return 1
	}
	return 10
}

func FuzzLong(f *testing.F) { f.Add(rounds()) }

func BenchmarkLong(b *testing.B) { rounds() }
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := longTests(dir)
	slices.Sort(got)
	if want := []string{"FuzzLong", "TestByHelper", "TestLong"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("long tests are %v, %v, want %v", got, err, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "c_test.go"), []byte("package a; func {"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := longTests(dir); err == nil {
		t.Error("a file that is not Go was read")
	}
}
