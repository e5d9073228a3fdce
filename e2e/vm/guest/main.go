//go:build linux

// Command guest is the first process of the machines that e2e/vm boots: it mounts the
// kernel's file systems, checks the sampler, prints the results to the console, and powers
// the machine off. By other names the same file is the load programs of the checks.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) > 1 {
		load(os.Args[1])
		return
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is the first process of a virtual machine, see e2e/vm")
		os.Exit(2)
	}
	if err := mountAll(); err != nil {
		report("mount", "", err)
	} else {
		runChecks()
	}
	fmt.Println("checks ended")
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		report("power off", "", err)
	}
}

// mountAll mounts what the sampler reads.
func mountAll() error {
	for _, m := range []struct{ kind, dir string }{
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"devtmpfs", "/dev"},
		{"tmpfs", "/tmp"},
		{"tracefs", "/sys/kernel/tracing"},
		{"bpf", "/sys/fs/bpf"},
		{"cgroup2", "/sys/fs/cgroup"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return fmt.Errorf("make mount point: %w", err)
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	return nil
}

// report prints the result of a check in the form that e2e/vm reads.
func report(name, detail string, err error) {
	if err != nil {
		fmt.Printf("check FAILED %s: %v\n", name, err)
		return
	}
	fmt.Printf("check ok %s: %s\n", name, detail)
}
