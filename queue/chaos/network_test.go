package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// network is what lies between producers and Redis.
type network struct {
	t     testing.TB
	proxy *toxiproxy.Proxy
}

func newNetwork(tb testing.TB, addr string) *network {
	tb.Helper()
	srv := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n := &network{t: tb, proxy: toxiproxy.NewProxy(srv, "redis", "127.0.0.1:0", addr)}
	if err := n.proxy.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(n.proxy.Stop)
	return n
}

func (n *network) addr() string { return n.proxy.Listen }

// Directions of a toxic.
const (
	requests = "upstream"
	replies  = "downstream"
)

// poison does something to all connections in one direction, until heal.
func (n *network) poison(kind, direction string, attributes map[string]int) {
	n.t.Helper()
	text, err := json.Marshal(map[string]any{"type": kind, "stream": direction, "attributes": attributes})
	if err == nil {
		_, err = n.proxy.Toxics.AddToxicJson(strings.NewReader(string(text)))
	}
	if err != nil {
		n.t.Fatal(fmt.Errorf("toxic %s: %w", kind, err))
	}
}

// heal takes all toxics away. Connections that one has stopped end.
func (n *network) heal() { n.proxy.Toxics.ResetToxics(context.Background()) }

// down refuses connections and cuts those that there are; up ends that.
func (n *network) down() { n.proxy.Stop() }

func (n *network) up() {
	n.t.Helper()
	if err := n.proxy.Start(); err != nil {
		n.t.Fatal(err)
	}
}

func networkFaults() []fault {
	toxic := func(kind, direction string, attributes map[string]int) func(*world) {
		return func(w *world) {
			w.net.poison(kind, direction, attributes)
			w.hold(length())
			w.net.heal()
		}
	}
	return []fault{
		{name: "connection refused", mixes: toNetwork, do: func(w *world) {
			w.net.down()
			w.hold(length())
			w.net.up()
		}},
		{name: "connections reset, again and again", mixes: toNetwork, do: func(w *world) {
			for range 10 {
				w.net.poison("reset_peer", replies, map[string]int{"timeout": 20})
				w.hold(length() / 10)
				w.net.heal()
			}
		}},
		{name: "half-open: requests vanish", mixes: toNetwork, do: toxic("timeout", requests, map[string]int{"timeout": 0})},
		{name: "half-open: replies vanish", mixes: toNetwork, do: toxic("timeout", replies, map[string]int{"timeout": 0})},
		{name: "replies cut off in the middle", mixes: toNetwork, do: func(w *world) {
			for range 15 {
				w.net.poison("limit_data", replies, map[string]int{"bytes": 200 + w.number(3000)})
				w.hold(length() / 15)
				w.net.heal()
			}
		}},
		{name: "latency of 300 ms, jitter of 300 ms", mixes: toNetwork, do: toxic("latency", requests, map[string]int{"latency": 300, "jitter": 300})},
		{name: "replies in pieces of some bytes", quiet: true, mixes: toNetwork, do: toxic("slicer", replies, map[string]int{"average_size": 8, "size_variation": 4, "delay": 500})},
		{name: "a line of 5 kB/s", mixes: toNetwork, do: toxic("bandwidth", requests, map[string]int{"rate": 5})},
	}
}
