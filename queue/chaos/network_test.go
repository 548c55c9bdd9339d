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
