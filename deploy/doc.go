// Package deploy reads the Kubernetes manifests of this folder as a cluster would: strictly,
// with the types of Kubernetes' API. Its tests compare what they say with the program.
//
// Running the image as the manifests say is left to e2e.
package deploy

//go:generate go run ./dashboards
