package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"

	"github.com/flameline/flameline/e2e/proc"
	"github.com/flameline/flameline/pkg/profile"
)

// A sender is a program that profiles itself with an SDK of Pyroscope. Each of
// them does three quarters of the work of checkout for prices.
type sender struct {
	service string
	// seconds is how long it works: more than one upload takes by the SDK's
	// default, and the last one when it stops.
	seconds string
	// command installs what the program needs, in dir, and returns how to start
	// it. Arguments are added.
	command func(t *testing.T, dir string) *exec.Cmd
	// function finds a function's name in that of a frame; nil if they are the
	// same.
	function *regexp.Regexp
	checks   []senderCheck
}

// A senderCheck looks for functions in a profile.
type senderCheck struct {
	typ      string // the beginning of the profile type
	selector string // more matchers
	path     []string
	// least is the share of the profile that the last function of the path has
	// to have under the others.
	least float64
	// quarter is a function that in the place of the last one has to have a
	// third of its value, give or take what few samples do; "" for none.
	quarter string
}

func senders() []sender {
	return []sender{
		{
			service: "sender-go", seconds: "35", command: goSender,
			checks: []senderCheck{
				{"process_cpu:cpu:nanoseconds", `, region="eu"`, []string{"main.run", "main.(*shop).checkout", "main.(*shop).priceOrder"}, 0.5, "main.(*shop).validateOrder"},
				{"process_cpu:cpu:nanoseconds", `, controller="checkout"`, []string{"main.run", "main.(*shop).checkout"}, 0.9, ""},
				{"process_cpu:samples:count", "", []string{"main.run", "main.(*shop).checkout"}, 0.7, ""},
				{"memory:alloc_space:bytes", `, region="eu"`, []string{"main.run", "main.(*shop).fillBasket"}, 0.5, ""},
				{"memory:alloc_objects:count", "", []string{"main.run", "main.(*shop).fillBasket"}, 0.1, ""},
				{"memory:inuse_space:bytes", "", []string{"main.run", "main.(*shop).fillBasket"}, 0.5, ""},
				{"memory:inuse_objects:count", "", []string{"main.run", "main.(*shop).fillBasket"}, 0.1, ""},
				{"goroutines:goroutine:count", "", []string{"main.waitForStock"}, 0.7, ""},
				{"mutex:contentions:count", "", []string{"main.(*shop).lockStock", "sync.(*Mutex).Unlock"}, 0.7, ""},
				{"mutex:delay:nanoseconds", "", []string{"main.(*shop).lockStock", "sync.(*Mutex).Unlock"}, 0.7, ""},
				{"block:contentions:count", "", []string{"main.run", "main.awaitPayment", "runtime.chanrecv1"}, 0.001, ""},
				{"block:delay:nanoseconds", "", []string{"main.run", "main.awaitPayment", "runtime.chanrecv1"}, 0.001, ""},
			},
		},
		{
			service: "sender-python", seconds: "25", command: pythonSender,
			checks: []senderCheck{
				{"process_cpu:cpu:nanoseconds", `, region="eu"`, []string{"<module>", "main", "checkout", "price_order"}, 0.5, "validate_order"},
				{"process_cpu:cpu:nanoseconds", `, controller="checkout"`, []string{"<module>", "main", "checkout"}, 0.9, ""},
			},
		},
		{
			service: "sender-node", seconds: "65", command: nodeSender,
			function: regexp.MustCompile(`([^:]+):\d+$`), // file:function:line
			checks: []senderCheck{
				{"wall:wall:nanoseconds", `, region="eu"`, []string{"work", "checkout", "priceOrder"}, 0.4, "validateOrder"},
				{"wall:wall:nanoseconds", `, controller="checkout"`, []string{"work", "checkout"}, 0.9, ""},
				{"wall:cpu:nanoseconds", "", []string{"work", "checkout", "priceOrder"}, 0.4, "validateOrder"},
				{"memory:inuse_space:bytes", `, region="eu"`, []string{"work", "fillBasket"}, 0.1, ""},
				{"memory:inuse_objects:count", "", []string{"work", "fillBasket"}, 0.1, ""},
			},
		},
	}
}

// TestSenders has Pyroscope's own SDKs, as their registries have them and with
// their default settings, push to the service, and looks for what they have sent.
func TestSenders(t *testing.T) {
	t.Parallel()
	address, since := startServer(t), time.Now()
	t.Run("all", func(t *testing.T) { // ends before the service does
		for _, s := range senders() {
			t.Run(s.service, func(t *testing.T) {
				t.Parallel()
				s.run(t, address)
				for _, c := range s.checks {
					s.check(t, address, c)
				}
			})
		}
	})
	refusedNothing(t, address)
	agrees(t, address, since, "sender-go", "sender-python", "sender-node")
	// The first upload of the SDK for Node.js is of a whole minute.
	agreement{
		address: address, client: querierv1connect.NewQuerierServiceClient(http.DefaultClient, address), typeID: "wall:wall:nanoseconds:wall:nanoseconds", selector: `{service_name="sender-node"}`,
		from: since.Add(-time.Minute).Truncate(chartStep), to: time.Now().Truncate(chartStep),
	}.steady(t)
}

