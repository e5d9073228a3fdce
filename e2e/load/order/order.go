package main

import (
	"fmt"
	"regexp"
)

// An order is what a customer sends.
type order struct {
	Channel    string `json:"channel"`     // "shop" or "partner"
	SKUPattern string `json:"sku_pattern"` // a partner's own form of article numbers
	Lines      []line `json:"lines"`
	Budget     int    `json:"budget"` // cents of vouchers that the customer may use
}

type line struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
	Cents    int    `json:"cents"`
}

// shopSKU is the form of the shop's own article numbers.
var shopSKU = regexp.MustCompile(`^[A-Z]{2,4}(-[0-9]{4,8}){1,3}$`)

// validateOrder checks that every line names an article and a quantity.
//
// This is the bug that the tour in README.md finds: a partner's pattern hardly
// ever changes, yet it is compiled for each order.
//
//go:noinline
func validateOrder(o *order) error {
	sku := shopSKU
	if o.Channel == "partner" {
		compiled, err := regexp.Compile(o.SKUPattern)
		if err != nil {
			return fmt.Errorf("pattern of article numbers: %w", err)
		}
		sku = compiled
	}
	for i, l := range o.Lines {
		if l.Quantity <= 0 {
			return fmt.Errorf("line %d: quantity %d is not positive", i+1, l.Quantity)
		}
		if !sku.MatchString(l.SKU) {
			return fmt.Errorf("line %d: %q is not an article number", i+1, l.SKU)
		}
	}
	return nil
}

// vouchers are the values, in cents, that may be combined in one order.
var vouchers = []int{95, 150, 225, 310, 475, 595, 750, 990}

// priceOrder returns the price in cents after the best combination of vouchers
// that stays within the order's budget.
//
//go:noinline
func priceOrder(o *order) int {
	total := 0
	for _, l := range o.Lines {
		total += l.Quantity * l.Cents
	}
	best := make([]int, o.Budget+1)
	for _, v := range vouchers {
		for b := o.Budget; b >= v; b-- {
			best[b] = max(best[b], best[b-v]+v)
		}
	}
	return total - best[o.Budget]
}
