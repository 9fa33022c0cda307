package federation

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"landbridge/lan/gossip"
)

func member(name string, status gossip.Status) gossip.Member {
	return gossip.Member{Name: name, Addr: netip.MustParseAddr("10.0.0.1"), Port: 8302, Status: status,
		Tags: map[string]string{"role": "consul", "dc": name[strings.LastIndexByte(name, '.')+1:]}}
}

type pool struct {
	members []gossip.Member
	events  chan gossip.Event
}

func (p *pool) set(members ...gossip.Member) {
	p.members = members
	p.events <- gossip.Event{Kind: gossip.Resync}
	synctest.Wait()
}

// start runs a directory inside a bubble until the test ends.
func start(t *testing.T, rtt map[string]time.Duration, onServer func(Server)) (*Directory, *pool, *prometheus.Registry) {
	p := &pool{events: make(chan gossip.Event)}
	reg := prometheus.NewRegistry()
	d := New(Config{
		Datacenter: "dc1",
		Members:    func() []gossip.Member { return p.members },
		Subscribe:  func() (<-chan gossip.Event, func()) { return p.events, func() {} },
		Distance:   func(s string) (time.Duration, bool) { d, ok := rtt[s]; return d, ok },
		OnServer:   onServer,
		Logger:     slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: reg,
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); d.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait() // it has read the empty pool: set may write
	return d, p, reg
}

func names(list []Server) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.Name)
	}
	return out
}

func TestServersInTheOrderToTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p, _ := start(t, nil, nil)
		p.set(member("a.dc2", gossip.Alive), member("b.dc2", gossip.Alive), member("c.dc2", gossip.Failed), member("d.dc2", gossip.Left))
		d.Report("a.dc2", errors.New("silent"))
		if got, want := names(d.Servers("dc2")), []string{"b.dc2", "a.dc2", "c.dc2"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v: the failed call puts a.dc2 behind b.dc2, hearsay c.dc2 last, d.dc2 has left", got, want)
		}
		time.Sleep(penalty)
		firsts := map[string]bool{}
		for range 200 {
			firsts[d.Servers("dc2")[0].Name] = true
		}
		if !firsts["a.dc2"] || !firsts["b.dc2"] || len(firsts) != 2 {
			t.Errorf("first choices after the penalty: %v, want a.dc2 and b.dc2 at random", firsts)
		}
		d.Report("a.dc2", errors.New("silent"))
		d.Report("a.dc2", nil)
		if !d.Answering("a.dc2") {
			t.Error("a server that answered again is still avoided")
		}
	})
}

func TestDatacentersByDistance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p, _ := start(t, map[string]time.Duration{"a.near": 10 * time.Millisecond, "b.near": 500 * time.Millisecond, "c.near": 20 * time.Millisecond, "a.far": 90 * time.Millisecond}, nil)
		p.set(member("x.dc1", gossip.Alive), member("a.far", gossip.Alive), member("a.zz", gossip.Alive), member("a.yy", gossip.Failed),
			member("a.near", gossip.Alive), member("b.near", gossip.Alive), member("c.near", gossip.Alive))
		if got, want := d.Datacenters(), []string{"dc1", "near", "far", "yy", "zz"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		d, p, reg := start(t, nil, func(s Server) { seen = append(seen, s.Name+" "+s.Status.String()) })
		p.set(member("a.dc2", gossip.Left), member("a.dc3", gossip.Failed), gossip.Member{Name: "odd", Tags: map[string]string{"role": "consul"}},
			gossip.Member{Name: "liar.dc4", Tags: map[string]string{"role": "consul", "dc": "dc5"}, Status: gossip.Alive})
		for dc, want := range map[string]bool{"dc1": true, "dc2": false, "dc3": true, "dc4": false, "dc5": false, "dc9": false} {
			if d.Known(dc) != want {
				t.Errorf("Known(%s) = %v, want %v", dc, !want, want)
			}
		}
		p.set(member("a.dc3", gossip.Alive))
		slices.Sort(seen)
		if want := []string{"a.dc2 left", "a.dc3 alive", "a.dc3 failed"}; !slices.Equal(seen, want) {
			t.Errorf("OnServer heard %v, want %v", seen, want)
		}
		if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP landbridge_federation_datacenters Datacenters known to this server, its own included.
# TYPE landbridge_federation_datacenters gauge
landbridge_federation_datacenters 2
`), "landbridge_federation_datacenters"); err != nil {
			t.Error(err)
		}
	})
}
