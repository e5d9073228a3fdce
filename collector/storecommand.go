package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/promslog"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/store"
)

// storeCommands are `flameline store ...` and their flags.
type storeCommands struct {
	backup, verify, repair *kingpin.CmdClause

	to, url, httpConfig, path string // of backup
	dir                       string // of verify
	from, into                string // of repair
}

func newStoreCommands(app *kingpin.Application) *storeCommands {
	s := &storeCommands{}
	parent := app.Command("store", "Back up, verify or repair a store.")

	s.backup = parent.Command("backup", "Write a backup into a new directory, which `serve --storage.path` can open, and verify it. The service keeps running.")
	s.backup.Arg("dir", "Directory to create.").Required().StringVar(&s.to)
	s.backup.Flag("url", "Address of the service.").Default("http://" + config.Default().Web.ListenAddress).StringVar(&s.url)
	s.backup.Flag("http.config.file", "File with credentials and TLS settings, with the keys of Prometheus' HTTP client configuration.").
		PlaceHolder("FILE").StringVar(&s.httpConfig)
	s.backup.Flag("storage.path", "Copy the store in this directory, which no service may have open, instead of asking a service.").PlaceHolder("DIR").StringVar(&s.path)

	s.verify = parent.Command("verify", "Read all of a store that no service has open, and say what of it is corrupt. Nothing is changed.")
	s.verify.Arg("dir", "Directory of the store.").Default(config.Default().Storage.Path).StringVar(&s.dir)

	s.repair = parent.Command("repair", "Make a new store of all that can be read of a corrupt one, and verify it.")
	s.repair.Arg("dir", "Directory of the corrupt store, which no service has open; nothing in it is changed.").Required().StringVar(&s.from)
	s.repair.Arg("newdir", "Directory to make.").Required().StringVar(&s.into)
	return s
}

// command returns the function that runs a command, nil if the command is not one of
// these.
func (s *storeCommands) command(name string) func(ctx context.Context, stdout, stderr io.Writer) error {
	switch name {
	case s.backup.FullCommand():
		return s.runBackup
	case s.verify.FullCommand():
		return func(ctx context.Context, stdout, _ io.Writer) error { return verifyStore(ctx, s.dir, stdout) }
	case s.repair.FullCommand():
		return s.runRepair
	}
	return nil
}

func (s *storeCommands) runBackup(ctx context.Context, stdout, _ io.Writer) error {
	b, err := s.copy(ctx)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	fmt.Fprintf(stdout, "backup: %d files, %d bytes, as of %s, in %s\n", b.Files, b.Bytes, b.Time.Format(time.RFC3339), s.to)
	return verifyStore(ctx, s.to, stdout)
}

func (s *storeCommands) copy(ctx context.Context) (b store.Backup, err error) {
	if s.path != "" {
		return store.CopyBackup(ctx, s.path, s.to)
	}
	c := &promconfig.HTTPClientConfig{}
	*c = promconfig.DefaultHTTPClientConfig
	if s.httpConfig != "" {
		if c, _, err = promconfig.LoadHTTPConfigFile(s.httpConfig); err != nil {
			return b, fmt.Errorf("%s: %w", s.httpConfig, err)
		}
	}
	client, err := promconfig.NewClientFromConfig(*c, "backup")
	if err != nil {
		return b, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(s.url, "/")+server.BackupPath, nil)
	if err != nil {
		return b, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return b, fmt.Errorf("%w; if no service runs, name the store by --storage.path", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return b, fmt.Errorf("%s: %s: %s", s.url, resp.Status, bytes.TrimSpace(text))
	}
	return store.ReadBackup(resp.Body, s.to)
}

// errCorrupt is what verify ends with where anything is corrupt.
var errCorrupt = errors.New("the store is corrupt")

func verifyStore(ctx context.Context, dir string, stdout io.Writer) error {
	v, err := store.Verify(ctx, dir)
	if err != nil {
		return fmt.Errorf("verify %s: %w", dir, err)
	}
	for _, d := range v.Damage {
		fmt.Fprintf(stdout, "corrupt: %s\n", d)
	}
	fmt.Fprintf(stdout, "%s: %d files, %d bytes, %d keys, %d days, %d profiles, %d merged windows\n",
		dir, v.Files, v.Bytes, v.Keys, v.Days, v.Profiles, v.Windows)
	if len(v.Damage) > 0 {
		return fmt.Errorf("%s: %w: %d times, see above", dir, errCorrupt, len(v.Damage))
	}
	fmt.Fprintln(stdout, "all of it can be read")
	return nil
}

func (s *storeCommands) runRepair(ctx context.Context, stdout, stderr io.Writer) error {
	if _, err := os.Stat(s.from); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	damage, err := store.Repair(ctx, s.from, s.into, promslog.New(&promslog.Config{Writer: stderr}))
	for _, d := range damage {
		fmt.Fprintf(stdout, "corrupt: %s\n", d)
	}
	if err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	return verifyStore(ctx, s.into, stdout)
}
