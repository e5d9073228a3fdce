package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A kernel is an unpacked one.
type kernel struct {
	processor
	version string // as `uname -r` prints it
	image   string // path of vmlinuz
}

// findKernel unpacks the kernel of a .deb file, or of a package that it downloads. It
// installs nothing.
func findKernel(ctx context.Context, dir, name string) (*kernel, error) {
	deb := name
	if !strings.HasSuffix(name, ".deb") {
		var err error
		if deb, err = download(ctx, filepath.Join(dir, "packages"), name); err != nil {
			return nil, fmt.Errorf("download %s: %w", name, err)
		}
	}
	arch, err := output(ctx, "dpkg-deb", "--field", deb, "Architecture")
	if err != nil {
		return nil, err
	}
	p, ok := processors[arch]
	if !ok {
		return nil, fmt.Errorf("%s is for %s, which is not amd64 or arm64", deb, arch)
	}
	root := filepath.Join(dir, "kernels", strings.TrimSuffix(filepath.Base(deb), ".deb"))
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	if err := command(ctx, "dpkg-deb", "--extract", deb, root); err != nil {
		return nil, err
	}
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil {
		return nil, fmt.Errorf("find kernel: %w", err)
	}
	if len(images) != 1 {
		return nil, fmt.Errorf("%s has %d files boot/vmlinuz-*, want 1", deb, len(images))
	}
	version := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	return &kernel{processor: p, version: version, image: images[0]}, nil
}

// download downloads the .deb file of a package, or of the kernel that a package without
// files depends on, and returns its path. Lists of packages are kept in the folder, since
// the system's have only its own processor's.
func download(ctx context.Context, dir, name string) (string, error) {
	lists, cache := filepath.Join(dir, "lists"), filepath.Join(dir, "cache")
	for _, d := range []string{filepath.Join(lists, "partial"), filepath.Join(cache, "archives", "partial")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", fmt.Errorf("make folder: %w", err)
		}
	}
	options := []string{
		"-o", "Dir::State::Lists=" + lists, "-o", "Dir::Cache=" + cache,
		"-o", "APT::Architectures::=amd64", "-o", "APT::Architectures::=arm64",
		"-o", "Acquire::Languages=none", "-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"-o", "APT::Sandbox::User=root", "--quiet",
	}
	if err := command(ctx, "apt-get", append(options, "update")...); err != nil {
		return "", err
	}
	name, err := kernelPackage(ctx, options, name)
	if err != nil {
		return "", err
	}
	uri, err := output(ctx, "apt-get", append(options, "download", "--print-uris", name)...)
	if err != nil {
		return "", err
	}
	// 'URI' file size digest
	fields := strings.Fields(uri)
	if len(fields) < 2 {
		return "", fmt.Errorf("apt-get knows no file of %s", name)
	}
	deb := filepath.Join(dir, fields[1])
	if _, err := os.Stat(deb); err == nil {
		return deb, nil
	}
	return deb, commandIn(ctx, dir, "apt-get", append(options, "download", name)...)
}

// kernelPackage returns the package with the kernel's files: that with a version in its
// name, which those without depend on.
func kernelPackage(ctx context.Context, options []string, name string) (string, error) {
	depends, err := output(ctx, "apt-cache", append(options, "depends", "--important", name)...)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(depends) {
		if d, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok && strings.HasPrefix(d, "linux-image-") {
			return d, nil
		}
	}
	if depends == "" {
		return "", errors.New("there is no such package")
	}
	return name, nil
}
