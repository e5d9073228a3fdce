package main

import (
	"testing"
	"time"
)

func TestValidateOrder(t *testing.T) {
	for name, newOrder := range map[string]func() *order{"shop": shopOrder, "partner": partnerOrder} {
		t.Run(name, func(t *testing.T) {
			if err := validateOrder(newOrder()); err != nil {
				t.Errorf("valid order: %v", err)
			}
			o := newOrder()
			o.Lines[0].SKU = "nothing of ours"
			if validateOrder(o) == nil {
				t.Error("an unknown article passed")
			}
			o = newOrder()
			o.Lines[0].Quantity = 0
			if validateOrder(o) == nil {
				t.Error("a quantity of 0 passed")
			}
		})
	}
	if validateOrder(&order{Channel: "partner", SKUPattern: "("}) == nil {
		t.Error("a malformed pattern passed")
	}
}

func TestPriceOrder(t *testing.T) {
	// 95 + 150 is the best that fits in 250, since 225 alone is less.
	o := &order{Lines: []line{{Quantity: 2, Cents: 500}}, Budget: 250}
	if got := priceOrder(o); got != 1000-245 {
		t.Errorf("price = %d, want 755", got)
	}
}

func TestSpike(t *testing.T) {
	s := spike{first: time.Minute, every: 3 * time.Minute, length: time.Minute}
	for since, want := range map[time.Duration]bool{
		0:                 false,
		59 * time.Second:  false,
		60 * time.Second:  true,
		119 * time.Second: true,
		120 * time.Second: false,
		239 * time.Second: false,
		240 * time.Second: true,
	} {
		if s.active(since) != want {
			t.Errorf("active(%v) = %v, want %v", since, !want, want)
		}
	}
	if always := (spike{}); !always.active(0) || !always.active(time.Hour) {
		t.Error("a spike without a period ended")
	}
}
