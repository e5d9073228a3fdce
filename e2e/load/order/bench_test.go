package main

import "testing"

func BenchmarkValidateOrder(b *testing.B) {
	for name, o := range map[string]*order{"shop": shopOrder(), "partner": partnerOrder()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := validateOrder(o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPriceOrder(b *testing.B) {
	o := shopOrder()
	for b.Loop() {
		priceOrder(o)
	}
}
