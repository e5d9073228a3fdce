package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// userHertz is the unit of times in /proc, the same on every architecture that
// Go runs on.
const userHertz = 100

// processCPU is the user and system time of a process, in steps of 10 ms.
func processCPU(pid int) (time.Duration, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	fields, err := statFields(path)
	if err != nil {
		return 0, err
	}
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime: proc_pid_stat(5)
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("parse %s: %w", path, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userHertz, nil
}

// statFields returns what follows the program's name, which may hold anything.
func statFields(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return nil, fmt.Errorf("parse %s: %d fields", path, len(fields))
	}
	return fields, nil
}

// gone reports whether a process has ended, even if nobody has asked how.
func gone(pid int) bool {
	fields, err := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || fields[0] == "Z"
}

func selfCPU() time.Duration {
	d, err := processCPU(os.Getpid())
	if err != nil {
		return 0
	}
	return d
}

// resetPeak begins a new peak of a process' resident memory.
func resetPeak(pid int) error {
	err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	if err != nil {
		return fmt.Errorf("reset peak of memory: %w", err)
	}
	return nil
}

// peakMemory is the peak of a process' resident memory, in bytes.
func peakMemory(pid int) (int64, error) {
	return field(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:")
}

// field reads a number of kB from a file of /proc, in bytes.
func field(path, name string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("parse %s: %w", path, err)
			}
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}

// diskUsage is the space that a directory's files take on disk, in bytes.
func diskUsage(dir string) (n int64, err error) {
	err = eachFile(dir, func(_ string, info fs.FileInfo) error {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			n += st.Blocks * 512
		}
		return nil
	})
	return n, err
}

// dropCache writes a directory's files to disk and has the kernel forget their
// pages. What a process has mapped stays.
func dropCache(dir string) error {
	return eachFile(dir, func(path string, _ fs.FileInfo) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Sync(); err != nil {
			return err
		}
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// eachFile calls f for every regular file. Those that vanish meanwhile are
// left out.
func eachFile(dir string, f func(string, fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				err = f(path, info)
			}
		}
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil
		}
		return err
	})
}

// load is what the machine's CPUs have done so far.
type load struct{ busy, total time.Duration }

func readLoad() (l load, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return l, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return l, fmt.Errorf("parse /proc/stat: %d fields", len(fields))
	}
	for i, f := range fields[1:9] { // guest time, which follows, is in user time already
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return l, fmt.Errorf("parse /proc/stat: %w", err)
		}
		d := time.Duration(n) * time.Second / userHertz
		l.total += d
		if i != 3 && i != 4 { // idle, waiting for disks
			l.busy += d
		}
	}
	return l, nil
}

// machine describes this machine in a line.
func machine() string {
	model := "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	if bytes, err := field("/proc/meminfo", "MemTotal:"); err == nil {
		model += fmt.Sprintf(", %.0f GB", float64(bytes)/1e9)
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		model += ", Linux " + unix.ByteSliceToString(name.Release[:])
	}
	return model
}
