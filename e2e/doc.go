// Package e2e holds the end-to-end tests: they start the programs as people do
// and look at what comes out. `go tool mage e2e` builds what they run.
//
// The folders below hold what they and the demo share: load programs, programs
// that push with SDKs, starting and stopping programs, the demo itself, and the
// comparison with other servers.
package e2e
