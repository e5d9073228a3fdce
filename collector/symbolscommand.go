package main

import (
	"context"
	"io"

	"github.com/alecthomas/kingpin/v2"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/tools"
)

// symbolsCommands are `flameline symbols ...` and their flags.
type symbolsCommands struct {
	upload, list, remove *kingpin.CmdClause

	server, httpConfig string
	files, ids         []string
}

func newSymbolsCommands(app *kingpin.Application) *symbolsCommands {
	s := &symbolsCommands{}
	parent := app.Command("symbols", "Debug files of a server, which name functions of stripped programs, also in profiles that it has already.")
	parent.Flag("server", "Address of the server.").Default("http://" + config.Default().Web.ListenAddress).StringVar(&s.server)
	parent.Flag("http.config.file", "File with credentials and TLS settings, with the keys of Prometheus' HTTP client configuration.").
		PlaceHolder("FILE").StringVar(&s.httpConfig)
	s.upload = parent.Command("upload", "Send programs or libraries that are not stripped, or their debug files. They are found by their build ID.")
	s.upload.Arg("file", "ELF files.").Required().StringsVar(&s.files)
	s.list = parent.Command("list", "List the files by build ID.")
	s.remove = parent.Command("delete", "Delete files.")
	s.remove.Arg("build-id", "Build IDs.").Required().StringsVar(&s.ids)
	return s
}

// command returns the function that runs a command, nil if the command is not one of
// these.
func (s *symbolsCommands) command(name string) func(ctx context.Context, stdout, stderr io.Writer) error {
	var run func(ctx context.Context, to *tools.Server, stdout io.Writer) error
	switch name {
	case s.upload.FullCommand():
		run = func(ctx context.Context, to *tools.Server, stdout io.Writer) error {
			return tools.UploadDebugFiles(ctx, to, s.files, stdout)
		}
	case s.list.FullCommand():
		run = tools.ListDebugFiles
	case s.remove.FullCommand():
		run = func(ctx context.Context, to *tools.Server, _ io.Writer) error {
			return tools.DeleteDebugFiles(ctx, to, s.ids)
		}
	default:
		return nil
	}
	return func(ctx context.Context, stdout, _ io.Writer) error {
		to, err := tools.NewServer(s.server, s.httpConfig)
		if err != nil {
			return err
		}
		return run(ctx, to, stdout)
	}
}
