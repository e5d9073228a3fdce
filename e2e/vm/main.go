// Command vm boots Linux kernels of Debian's packages in qemu and runs the sampler's smoke
// test there, for kernels and processors other than this machine's. `go tool mage vm` runs
// it and installs what it needs.
//
// Each argument is a kernel: the name of a package, such as linux-image-arm64:arm64, or a
// .deb file. The machine has no disk; its first process is e2e/vm/guest, which does the
// checks and prints their results to the serial console.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

// options are the command's flags.
type options struct {
	dir     string        // where packages, programs and logs are kept
	accel   string        // of qemu: tcg or kvm
	timeout time.Duration // for each kernel, from its start on
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("vm: ")
	var o options
	flag.StringVar(&o.dir, "dir", "bin/vm", "folder for packages, programs and logs")
	flag.StringVar(&o.accel, "accel", "tcg", "qemu's accelerator: tcg (any processor), kvm (this machine's)")
	flag.DurationVar(&o.timeout, "timeout", 20*time.Minute, "time for each kernel")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options, kernels []string) error {
	if len(kernels) == 0 {
		return errors.New("no kernel: name packages or .deb files")
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return fmt.Errorf("find folder: %w", err)
	}
	o.dir = dir
	var errs []error
	for _, name := range kernels {
		if err := runKernel(ctx, o, name); err != nil {
			log.Printf("%s: FAILED: %v", name, err)
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// runKernel runs the smoke test with one kernel.
func runKernel(ctx context.Context, o options, name string) error {
	k, err := findKernel(ctx, o.dir, name)
	if err != nil {
		return err
	}
	initramfs, err := makeInitramfs(ctx, o.dir, k.arch)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	start := time.Now()
	r, err := boot(ctx, o, k, initramfs)
	if err == nil {
		err = r.err()
	}
	if err != nil {
		return err
	}
	log.Printf("%s: passed %d checks on Linux %s in %s", name, r.passed, k.version, time.Since(start).Round(time.Second))
	return nil
}
