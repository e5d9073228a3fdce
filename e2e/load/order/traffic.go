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

// partnerOrder is an order that brings the form of its article numbers.
func partnerOrder() *order {
	o := shopOrder()
	o.Channel = "partner"
	o.SKUPattern = partnerSKU
	return o
}

// partnerSKU is a pattern as people write them: three forms of article
// numbers, each with generous limits.
const partnerSKU = `^(?:[A-Z]{2,12}-[0-9]{4,16}` +
	`|[A-Z][a-z]{3,24}(?:\.[0-9a-f]{2,10}){1,99}` +
	`|[0-9]{2,9}(?:/[A-Z]{1,9}[0-9]?){1,99}` +
	`|(?:EAN|ISBN)[- ]?(?:[0-9]{1,5}[- ]?){1,99}[0-9X])$`
