// Command record pushes the conformance corpus to a Pyroscope server that holds
// nothing else, asks every question and prints the answers: those of storage
// architecture v2 for answers.json, those of v1 that differ for answers_v1.json.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/flameline/flameline/collector/server/conformance"
)

func main() {
	url := flag.String("url", "http://127.0.0.1:4040", "address of the server")
	server := flag.String("server", "", "what the answers shall say of the server, such as its version")
	differing := flag.Bool("differing", false, "print only answers that differ from those of answers.json")
	settle := flag.Duration("settle", 3*time.Second, "time from the last push to the first question")
	flag.Parse()
	if err := record(context.Background(), *url, *server, *settle, *differing); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func record(ctx context.Context, url, server string, settle time.Duration, differing bool) error {
	base := time.Now().Add(-20 * time.Minute).Truncate(time.Minute).UnixMilli()
	if err := conformance.Push(ctx, url, base); err != nil {
		return err
	}
	time.Sleep(settle)
	known, err := conformance.Load()
	if err != nil {
		return err
	}
	out := conformance.Recorded{Server: server, Answers: map[string]conformance.Answer{}}
	for _, c := range conformance.Calls(base) {
		a, err := conformance.Ask(ctx, url, base, c)
		if err != nil {
			return err
		}
		if k, ok := known.Answers[c.Name]; differing && ok && conformance.Difference(k, a) == "" {
			continue
		}
		out.Answers[c.Name] = a
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", " ")
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}
