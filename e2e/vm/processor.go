package main

// A processor is one that Debian, Go, clang and qemu know by names of their own.
type processor struct {
	arch    string   // of Debian and Go
	triple  string   // of clang
	qemu    string   // the emulator
	machine []string // flags of the emulator
	console string   // the serial console's name in Linux
}

var processors = map[string]processor{
	"amd64": {
		arch: "amd64", triple: "x86_64-linux-gnu",
		qemu: "qemu-system-x86_64", machine: []string{"-cpu", "max"}, console: "ttyS0",
	},
	"arm64": {
		arch: "arm64", triple: "aarch64-linux-gnu",
		// The usual algorithm of pointer authentication takes much of an emulator's time.
		qemu: "qemu-system-aarch64", machine: []string{"-M", "virt", "-cpu", "max,pauth-impdef=on"}, console: "ttyAMA0",
	},
}
