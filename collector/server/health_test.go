package server_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/store"
)

// A hanging store's disk does not answer.
type hanging struct {
	*store.DB
	asked, goOn chan struct{}
}

func (h hanging) Damage() []store.Damage { return nil }

func (h hanging) Reductions() []store.Reduction { return nil }

func (h hanging) Writable() error {
	close(h.asked)
	<-h.goOn
	return nil
}

// While one asks for the status of a store whose disk hangs, others learn whether the
// service is ready, and its parts go on to say how they are.
func TestHealthDoesNotWaitForTheDisk(t *testing.T) {
	srv := server.New(server.Options{})
	db := hanging{asked: make(chan struct{}), goOn: make(chan struct{})}
	srv.Open(db)
	status := make(chan server.Status, 1)
	go func() { status <- srv.Status() }()
	<-db.asked
	srv.SetSampling(server.EBPFStatus{State: server.SamplingOn})
	ok, _ := srv.Ready()
	require.True(t, ok)
	srv.SetStopping()
	ok, reason := srv.Ready()
	require.False(t, ok)
	require.Equal(t, "the service is stopping", reason)
	close(db.goOn)
	require.True(t, (<-status).Store.Writable)
}
