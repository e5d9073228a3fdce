package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// makeInitramfs builds the programs for a processor and packs them, and returns the
// archive's path.
func makeInitramfs(ctx context.Context, dir, arch string) (string, error) {
	root := filepath.Join(dir, "root-"+arch)
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch}
	for out, pkg := range map[string]string{"flameline": "./collector", "init": "./e2e/vm/guest"} {
		if err := commandEnv(ctx, env, "go", "build", "-ldflags=-s", "-o", filepath.Join(root, out), pkg); err != nil {
			return "", err
		}
	}
	// Without frame pointers, so that unwinding needs .eh_frame.
	if err := command(ctx, "clang", "--target="+processors[arch].triple, "-O1", "-fomit-frame-pointer",
		"-fasynchronous-unwind-tables", "-ffreestanding", "-nostdlib", "-static", "-fuse-ld=lld",
		"-Wl,--eh-frame-hdr", "-o", filepath.Join(root, "deep"), "e2e/vm/testdata/deep.c"); err != nil {
		return "", err
	}
	archive := filepath.Join(dir, "initramfs-"+arch+".cpio")
	return archive, pack(ctx, root, archive)
}

// pack writes the files of a folder to a cpio archive of the form that Linux reads.
func pack(ctx context.Context, root, archive string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("list programs: %w", err)
	}
	var names strings.Builder
	for _, e := range entries {
		fmt.Fprintln(&names, e.Name())
	}
	cmd := newCommand(ctx, nil, "cpio", "--create", "--format=newc", "--owner=0:0", "--quiet", "--file="+archive)
	cmd.Dir, cmd.Stdin = root, strings.NewReader(names.String())
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cpio: %w", err)
	}
	return nil
}
