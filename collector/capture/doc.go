// Package capture samples chosen processes harder for a while, when someone asks for it: a
// Node does so on this machine, a Board on the server keeps the captures and who is to do
// them, and an Agent asks a server's Board and has its Node do them. What is sampled goes
// where all profiles go, with the label profile.LabelCapture.
//
// A capture is a sampler of its own beside the one that always runs, so that this one's
// profiles stay what they are. Agents only connect outwards; they poll.
//
// It leaves unwinding to sample, labels to target, and the API's errors and who may ask to
// collector/server.
package capture

import "errors"

// Errors that callers tell apart.
var (
	// ErrInvalid is wrapped by errors that name a field of the request.
	ErrInvalid = errors.New("invalid request")
	// ErrImpossible is wrapped by errors about what this server or machine does not allow.
	ErrImpossible = errors.New("no capture is possible")
	// ErrBusy is wrapped by the error of a capture while there is another one.
	ErrBusy = errors.New("another capture is running")
	// ErrNotFound is wrapped by errors about captures and processes that are not there.
	ErrNotFound = errors.New("not found")
)
