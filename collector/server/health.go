package server

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/flameline/flameline/collector/store"
)

// Sampling is the state of the eBPF source.
type Sampling string

// The states of the eBPF source.
const (
	SamplingOff      Sampling = "off"
	SamplingStarting Sampling = "starting"
	SamplingOn       Sampling = "on"
	// SamplingFailed means that sampling was on and stopped by itself. It is being
	// restarted.
	SamplingFailed Sampling = "failed"
)

// Status is the answer of /api/v1/status.
type Status struct {
	// Service is always "flameline", so that a client can tell this server
	// from others that speak the same API.
	Service string `json:"service"`
	Version string `json:"version"`
	// Started is when the program started, RFC 3339.
	Started time.Time `json:"started"`
	Ready   bool      `json:"ready"`
	// NotReady is why Ready is false.
	NotReady string     `json:"notReady,omitempty"`
	EBPF     EBPFStatus `json:"ebpf"`
	// Store is omitted while the store is not open, and on agents.
	Store *StoreStatus `json:"store,omitempty"`
}

// StoreStatus tells whether the store takes profiles, and what of it cannot be read.
type StoreStatus struct {
	Writable bool `json:"writable"`
	// Reason is why Writable is false.
	Reason string `json:"reason,omitempty"`
	// Damage lists the corrupt files that were found since the start, oldest first.
	Damage []store.Damage `json:"damage,omitempty"`
	// Reductions lists the services that had too many series in one hour since the
	// program started, with the labels that have the most values.
	Reductions []store.Reduction `json:"reductions,omitempty"`
}

func storeStatus(db Store) *StoreStatus {
	if db == nil {
		return nil
	}
	s := &StoreStatus{Writable: true, Damage: db.Damage(), Reductions: db.Reductions()}
	if err := db.Writable(); err != nil {
		s.Writable, s.Reason = false, err.Error()
	}
	return s
}

// EBPFStatus says whether this machine is being sampled.
type EBPFStatus struct {
	State Sampling `json:"state"`
	// Reason says why sampling is off or failed and what to do about it, in one
	// sentence.
	Reason string `json:"reason,omitempty"`
	// Frequency is in samples per second and CPU.
	Frequency int `json:"frequency,omitempty"`
}

// Health combines the states of the service's parts. The service is ready when the store
// is open and sampling is on, or off for a known reason. While sampling has failed, it
// is not ready but still answers queries and accepts pushes.
type Health struct {
	mu       sync.Mutex
	status   Status
	open     bool
	store    Store // nil on agents
	stopping bool
}

func (h *Health) init(version string) {
	h.status = Status{
		Service: "flameline",
		Version: version,
		Started: time.Now().UTC().Truncate(time.Second),
		EBPF:    EBPFStatus{State: SamplingStarting},
	}
}

// SetSampling records the eBPF source's state.
func (h *Health) SetSampling(e EBPFStatus) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status.EBPF = e
}

// Sampling returns the eBPF source's state.
func (h *Health) Sampling() EBPFStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.status.EBPF
}

// SetStopping makes the service not ready until the program ends.
func (h *Health) SetStopping() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopping = true
}

func (h *Health) setOpen(db Store) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open, h.store = true, db
}

// Ready reports whether the service is ready, and the reason if it is not.
func (h *Health) Ready() (ok bool, reason string) {
	st, _ := h.state()
	return st.Ready, st.NotReady
}

// Status returns a copy of the present state.
func (h *Health) Status() Status {
	st, db := h.state()
	st.Store = storeStatus(db) // without the lock: reading the store's status may wait for the disk
	return st
}

// state returns the status without that of the store.
func (h *Health) state() (Status, Store) {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.status
	switch {
	case h.stopping:
		st.NotReady = "the service is stopping"
	case !h.open:
		st.NotReady = "the store is not open yet"
	case st.EBPF.State == SamplingStarting:
		st.NotReady = "sampling has not begun yet"
	case st.EBPF.State == SamplingFailed:
		st.NotReady = "sampling has stopped by itself: " + st.EBPF.Reason
	default:
		st.Ready = true
	}
	return st, h.store
}

func (h *Health) serveReady(w http.ResponseWriter, _ *http.Request) {
	if ok, reason := h.Ready(); !ok {
		http.Error(w, reason, http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

func serveHealthy(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("healthy\n"))
}

func (h *Health) serveStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(h.Status())
}
