package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	debuginfov1alpha1 "github.com/grafana/pyroscope/api/gen/proto/go/debuginfo/v1alpha1"
	"github.com/grafana/pyroscope/api/gen/proto/go/debuginfo/v1alpha1/debuginfov1alpha1connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/flameline/flameline/collector/debuginfo"
	"github.com/flameline/flameline/collector/untrusted"
)

// DebugUploadPath is the path, followed by the build ID, to which files are posted. It is
// beside the calls of the service, since a file is larger than a message may be.
const DebugUploadPath = "/" + debuginfov1alpha1connect.DebuginfoServiceName + "/Upload/"

// uploadTime is how long a debug file may take to arrive.
const uploadTime = 10 * time.Minute

// uploadsDisabled is the reason by which profilecli knows that a server takes no files.
const uploadsDisabled = "DebugInfo upload disabled"

// uploadReasons say why a file is wanted or not.
var uploadReasons = map[debuginfo.State]string{
	debuginfo.Begun:   "the server does not have this file",
	debuginfo.Pending: "another upload of this file has begun",
	debuginfo.Present: "the server has this file",
}

// debugFiles is debuginfo.v1alpha1.DebuginfoService: debug files are uploaded, by build ID,
// in three steps: the client asks whether the file is wanted, posts it, and says that it is
// done.
type debugFiles struct {
	uploads *debuginfo.Uploads // nil: switched off
	log     *slog.Logger
}

var _ debuginfov1alpha1connect.DebuginfoServiceHandler = (*debugFiles)(nil)

// KeepDebugFiles takes the files that are uploaded. It is called before Open; without it
// none are taken.
func (s *Server) KeepDebugFiles(u *debuginfo.Uploads) { s.uploads = u }

// ShouldInitiateUpload begins an upload, if the file is not there.
func (d *debugFiles) ShouldInitiateUpload(_ context.Context, req *connect.Request[debuginfov1alpha1.ShouldInitiateUploadRequest]) (*connect.Response[debuginfov1alpha1.ShouldInitiateUploadResponse], error) {
	f := req.Msg.File
	switch {
	case d.uploads == nil:
		return connect.NewResponse(&debuginfov1alpha1.ShouldInitiateUploadResponse{Reason: uploadsDisabled}), nil
	case f == nil:
		return nil, invalid(errors.New("file: is missing"))
	case f.Type != debuginfov1alpha1.FileMetadata_TYPE_EXECUTABLE_FULL && f.Type != debuginfov1alpha1.FileMetadata_TYPE_EXECUTABLE_NO_TEXT:
		return nil, invalid(fmt.Errorf("file.type: %s is not a type of executables", f.Type))
	case f.GnuBuildId == "":
		return connect.NewResponse(&debuginfov1alpha1.ShouldInitiateUploadResponse{Reason: "file.gnu_build_id is empty; a file without it belongs to no profile"}), nil
	}
	state, err := d.uploads.Begin(debuginfo.Upload{
		BuildID: f.GnuBuildId, GoBuildID: f.GoBuildId, FileID: f.OtelFileId, Name: f.Name, Type: int32(f.Type),
	})
	if err != nil {
		return nil, uploadError("file", err)
	}
	return connect.NewResponse(&debuginfov1alpha1.ShouldInitiateUploadResponse{
		ShouldInitiateUpload: state == debuginfo.Begun, Reason: uploadReasons[state],
	}), nil
}

// UploadFinished ends an upload: from then on the file names functions.
func (d *debugFiles) UploadFinished(_ context.Context, req *connect.Request[debuginfov1alpha1.UploadFinishedRequest]) (*connect.Response[debuginfov1alpha1.UploadFinishedResponse], error) {
	if d.uploads == nil {
		return nil, unsupported("symbols.max_upload_bytes", "is 0, so that debug files are not kept")
	}
	if err := d.uploads.Finish(req.Msg.GnuBuildId); err != nil {
		return nil, uploadError("gnu_build_id", err)
	}
	d.log.Info("debug file uploaded", "build_id", req.Msg.GnuBuildId)
	return connect.NewResponse(&debuginfov1alpha1.UploadFinishedResponse{}), nil
}

