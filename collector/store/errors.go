package store

import (
	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// ErrLimit is wrapped by errors about a limit that was reached. Their text names
// the limit.
var ErrLimit = storeerr.ErrLimit

// ErrInvalid is wrapped by errors about what the caller passed. Their text names
// the field at fault.
var ErrInvalid = storeerr.ErrInvalid

// ErrCorrupt is wrapped by every error about a value on disk that cannot be
// read. The error's text names the key and the offset in the value.
var ErrCorrupt = storeerr.ErrCorrupt

// ErrInternal is wrapped by the error of a call that panicked. Its text says nothing
// of the panic: the log has that, with the stack.
var ErrInternal = storeerr.ErrInternal

// ErrUnavailable is wrapped by errors about what the machine lacks at present:
// disk space, file descriptors, a disk that takes writes. Nothing of the call
// was acknowledged; it can be sent again later.
var ErrUnavailable = storeerr.ErrUnavailable

// ErrInUse is wrapped by the error of Verify about a store that a process has
// open.
var ErrInUse = storeerr.ErrInUse

// Damage is a corrupt part of the store: where it is and which profiles it concerns.
type Damage = corruption.Damage

// ErrCorruptStore is wrapped by errors of Open about files without which the store cannot be
// opened. Their text names the file and says what to do.
var ErrCorruptStore = corruption.ErrCorruptStore
