package server

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/adhocprofiles/v1/adhocprofilesv1connect"
	capabilitiesv1 "github.com/grafana/pyroscope/api/gen/proto/go/capabilities/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/capabilities/v1/capabilitiesv1connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/settings/v1/settingsv1connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/vcs/v1/vcsv1connect"
)

// features is capabilities.v1.FeatureFlagsService, by which clients such as Profiles
// Drilldown find out what the server supports.
type features struct{}

var _ capabilitiesv1connect.FeatureFlagsServiceHandler = features{}

// GetFeatureFlags lists Pyroscope's flags, and whether each is enabled here.
func (features) GetFeatureFlags(context.Context, *connect.Request[capabilitiesv1.GetFeatureFlagsRequest]) (*connect.Response[capabilitiesv1.GetFeatureFlagsResponse], error) {
	return connect.NewResponse(&capabilitiesv1.GetFeatureFlagsResponse{FeatureFlags: []*capabilitiesv1.FeatureFlag{
		{Name: "pyroscopeRuler"},
		{Name: "pyroscopeRulerFunctions"},
		{Name: "utf8LabelNames", Enabled: true},
		{Name: "v2StorageLayer"},
	}}), nil
}

// absent lists services that Pyroscope's clients call and that Flameline does not have.
// They answer "unimplemented", as Pyroscope does for a service that is switched off;
// without this list the built-in page would answer.
var absent = []struct {
	name    string
	handler func(options ...connect.HandlerOption) (string, http.Handler)
}{
	{vcsv1connect.VCSServiceName, func(o ...connect.HandlerOption) (string, http.Handler) {
		return vcsv1connect.NewVCSServiceHandler(vcsv1connect.UnimplementedVCSServiceHandler{}, o...)
	}},
	{settingsv1connect.RecordingRulesServiceName, func(o ...connect.HandlerOption) (string, http.Handler) {
		return settingsv1connect.NewRecordingRulesServiceHandler(settingsv1connect.UnimplementedRecordingRulesServiceHandler{}, o...)
	}},
	{adhocprofilesv1connect.AdHocProfileServiceName, func(o ...connect.HandlerOption) (string, http.Handler) {
		return adhocprofilesv1connect.NewAdHocProfileServiceHandler(adhocprofilesv1connect.UnimplementedAdHocProfileServiceHandler{}, o...)
	}},
}
