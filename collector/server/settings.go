package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect"
	settingsv1 "github.com/grafana/pyroscope/api/gen/proto/go/settings/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/settings/v1/settingsv1connect"

	"github.com/flameline/flameline/collector/store"
)

// These limits keep clients from using the settings as general storage.
const (
	maxSettings         = 1000
	maxSettingNameBytes = 256
	maxSettingBytes     = 64 << 10
)

// settings is settings.v1.SettingsService: named texts that clients store, such as the
// preferences of Grafana's Profiles Drilldown, which does not start without this
// service. Set returns once the text is on disk.
type settings struct {
	store Store
	now   func() time.Time
	// count is held while a new setting is checked against maxSettings and stored.
	count sync.Mutex
}

var _ settingsv1connect.SettingsServiceHandler = (*settings)(nil)

// Get lists all settings.
func (s *settings) Get(ctx context.Context, _ *connect.Request[settingsv1.GetSettingsRequest]) (*connect.Response[settingsv1.GetSettingsResponse], error) {
	found, err := s.store.Settings(ctx)
	if err != nil {
		return nil, code(err)
	}
	resp := &settingsv1.GetSettingsResponse{}
	for _, f := range found {
		resp.Settings = append(resp.Settings, &settingsv1.Setting{Name: strings.ToValidUTF8(f.Name, "�"), Value: strings.ToValidUTF8(f.Value, "�"), ModifiedAt: f.Modified})
	}
	return connect.NewResponse(resp), nil
}

// Set stores a setting, unless a newer one of the same name exists.
func (s *settings) Set(ctx context.Context, req *connect.Request[settingsv1.SetSettingsRequest]) (*connect.Response[settingsv1.SetSettingsResponse], error) {
	m := req.Msg.GetSetting()
	switch {
	case m == nil:
		return nil, invalid(errors.New("setting: is missing"))
	case m.Name == "":
		return nil, invalid(errors.New("setting.name: is empty"))
	case len(m.Name) > maxSettingNameBytes:
		return nil, invalid(fmt.Errorf("setting.name: %d bytes are more than %d", len(m.Name), maxSettingNameBytes))
	case !utf8.ValidString(m.Name):
		return nil, invalid(fmt.Errorf("setting.name: %q is not UTF-8", m.Name))
	case !utf8.ValidString(m.Value):
		return nil, invalid(errors.New("setting.value: is not UTF-8"))
	case len(m.Value) > maxSettingBytes:
		return nil, invalid(fmt.Errorf("setting.value: %d bytes are more than %d", len(m.Value), maxSettingBytes))
	}
	s.count.Lock()
	defer s.count.Unlock()
	found, err := s.store.Settings(ctx)
	if err != nil {
		return nil, code(err)
	}
	known := slices.ContainsFunc(found, func(f store.Setting) bool { return f.Name == m.Name })
	if !known && len(found) >= maxSettings {
		return nil, connect.NewError(connect.CodeResourceExhausted,
			fmt.Errorf("setting.name: %.100q would exceed the limit of %d settings; delete one that is not needed", m.Name, maxSettings))
	}
	set := store.Setting{Name: m.Name, Value: m.Value, Modified: m.ModifiedAt}
	if set.Modified <= 0 {
		set.Modified = s.now().UnixMilli()
	}
	if err := s.store.SetSetting(ctx, set); errors.Is(err, store.ErrOldSetting) {
		return nil, connect.NewError(connect.CodeAlreadyExists, err)
	} else if err != nil {
		return nil, code(err)
	}
	return connect.NewResponse(&settingsv1.SetSettingsResponse{
		Setting: &settingsv1.Setting{Name: set.Name, Value: set.Value, ModifiedAt: set.Modified},
	}), nil
}

// Delete deletes a setting. Deleting one that does not exist is not an error.
func (s *settings) Delete(ctx context.Context, req *connect.Request[settingsv1.DeleteSettingsRequest]) (*connect.Response[settingsv1.DeleteSettingsResponse], error) {
	if req.Msg.GetName() == "" {
		return nil, invalid(errors.New("name: is empty"))
	}
	if err := s.store.DeleteSetting(ctx, req.Msg.GetName()); err != nil {
		return nil, code(err)
	}
	return connect.NewResponse(&settingsv1.DeleteSettingsResponse{}), nil
}
