package build

import (
	"context"
	"os"
	"strings"
)

// vmPrerequisites are what VM runs.
var vmPrerequisites = []prerequisite{
	{commands: []string{"qemu-system-x86_64"}, debian: []string{"qemu-system-x86"}},
	{commands: []string{"qemu-system-aarch64"}, debian: []string{"qemu-system-arm"}},
	{commands: []string{"cpio"}, debian: []string{"cpio"}},
	{commands: []string{"clang"}, debian: []string{"clang"}},
	{commands: []string{"ld.lld"}, debian: []string{"lld"}},
	{commands: []string{"apt-get"}, debian: []string{"apt"}},
	{commands: []string{"dpkg-deb"}, debian: []string{"dpkg"}},
}

// vmKernels are the packages whose kernels VM boots by default, Debian's newest of its release.
const vmKernels = "linux-image-cloud-amd64:amd64 linux-image-arm64:arm64"

// VM runs the sampler's smoke test on the kernels of VM_KERNELS, packages or .deb files, in
// virtual machines.
func VM(ctx context.Context) error {
	if err := installMissing(ctx, vmPrerequisites); err != nil {
		return err
	}
	kernels := os.Getenv("VM_KERNELS")
	if kernels == "" {
		kernels = vmKernels
	}
	args := append([]string{"run", "./e2e/vm"}, strings.Fields(os.Getenv("VM_FLAGS"))...)
	return Run(ctx, "go", append(args, strings.Fields(kernels)...)...)
}
