//go:build unix

package proc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// readPID waits until the file holds a number.
func readPID(t *testing.T, p *Process, file string) int {
	t.Helper()
	var pid int
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := p.Await(ctx, func(context.Context) error {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// gone waits until no process with this ID runs; one that is dead and waits
// for its parent counts as gone.
func gone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
		if b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err == nil && strings.Contains(string(b), ") Z ") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("process %d still runs", pid)
}

func TestStopEndsDescendants(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	p, err := Start(Spec{Name: "shell", Args: []string{"sh", "-c", "sleep 600 & echo $! >" + file + "; wait"}})
	if err != nil {
		t.Fatal(err)
	}
	child := readPID(t, p, file)
	p.Stop(time.Minute)
	gone(t, child)
}

func TestStopKillsTheDeaf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	p, err := Start(Spec{Name: "deaf", Args: []string{"sh", "-c", "trap '' TERM; sleep 600 & echo $! >" + file + "; while :; do wait; done"}})
	if err != nil {
		t.Fatal(err)
	}
	child := readPID(t, p, file)
	p.Stop(100 * time.Millisecond)
	gone(t, child)
}

func TestErrTellsTheEndOfTheLog(t *testing.T) {
	p, err := Start(Spec{
		Name: "broken",
		Args: []string{"sh", "-c", "echo port is taken >&2; exit 3"},
		Log:  filepath.Join(t.TempDir(), "log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	got := p.Err()
	if got == nil || !strings.Contains(got.Error(), "broken ended: exit status 3") || !strings.Contains(got.Error(), "port is taken") {
		t.Errorf("Err() = %v, want the status and the log", got)
	}
	err = p.Await(t.Context(), func(context.Context) error { return errors.New("never") })
	if err == nil || !strings.Contains(err.Error(), "before it was ready") {
		t.Errorf("Await of a dead program = %v", err)
	}
}

func TestStartOfNothing(t *testing.T) {
	if _, err := Start(Spec{Name: "none", Args: []string{filepath.Join(t.TempDir(), "none")}}); err == nil {
		t.Error("a program that does not exist was started")
	}
}

func TestFreeAddress(t *testing.T) {
	first, err := FreeAddress("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := FreeAddress(first); err != nil || again != first {
		t.Errorf("free address %s became %s (%v)", first, again, err)
	}
	if _, err := FreeAddress("no address"); err == nil {
		t.Error("a malformed address passed")
	}
}
