package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// traffic is the service's customers: orders at a mean rate per second, at
// random moments as customers come.
type traffic struct {
	rate  float64
	spike spike
}

// A spike is a recurring stretch of time in which all orders come from
// partners.
type spike struct {
	first, every, length time.Duration
}

// active tells whether a spike runs at the time since the start.
func (s spike) active(since time.Duration) bool {
	since -= s.first
	switch {
	case since < 0:
		return false
	case s.every <= 0:
		return true
	default:
		return since%s.every < s.length
	}
}

// run sends orders to url until ctx is done. One that is answered slowly does
// not hold up the next; beyond 64 open ones, orders are dropped.
func (t traffic) run(ctx context.Context, url string) {
	start := time.Now()
	open := make(chan struct{}, 64)
	client := &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: cap(open)},
	}
	defer client.CloseIdleConnections()
	var spiking bool
	var failed atomic.Int64
	next := start
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		// From the last planned moment, so that a busy machine does not lower the rate.
		next = next.Add(time.Duration(rand.ExpFloat64() / t.rate * float64(time.Second)))
		timer.Reset(time.Until(next))
		if now := t.spike.active(time.Since(start)); now != spiking {
			spiking = now
			slog.Info("traffic changed", "partners", spiking)
		}
		o := shopOrder()
		if spiking {
			o = partnerOrder()
		}
		select {
		case open <- struct{}{}:
			go func() {
				defer func() { <-open }()
				err := send(ctx, client, url, o)
				if err == nil || ctx.Err() != nil {
					return
				}
				if n := failed.Add(1); n%1000 == 1 {
					slog.Warn("order not answered", "err", err, "failed", n)
				}
			}()
		default:
		}
	}
}

// send posts one order and reads the answer.
func send(ctx context.Context, client *http.Client, url string, o *order) error {
	body, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode order: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("send order: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("send order: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answer %s: %s", resp.Status, bytes.TrimSpace(answer))
	}
	return nil
}

// shopOrder is an order with the shop's own article numbers.
func shopOrder() *order {
	o := &order{Channel: "shop", Budget: 12000}
	for range 1 + rand.IntN(4) {
		o.Lines = append(o.Lines, line{
			SKU:      fmt.Sprintf("AB-%06d", rand.IntN(1e6)),
			Quantity: 1 + rand.IntN(5),
			Cents:    100 + rand.IntN(9900),
		})
	}
	return o
}

// catalogue holds a partner's article numbers, and partnerSKU is the pattern
// that the partner's shop sends with every order: one of these.
var (
	catalogue  = partnerCatalogue()
	partnerSKU = "^(?:" + strings.Join(catalogue, "|") + ")$"
)

func partnerCatalogue() []string {
	var numbers []string
	for i := range 1000 {
		numbers = append(numbers, fmt.Sprintf("%c%c-%05d", 'A'+i%26, 'A'+i*7%26, i*3571%100000))
	}
	slices.Sort(numbers)
	return numbers
}

// partnerOrder is an order that brings the form of its article numbers.
func partnerOrder() *order {
	o := shopOrder()
	o.Channel = "partner"
	o.SKUPattern = partnerSKU
	for i := range o.Lines {
		o.Lines[i].SKU = catalogue[rand.IntN(len(catalogue))]
	}
	return o
}
