//go:build !linux

package doctor

import "github.com/flameline/flameline/collector/sample"

// System says that sampling is not possible on this system.
func System() *Report {
	r := &Report{Works: true}
	r.add("system", Fail, sample.Supported().Error(), "")
	return r
}

// Process says the same.
func Process(pid int) *Report {
	r := System()
	r.PID = pid
	return r
}