// ListDebuginfo lists the files.
func (d *debugFiles) ListDebuginfo(context.Context, *connect.Request[debuginfov1alpha1.ListDebuginfoRequest]) (*connect.Response[debuginfov1alpha1.ListDebuginfoResponse], error) {
	resp := &debuginfov1alpha1.ListDebuginfoResponse{}
	if d.uploads == nil {
		return connect.NewResponse(resp), nil
	}
	for _, f := range d.uploads.List() {
		o := &debuginfov1alpha1.ObjectMetadata{
			File: &debuginfov1alpha1.FileMetadata{
				GnuBuildId: f.BuildID, GoBuildId: f.GoBuildID, OtelFileId: f.FileID, Name: f.Name, Type: debuginfov1alpha1.FileMetadata_Type(f.Type),
			},
			StartedAt: timestamppb.New(f.Started),
			SizeBytes: f.Size,
		}
		if !f.Finished.IsZero() {
			o.State, o.FinishedAt = debuginfov1alpha1.ObjectMetadata_STATE_UPLOADED, timestamppb.New(f.Finished)
		}
		resp.Object = append(resp.Object, o)
	}
	return connect.NewResponse(resp), nil
}

// DeleteDebuginfo removes a file, if it is there.
func (d *debugFiles) DeleteDebuginfo(_ context.Context, req *connect.Request[debuginfov1alpha1.DeleteDebuginfoRequest]) (*connect.Response[debuginfov1alpha1.DeleteDebuginfoResponse], error) {
	if d.uploads == nil {
		return nil, unsupported("symbols.max_upload_bytes", "is 0, so that debug files are not kept")
	}
	if err := d.uploads.Delete(req.Msg.GnuBuildId); err != nil {
		return nil, uploadError("gnu_build_id", err)
	}
	return connect.NewResponse(&debuginfov1alpha1.DeleteDebuginfoResponse{}), nil
}

// upload takes a file that is posted.
func (d *debugFiles) upload(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		writeError(w, http.StatusMethodNotAllowed, connect.NewError(connect.CodeUnimplemented, errors.New("a debug file is uploaded with POST")))
		return
	}
	if d.uploads == nil {
		writeError(w, 0, unsupported("symbols.max_upload_bytes", "is 0, so that debug files are not kept"))
		return
	}
	// The test recorder and proxies may have no deadlines.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(uploadTime))
	id := strings.TrimPrefix(r.URL.Path, DebugUploadPath)
	err := d.uploads.Write(id, r.Body, r.ContentLength)
	if err == nil {
		return
	}
	status := 0
	switch {
	case errors.Is(err, debuginfo.ErrNotBegun):
		status = http.StatusPreconditionFailed
	case errors.Is(err, debuginfo.ErrBusy):
		status = http.StatusConflict
	case errors.Is(err, untrusted.ErrTooLarge):
		status = http.StatusRequestEntityTooLarge
	}
	writeError(w, status, uploadError("build ID "+id, err))
}

// uploadError gives an error its code, and names the field or file.
func uploadError(what string, err error) *connect.Error {
	c := connect.CodeInvalidArgument
	switch {
	case errors.Is(err, debuginfo.ErrNotBegun), errors.Is(err, debuginfo.ErrNoFile):
		c = connect.CodeFailedPrecondition
	case errors.Is(err, debuginfo.ErrBusy):
		c = connect.CodeAborted
	case errors.Is(err, debuginfo.ErrDiskFull), errors.Is(err, syscall.ENOSPC):
		c = connect.CodeUnavailable
	case errors.As(err, new(*fs.PathError)), errors.As(err, new(*os.LinkError)):
		c = connect.CodeInternal
	case errors.Is(err, debuginfo.ErrFull):
		c = connect.CodeResourceExhausted
		if errors.Is(err, untrusted.ErrTooLarge) {
			err = fmt.Errorf("%w (symbols.max_upload_bytes)", err)
		}
	case errors.Is(err, untrusted.ErrTooLarge):
		c = connect.CodeResourceExhausted
		err = fmt.Errorf("%w (symbols.max_file_bytes)", err)
	}
	return connect.NewError(c, fmt.Errorf("%s: %w", what, err))
}
