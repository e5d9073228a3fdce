package tools

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	debuginfov1alpha1 "github.com/grafana/pyroscope/api/gen/proto/go/debuginfo/v1alpha1"
	"github.com/grafana/pyroscope/api/gen/proto/go/debuginfo/v1alpha1/debuginfov1alpha1connect"

	"github.com/flameline/flameline/collector/debuginfo"
)

func (s *Server) debugFiles() debuginfov1alpha1connect.DebuginfoServiceClient {
	return debuginfov1alpha1connect.NewDebuginfoServiceClient(s.client, s.url)
}

// UploadDebugFiles sends programs, libraries or their debug files to a server, and writes
// a line about each. It goes on after a file that fails.
func UploadDebugFiles(ctx context.Context, s *Server, files []string, out io.Writer) (err error) {
	for _, name := range files {
		line, e := s.uploadDebugFile(ctx, name)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, e))
			continue
		}
		fmt.Fprintf(out, "%s: %s\n", name, line)
	}
	return err
}

func (s *Server) uploadDebugFile(ctx context.Context, name string) (line string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("is not a regular file")
	}
	id, err := debuginfo.ReadBuildID(f, info.Size())
	switch {
	case err != nil:
		return "", fmt.Errorf("is not an ELF file that can be read: %w", err)
	case id == "":
		return "", errors.New("has no build ID, by which profiles would name it; link with -Wl,--build-id")
	}
	client := s.debugFiles()
	resp, err := client.ShouldInitiateUpload(ctx, connect.NewRequest(&debuginfov1alpha1.ShouldInitiateUploadRequest{
		File: &debuginfov1alpha1.FileMetadata{GnuBuildId: id, Name: filepath.Base(name), Type: fileType(f)},
	}))
	if err != nil {
		return "", err
	}
	if !resp.Msg.ShouldInitiateUpload {
		line = fmt.Sprintf("build ID %s: not sent: %.500s", id, Printable(resp.Msg.Reason))
		there, err := s.hasDebugFile(ctx, id)
		if err == nil && !there {
			err = errors.New("the server does not have the file")
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", line, err)
		}
		return line, nil
	}
	if err := s.postDebugFile(ctx, f, info.Size(), id); err != nil {
		return "", err
	}
	if _, err := client.UploadFinished(ctx, connect.NewRequest(&debuginfov1alpha1.UploadFinishedRequest{GnuBuildId: id})); err != nil {
		return "", err
	}
	return fmt.Sprintf("build ID %s: %d bytes sent", id, info.Size()), nil
}

// hasDebugFile reports whether a file was uploaded, by this client or another one.
func (s *Server) hasDebugFile(ctx context.Context, id string) (bool, error) {
	list, err := s.debugFiles().ListDebuginfo(ctx, connect.NewRequest(&debuginfov1alpha1.ListDebuginfoRequest{}))
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(list.Msg.Object, func(o *debuginfov1alpha1.ObjectMetadata) bool {
		return o.File.GetGnuBuildId() == id && o.State == debuginfov1alpha1.ObjectMetadata_STATE_UPLOADED
	}), nil
}

func (s *Server) postDebugFile(ctx context.Context, f *os.File, size int64, id string) error {
	url := s.url + "/" + debuginfov1alpha1connect.DebuginfoServiceName + "/Upload/" + id
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.NewSectionReader(f, 0, size))
	if err != nil {
		return err
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("upload: %s: %s", resp.Status, Printable(strings.TrimSpace(string(text))))
	}
	return nil
}

// fileType says whether a file has code, or only what is said about it.
func fileType(f io.ReaderAt) debuginfov1alpha1.FileMetadata_Type {
	if e, err := elf.NewFile(f); err == nil {
		if text := e.Section(".text"); text != nil && text.Type == elf.SHT_NOBITS {
			return debuginfov1alpha1.FileMetadata_TYPE_EXECUTABLE_NO_TEXT
		}
	}
	return debuginfov1alpha1.FileMetadata_TYPE_EXECUTABLE_FULL
}

// ListDebugFiles writes a line about each debug file that a server has.
func ListDebugFiles(ctx context.Context, s *Server, out io.Writer) error {
	resp, err := s.debugFiles().ListDebuginfo(ctx, connect.NewRequest(&debuginfov1alpha1.ListDebuginfoRequest{}))
	if err != nil {
		return err
	}
	for _, o := range resp.Msg.Object {
		state := "being uploaded"
		if o.State == debuginfov1alpha1.ObjectMetadata_STATE_UPLOADED {
			state = o.FinishedAt.AsTime().Format(time.RFC3339)
		}
		fmt.Fprintf(out, "%s  %s  %d bytes  %s\n", Printable(o.File.GetGnuBuildId()), state, o.SizeBytes, Printable(o.File.GetName()))
	}
	return nil
}

// DeleteDebugFiles removes debug files from a server, by their build IDs.
func DeleteDebugFiles(ctx context.Context, s *Server, ids []string) (err error) {
	for _, id := range ids {
		_, e := s.debugFiles().DeleteDebuginfo(ctx, connect.NewRequest(&debuginfov1alpha1.DeleteDebuginfoRequest{GnuBuildId: id}))
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", id, e))
		}
	}
	return err
}
