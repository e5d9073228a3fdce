package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flameline/flameline/e2e/load"
	"github.com/flameline/flameline/e2e/proc"
)

// demo has all running programs. It is used by one goroutine.
type demo struct {
	root, flameline, plugin string
	dir                     string
	temporary               bool
	spikeFirst              time.Duration

	began     time.Time
	programs  []load.Program // those that run here
	processes []*proc.Process
	ended     chan *proc.Process
	moved     []string // pairs of a default address and the one used instead

	flamelineURL, prometheusURL, grafanaURL string
	sampled                                 bool // by eBPF, so all programs are seen
}

// say prints one line of progress with the seconds since the start.
func (d *demo) say(format string, args ...any) {
	fmt.Printf("%4.0f s  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

// start starts a program. If the program ends before the demo does, run ends with an
// error.
func (d *demo) start(s proc.Spec) (*proc.Process, error) {
	p, err := proc.Start(s)
	if err != nil {
		return nil, err
	}
	if d.ended == nil {
		d.ended = make(chan *proc.Process, 16)
	}
	d.processes = append(d.processes, p)
	go func() {
		<-p.Done()
		d.ended <- p
	}()
	return p, nil
}

// forget stops one program that is to be restarted.
func (d *demo) forget(p *proc.Process) {
	p.Stop(20 * time.Second)
	<-d.ended
	d.processes = slices.DeleteFunc(d.processes, func(q *proc.Process) bool { return q == p })
}

// stop stops all programs, the last started first.
func (d *demo) stop() {
	if len(d.processes) == 0 {
		return
	}
	fmt.Println("\nStopping.")
	for _, p := range slices.Backward(d.processes) {
		p.Stop(20 * time.Second)
	}
}

// address returns the default address, or a free one if that is taken, which it prints.
// Provisioned files get the address that is used.
func (d *demo) address(what, preferred string) (string, error) {
	a, err := proc.FreeAddress(preferred)
	if err != nil {
		return "", fmt.Errorf("address of %s: %w", what, err)
	}
	if a != preferred {
		d.say("%s is taken by another program: %s listens on %s", preferred, what, a)
		d.moved = append(d.moved, preferred, a)
		// Otherwise links for browsers would have the machine's host name.
		d.moved = append(d.moved, strings.Replace(preferred, "127.0.0.1", "localhost", 1), a)
	}
	return a, nil
}

// provision copies a folder of provisioning/ into the demo's directory, with the
// addresses that are used and further replacements.
func (d *demo) provision(folder string, replace ...string) (string, error) {
	replacer := strings.NewReplacer(append(replace, d.moved...)...)
	from := filepath.Join(d.root, "provisioning", folder)
	to := filepath.Join(d.dir, folder)
	err := filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), []byte(replacer.Replace(string(text))), 0o644)
	})
	if err != nil {
		return "", fmt.Errorf("provision %s: %w", folder, err)
	}
	return to, nil
}

// startLoad builds and starts the load programs that this machine can run.
func (d *demo) startLoad(ctx context.Context) error {
	for _, p := range load.Programs() {
		if lacks := p.Missing(); lacks != "" {
			d.say("no load in %s: %s is not on PATH", p.Language, lacks)
			continue
		}
		address, err := d.address("the load in "+p.Language, p.Address)
		if err != nil {
			return err
		}
		var args []string
		if p.Service == "order" {
			args = []string{"--spike.first", d.spikeFirst.String()}
		}
		spec, err := p.Build(ctx, d.root, d.dir, address, args...)
		if err != nil {
			d.say("no load in %s: %v", p.Language, err)
			continue
		}
		process, err := d.start(spec)
		if err != nil {
			return err
		}
		limit, cancel := context.WithTimeout(ctx, 30*time.Second)
		err = process.Await(limit, proc.Answers("http://"+address+"/metrics"))
		cancel()
		if err != nil {
			return err
		}
		p.Address = address
		d.programs = append(d.programs, p)
		d.say("load in %s: %s, http://%s/metrics", p.Language, p.Service, address)
	}
	return nil
}

// find returns the program named by an environment variable or on PATH.
func find(variable, command string) string {
	if path := os.Getenv(variable); path != "" {
		return path
	}
	path, err := exec.LookPath(command)
	if err != nil {
		return ""
	}
	return path
}
