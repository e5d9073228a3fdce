package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
)

// boot runs a kernel with an initramfs until it powers off, copies its console to the
// standard output and to a log, and returns the results in it.
func boot(ctx context.Context, o options, k *kernel, initramfs string) (results, error) {
	name := filepath.Join(o.dir, "console-"+k.version+".log")
	console, err := os.Create(name)
	if err != nil {
		return results{}, fmt.Errorf("make console's log: %w", err)
	}
	defer console.Close()
	args := append([]string{
		"-accel", o.accel, "-smp", "2", "-m", "2G", "-nographic", "-no-reboot", "-nic", "none",
		"-kernel", k.image, "-initrd", initramfs,
		// A kernel that panics ends qemu at once.
		"-append", "console=" + k.console + " panic=-1 loglevel=4",
	}, k.machine...)
	log.Printf("booting Linux %s on %s, console in %s", k.version, k.arch, name)
	var text bytes.Buffer
	cmd := newCommand(ctx, nil, k.qemu, args...)
	cmd.Stdout = io.MultiWriter(os.Stdout, console, &text)
	err = named(cmd, cmd.Run())
	if ctx.Err() != nil {
		err = fmt.Errorf("stopped before its end: %w", context.Cause(ctx))
	}
	r, rerr := parseConsole(&text)
	return r, errors.Join(err, rerr)
}
