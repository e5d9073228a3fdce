package server

import (
	"errors"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
)

// BackupPath is the endpoint that answers POST with a backup: a tar archive that
// store.ReadBackup reads.
const BackupPath = "/api/v1/store/backup"

// backups serves BackupPath, one request at a time. The service itself writes only hard
// links inside the store's directory; the client writes the archive with its own rights.
// So whoever may query may also back up.
func (s *Server) backups(db Store) http.Handler {
	turn := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		default:
			refuse(w, r, connect.NewError(connect.CodeResourceExhausted, errors.New("another backup is running")))
			return
		}
		if err := db.Writable(); err != nil {
			refuse(w, r, connect.NewError(connect.CodeUnavailable, fmt.Errorf("a backup needs a writable disk: %w", err)))
			return
		}
		w.Header().Set("Content-Type", "application/x-tar")
		b, err := db.Backup(r.Context(), w)
		if err != nil {
			s.options.Logger.Error("backup", "err", err)
			panic(http.ErrAbortHandler) // aborts the connection, so that the client sees an incomplete archive
		}
		s.options.Logger.Info("backup", "files", b.Files, "bytes", b.Bytes)
	})
}
