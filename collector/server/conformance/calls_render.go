package conformance

import (
	"fmt"
	"net/url"
)

// renders call the endpoints /render and /render-diff, as web pages and Profiles
// Drilldown's comparison do.
func (c *calls) renders() {
	from, until := fmt.Sprint(c.base/1000), fmt.Sprint(c.end/1000)
	ask := func(name, path string, timeline bool, kv ...string) {
		v := url.Values{}
		for i := 0; i < len(kv); i += 2 {
			v.Set(kv[i], kv[i+1])
		}
		c.list = append(c.list, Call{Name: name, Path: "/pyroscope/" + path + "?" + v.Encode(), Timeline: timeline})
	}
	render := func(name string, kv ...string) {
		ask("render, "+name, "render", false, append([]string{"from", from, "until", until}, kv...)...)
	}
	const cart = cpu + `{service_name="cart"}`
	render("one service", "query", cart)
	render("no labels", "query", cpu)
	render("all services", "query", cpu+"{}")
	render("another type", "query", alloc+`{service_name="cart"}`)
	render("count", "query", samples+`{}`)
	render("format json", "query", cart, "format", "json")
	render("UTF-8", "query", mutex+`{city="Köln"}`)
	render("a regular expression", "query", cpu+`{pod=~"cart-.*",endpoint!="/pay"}`)
	render("more nodes than there are", "query", cart, "max-nodes", "1000")
	render("more nodes than there are, in the other spelling", "query", cart, "maxNodes", "1000")
	render("ms", "query", cart, "from", from+"000", "until", until+"000")
	render("one profile", "query", cart, "from", fmt.Sprint(c.base), "until", fmt.Sprint(c.base+1))
	render("a service that is not stored", "query", cpu+`{service_name="none"}`)
	c.empty()
	render("nothing in the range", "query", cart, "from", fmt.Sprint(c.base/1000-60), "until", fmt.Sprint(c.base/1000-30))
	c.empty()
	ask("render, timeline", "render", true, "from", from, "until", until, "query", cart)
	ask("render, timeline by service_name", "render", true, "from", from, "until", until, "query", cpu+"{}", "groupBy", "service_name")
	render("wrong: no query")
	c.fault("query")
	render("wrong: labels", "query", cpu+"{")
	c.fault("query")
	render("wrong: a regular expression", "query", cpu+`{pod=~"("}`)
	c.fault("query")
	render("wrong: start after end", "query", cart, "from", until, "until", from)
	c.fault("from/until")
	render("wrong: format", "query", cart, "format", "pie")
	c.fault("format")

	diff := func(name, left, right string, kv ...string) {
		ask("render-diff, "+name, "render-diff", false, append([]string{
			"leftQuery", left, "rightQuery", right, "leftFrom", from + "000", "leftUntil", until + "000", "rightFrom", from + "000", "rightUntil", until + "000",
		}, kv...)...)
	}
	const ledger, none = cpu + `{service_name="ledger"}`, cpu + `{service_name="none"}`
	diff("two services", cart, ledger)
	diff("a thing with itself", cart, cart)
	diff("two ranges", cart, cart, "leftUntil", fmt.Sprint(c.base+Step), "rightFrom", fmt.Sprint(c.base+Step))
	diff("something and nothing", cart, none)
	diff("nothing and something", none, cart)
	diff("nothing and nothing", none, none)
	c.empty()
	diff("more nodes than there are", cart, ledger, "max-nodes", "16384")
	diff("wrong: two types", cart, alloc+"{}")
	c.fault("rightQuery")
	diff("wrong: no left side", "", cart)
	c.fault("leftQuery")
	diff("wrong: no right side", cart, "")
	c.fault("rightQuery")
	diff("wrong: a range of the left side", cart, cart, "leftFrom", until+"000", "leftUntil", from+"000")
	c.fault("leftFrom/leftUntil")
}
