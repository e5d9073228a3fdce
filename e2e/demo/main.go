// Command demo starts load programs, Flameline, Prometheus and Grafana on this
// machine, prints their addresses, and stops all of them on Ctrl-C.
// `go tool mage demo` builds what it needs and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	var d demo
	flag.StringVar(&d.root, "root", ".", "the repository")
	flag.StringVar(&d.flameline, "flameline", "bin/flameline", "the collector")
	flag.StringVar(&d.plugin, "plugin", "dist", "the built Grafana plugin")
	flag.StringVar(&d.dir, "dir", os.Getenv("DEMO_DIR"), "folder for data and logs, kept at the end; default: a temporary one, removed at the end")
	flag.DurationVar(&d.spikeFirst, "spike.first", time.Minute, "time from the start to the order service's first spike")
	flag.Parse()

	endWithParent()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := d.prepareDir(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	err := d.run(ctx)
	d.stop()
	if err != nil && ctx.Err() == nil { // what fails after Ctrl-C fails because of it
		fmt.Fprintf(os.Stderr, "\ndemo: %v\nThe logs are in %s.\n", err, d.dir)
		os.Exit(1)
	}
	d.removeDir()
}

// prepareDir makes the folder for data and logs.
func (d *demo) prepareDir() (err error) {
	if d.dir == "" {
		d.temporary = true
		d.dir, err = os.MkdirTemp("", "flameline-demo-")
	} else {
		err = os.MkdirAll(d.dir, 0o755)
	}
	if err == nil {
		d.dir, err = filepath.Abs(d.dir)
	}
	if err != nil {
		return fmt.Errorf("make folder for data: %w", err)
	}
	return nil
}

func (d *demo) removeDir() {
	if !d.temporary {
		fmt.Println("Data and logs are kept in", d.dir)
		return
	}
	if err := os.RemoveAll(d.dir); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
}

// run starts everything and returns nil after Ctrl-C, or the reason why it
// cannot go on.
func (d *demo) run(ctx context.Context) error {
	d.began = time.Now()
	steps := []func(context.Context) error{
		d.startLoad, d.startFlameline, d.startPrometheus, d.startGrafana, d.awaitProfiles,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.printTour()
	select {
	case <-ctx.Done():
		return nil
	case p := <-d.ended:
		return errors.Join(fmt.Errorf("%s stopped by itself", p.Name()), p.Err())
	}
}
