// Package e2e has the end-to-end tests, which start the programs as users do and check
// their results. `go tool mage e2e` builds what they run.
//
// The folders below hold what they and the demo share: load programs, programs that push
// with SDKs, starting and stopping programs, the demo itself, virtual machines with other
// kernels, and the comparison with other servers.
package e2e
