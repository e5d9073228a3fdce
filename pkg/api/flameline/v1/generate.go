// Package flamelinev1 is the protobuf form of Flameline's own queries.
package flamelinev1

//go:generate sh -c "go -C ../../../../.ci/tools run ./protogen $(cd ../.. && pwd) flameline/v1/query.proto flameline/v1/capture.proto"
