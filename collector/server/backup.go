package server

import (
	"errors"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
)

// BackupPath is where a backup is asked for, by POST. The answer is a tar archive
// that store.ReadBackup reads.
const BackupPath = "/api/v1/store/backup"

// backups answers BackupPath, one request at a time. The service writes no files
// for it but links within the store's directory: whoever may read the API may ask,
// and writes what comes with rights of their own.
func (s *Server) backups(db Store) http.Handler {
	turn := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		default:
			refuse(w, r, connect.NewError(connect.CodeResourceExhausted, errors.New("a backup is being made already")))
			return
		}
		if err := db.Writable(); err != nil {
			refuse(w, r, connect.NewError(connect.CodeUnavailable, fmt.Errorf("a backup needs a disk that takes writes: %w", err)))
			return
		}
		w.Header().Set("Content-Type", "application/x-tar")
		b, err := db.Backup(r.Context(), w)
		if err != nil {
			s.options.Logger.Error("backup", "err", err)
			panic(http.ErrAbortHandler) // so that it does not look whole
		}
		s.options.Logger.Info("backup", "files", b.Files, "bytes", b.Bytes)
	})
}