// startServer starts the service without a source of its own.
func startServer(t *testing.T) (address string) {
	t.Helper()
	dir := t.TempDir()
	listen, err := proc.FreeAddress("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	startProgram(t, proc.Spec{
		Name: "flameline",
		Args: []string{demoCollector(t), "serve", "--ebpf.enabled", "false", "--storage.path", filepath.Join(dir, "store"), "--web.listen-address", listen},
		Log:  filepath.Join(dir, "flameline.log"),
	}, "http://"+listen+"/ready")
	return "http://" + listen
}

// refusedNothing tells whether all pushes were taken. SDKs keep it to
// themselves when one was not.
func refusedNothing(t *testing.T, address string) {
	t.Helper()
	resp, err := http.Get(address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\nflameline_server_refused_pushes_total 0\n") {
		t.Errorf("pushes were refused; the metrics say\n%s", regexp.MustCompile("flameline_server_.*push.*").FindAllString(string(text), -1))
	}
}

// run installs the sender and runs it to its end.
func (s sender) run(t *testing.T, address string) {
	t.Helper()
	cmd := s.command(t, t.TempDir())
	cmd.Args = append(cmd.Args, address, s.service, s.seconds)
	if out := output(t, cmd); len(out) > 0 {
		t.Logf("%s said:\n%s", s.service, out)
	}
}

// output runs a command, which has to succeed, for at most two minutes.
func output(t *testing.T, cmd *exec.Cmd) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	limited := exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...)
	limited.Dir, limited.Env = cmd.Dir, cmd.Env
	out, err := limited.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), errors.Join(err, cmd.Err, ctx.Err()), out)
	}
	return out
}

func goSender(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	program := filepath.Join(dir, "sender")
	output(t, exec.Command("go", "build", "-o", program, "./senders/golang"))
	return exec.Command(program)
}

func pythonSender(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	output(t, exec.Command("python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:",
		"--target", dir, "--requirement", filepath.Join("senders", "python", "requirements.txt")))
	cmd := exec.Command("python3", filepath.Join("senders", "python", "sender.py"))
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir)
	return cmd
}

func nodeSender(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("senders", "node"))); err != nil {
		t.Fatal(err)
	}
	install := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")
	install.Dir = dir
	output(t, install)
	return exec.Command("node", filepath.Join(dir, "sender.js"))
}

// check looks for a function and its share in what the sender has sent.
func (s sender) check(t *testing.T, address string, c senderCheck) {
	t.Helper()
	selector := fmt.Sprintf("{service_name=%q%s}", s.service, c.selector)
	tree, err := senderTree(t.Context(), address, c.typ, selector)
	if err != nil {
		t.Errorf("%s of %s: %v", c.typ, selector, err)
		return
	}
	if s.function != nil {
		for i, name := range tree.Names {
			if m := s.function.FindStringSubmatch(name); m != nil {
				tree.Names[i] = m[1]
			}
		}
	}
	value, total := functionTotal(tree, c.path...), tree.Nodes[0].Total
	share := float64(value) / float64(total)
	t.Logf("%s of %s: %s has %.1f %% of %d", c.typ, selector, strings.Join(c.path, " → "), 100*share, total)
	if share < c.least {
		t.Errorf("%s of %s: %s has %.1f %%, less than %.1f %%; the widest path is\n\t%s",
			c.typ, selector, strings.Join(c.path, " → "), 100*share, 100*c.least, strings.Join(widestPath(tree), "\n\t"))
	}
	if c.quarter == "" {
		return
	}
	other := functionTotal(tree, append(c.path[:len(c.path)-1:len(c.path)-1], c.quarter)...)
	if got := float64(other) / float64(value+other); math.Abs(got-0.25) > 0.12 {
		t.Errorf("%s of %s: %s has %.1f %% of what %s and it have, not a quarter", c.typ, selector, c.quarter, 100*got, c.path[len(c.path)-1])
	}
}

// senderTree merges all profiles of the type that begins so.
func senderTree(ctx context.Context, address, begins, selector string) (*profile.Tree, error) {
	client := querierv1connect.NewQuerierServiceClient(http.DefaultClient, address)
	start, end := time.Now().Add(-10*time.Minute).UnixMilli(), time.Now().Add(time.Minute).UnixMilli()
	types, err := client.ProfileTypes(ctx, connect.NewRequest(&querierv1.ProfileTypesRequest{Start: start, End: end}))
	if err != nil {
		return nil, fmt.Errorf("profile types: %w", err)
	}
	var ids []string
	for _, typ := range types.Msg.ProfileTypes {
		ids = append(ids, typ.ID)
		if !strings.HasPrefix(typ.ID, begins+":") {
			continue
		}
		// SDKs differ in the type of the period.
		tree, err := mergedTree(ctx, address, typ.ID, selector, start, end)
		if err != nil {
			return nil, err
		}
		if tree.Nodes[0].Total > 0 {
			return tree, nil
		}
	}
	return nil, fmt.Errorf("nothing was sent; all types are %s", strings.Join(ids, ", "))
}
