package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	settingsv1 "github.com/grafana/pyroscope/api/gen/proto/go/settings/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/settings/v1/settingsv1connect"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/store"
)

// fullOfSettings is a store that keeps settings in memory.
type fullOfSettings struct {
	server.Store
	all map[string]store.Setting
}

func (f *fullOfSettings) Writable() error               { return nil }
func (f *fullOfSettings) Damage() []store.Damage        { return nil }
func (f *fullOfSettings) Reductions() []store.Reduction { return nil }
func (f *fullOfSettings) SetSetting(_ context.Context, s store.Setting) error {
	f.all[s.Name] = s
	return nil
}

func (f *fullOfSettings) DeleteSetting(_ context.Context, name string) error {
	delete(f.all, name)
	return nil
}

func (f *fullOfSettings) Settings(context.Context) (out []store.Setting, err error) {
	for _, s := range f.all {
		out = append(out, s)
	}
	return out, nil
}

// With as many settings as are kept, those that are there can still be changed.
func TestSettingsWhenThereAreAsManyAsMayBe(t *testing.T) {
	db := &fullOfSettings{all: map[string]store.Setting{}}
	srv := server.New(server.Options{})
	srv.Open(db)
	client := settingsv1connect.NewSettingsServiceClient(http.DefaultClient, serve(t, srv))
	set := func(name, value string) error {
		_, err := client.Set(t.Context(), connect.NewRequest(&settingsv1.SetSettingsRequest{Setting: &settingsv1.Setting{Name: name, Value: value}}))
		return err
	}
	for i := range 1000 {
		require.NoError(t, set(fmt.Sprint("setting-", i), "old"))
	}
	require.NoError(t, set("setting-7", "new"))
	require.Equal(t, "new", db.all["setting-7"].Value)
	err := set("one-more", "x")
	require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err))
	require.ErrorContains(t, err, `setting.name: "one-more"`)
	require.Len(t, db.all, 1000)
	_, err = client.Delete(t.Context(), connect.NewRequest(&settingsv1.DeleteSettingsRequest{Name: "setting-0"}))
	require.NoError(t, err)
	require.NoError(t, set("one-more", "x"))
}

// TestSettingsAreUTF8 sends settings that JSON cannot say, as bytes since a client's library
// refuses them, and has a store with one.
func TestSettingsAreUTF8(t *testing.T) {
	db := &fullOfSettings{all: map[string]store.Setting{"old\xff": {Name: "old\xff", Value: "v\xfe"}}}
	srv := server.New(server.Options{})
	srv.Open(db)
	url := serve(t, srv)
	post := func(method, contentType, body string) (int, string) {
		resp, err := http.Post(url+"/settings.v1.SettingsService/"+method, contentType, strings.NewReader(body))
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text)
	}
	for body, want := range map[string]string{
		"\x0a\x07\x0a\x02n\xff\x12\x01v": `setting.name: \"n\\xff\" is not UTF-8`,
		"\x0a\x07\x0a\x01n\x12\x02v\xff": "setting.value: is not UTF-8",
	} {
		status, text := post("Set", "application/proto", body)
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, text, want)
	}
	require.Len(t, db.all, 1)
	status, text := post("Get", "application/json", "{}")
	require.Equal(t, http.StatusOK, status, text)
	require.Contains(t, text, "old�")
}
