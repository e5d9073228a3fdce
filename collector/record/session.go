package record

import "log/slog"

// SessionOptions configure a Session.
type SessionOptions struct {
	Selection   Selection
	FrequencyHz int          // samples per second and CPU; 0 is that of package sample
	Threads     bool         // a profile for each thread
	Logger      *slog.Logger // nil discards
}
