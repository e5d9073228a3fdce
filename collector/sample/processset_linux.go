//go:build linux && (amd64 || arm64)

package sample

import (
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Values of the map in bpf/only.h.
const (
	onlyChildren uint32 = 1
	onlyMeasured uint32 = 2
)

// A processSet are the processes that are measured, with those that they start.
type processSet struct {
	objects onlyObjects
	links   []link.Link
}

// openProcessSet makes the set and lets it grow from then on.
func openProcessSet(pids []int) (s *processSet, err error) {
	s = &processSet{}
	defer func() {
		if err != nil {
			s.free()
		}
	}()
	if err := loadOnlyObjects(&s.objects, nil); err != nil {
		return nil, fmt.Errorf("load the set of processes: %w", err)
	}
	for _, p := range []*ebpf.Program{s.objects.OnlyExit, s.objects.OnlyFork} {
		l, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			return nil, fmt.Errorf("follow processes: %w", err)
		}
		s.links = append(s.links, l)
	}
	return s, s.add(pids...)
}

// join prepares programs that measure the processes of the set, of all if it is nil.
// shared are the maps of others that they are loaded with.
func (s *processSet) join(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map) error {
	if s == nil {
		if m := spec.Maps["only"]; m != nil {
			m.MaxEntries = 1 // it is not used
		}
		return nil
	}
	shared["only"], spec.Maps["only"].MaxEntries = s.objects.Only, s.objects.Only.MaxEntries()
	if err := spec.Variables["all_processes"].Set(false); err != nil {
		return fmt.Errorf("set processes: %w", err)
	}
	return nil
}

// add adds processes.
func (s *processSet) add(pids ...int) error {
	for _, pid := range pids {
		how := onlyMeasured
		if pid == os.Getpid() {
			how = onlyChildren
		}
		if err := s.objects.Only.Put(uint32(pid), how); err != nil {
			return fmt.Errorf("measure process %d: %w", pid, err)
		}
	}
	return nil
}

// free ends it.
func (s *processSet) free() {
	if s == nil {
		return
	}
	for _, l := range s.links {
		_ = l.Close()
	}
	_ = s.objects.Close()
}
