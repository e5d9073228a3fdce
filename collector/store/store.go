// Package store keeps profiles on disk and merges them over time.
//
// It leaves reading of formats to ingest, transport to server and selectors'
// syntax to profile.
package store
