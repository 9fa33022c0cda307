package gossip_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"landbridge/lan/gossip"
	"landbridge/lan/gossip/gossiptest"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addrOf(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 8301)
}

type option func(*gossip.Config)

// agent starts a pool member "n<i>" at addrOf(i).
func agent(t *testing.T, net *gossiptest.Network, i int, opts ...option) *gossip.Pool {
	t.Helper()
	p, err := newAgent(net, i, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

func newAgent(net *gossiptest.Network, i int, opts ...option) (*gossip.Pool, error) {
	cfg := gossip.Config{
		Name: fmt.Sprintf("n%d", i), ID: fmt.Sprintf("id-%d", i), Datacenter: "dc1",
		Tags:    map[string]string{"role": "node"},
		Profile: gossip.LAN(), Transport: net.Listen(addrOf(i)),
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	for _, o := range opts {
		o(&cfg)
	}
	return gossip.New(cfg)
}

func stop(t *testing.T, p *gossip.Pool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func join(t *testing.T, p *gossip.Pool, to ...int) {
	t.Helper()
	addrs := make([]string, len(to))
	for i, n := range to {
		addrs[i] = addrOf(n).String()
	}
	if n, err := p.Join(t.Context(), addrs); n != len(to) || err != nil {
		t.Fatalf("join %v = %d, %v", addrs, n, err)
	}
}

func status(p *gossip.Pool, name string) gossip.Status {
	for _, m := range p.Members() {
		if m.Name == name {
			return m.Status
		}
	}
	return gossip.None
}

// until waits, at most d, for cond; it looks every 100 ms of virtual time.
func until(t *testing.T, d time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !cond() {
		if time.Since(began) > d {
			t.Fatalf("not within %s: %s", d, what)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(began)
}

func TestTwentyMembersFindADeadOne(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		const n = 20
		net := gossiptest.NewNetwork(7)
		net.SetDelay(time.Millisecond)
		net.SetLoss(0.02)
		var pools []*gossip.Pool
		for i := range n {
			p := agent(t, net, i)
			defer stop(t, p)
			if i > 0 {
				join(t, p, 0)
			}
			pools = append(pools, p)
		}
		all := func(name string, want gossip.Status) func() bool {
			return func() bool {
				for _, p := range pools {
					if status(p, name) != want {
						return false
					}
				}
				return true
			}
		}
		for i := range n {
			// Gossip may pass one of twenty by; the next exchange of full states does not.
			until(t, 90*time.Second, "all know all", all(fmt.Sprintf("n%d", i), gossip.Alive))
		}
		m := pools[3].Members()[0]
		if m.Tags["dc"] != "dc1" || m.Tags["id"] == "" || m.Tags["role"] != "node" || !m.Addr.IsValid() || m.ProtocolMax == 0 || m.DelegateCur == 0 {
			t.Errorf("member = %+v, want tags, address and versions", m)
		}

		net.Crash(addrOf(5))
		dead := pools[5]
		pools = append(pools[:5:5], pools[6:]...)
		d := until(t, 15*time.Second, "the dead one is found", all("n5", gossip.Failed))
		t.Logf("found dead after %s", d)
		stop(t, dead)
		for i := range n {
			if i != 5 && !all(fmt.Sprintf("n%d", i), gossip.Alive)() {
				t.Errorf("n%d is not alive everywhere", i)
			}
		}
		forgotten := all("n5", gossip.None)
		until(t, 30*time.Second, "the dead one is forgotten", func() bool {
			// Lost packets may keep the word from one of twenty: it is said again.
			if err := pools[0].RemoveFailed("n5", true); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			return forgotten()
		})
	})
}

func TestLeaveAndComeBack(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		a, b := agent(t, net, 1), agent(t, net, 2)
		defer stop(t, a)
		join(t, b, 1)
		time.Sleep(time.Second) // the events of the join have passed
		events, cancel := a.Subscribe()
		defer cancel()
		began := time.Now()
		if err := b.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > 4*time.Second {
			t.Errorf("leaving took %s, want a few seconds at most", d)
		}
		stop(t, b)
		until(t, 5*time.Second, "n2 has left", func() bool { return status(a, "n2") == gossip.Left })
		b = agent(t, net, 2)
		defer stop(t, b)
		join(t, b, 1)
		until(t, 5*time.Second, "n2 is back", func() bool { return status(a, "n2") == gossip.Alive })
		time.Sleep(time.Minute)
		if s := status(a, "n2"); s != gossip.Alive {
			t.Errorf("n2 is %s a minute after its return", s)
		}
		var kinds []string
		for len(events) > 0 {
			ev := <-events
			kinds = append(kinds, ev.Kind.String()+" "+ev.Members[0].Name)
		}
		if got := strings.Join(kinds, ", "); got != "left n2, joined n2" {
			t.Errorf("events = %q", got)
		}
	})
}

// TestPrunedMemberComesBack: the others forgot a member behind a cut, and it finds them
// again when the cut is healed: for all it is alive soon, and stays so.
func TestPrunedMemberComesBack(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(3)
		var pools []*gossip.Pool
		for i := range 4 {
			p := agent(t, net, i)
			defer stop(t, p)
			if i > 0 {
				join(t, p, 0)
			}
			pools = append(pools, p)
		}
		all := func(want gossip.Status) func() bool {
			return func() bool {
				for _, p := range pools[:3] {
					if status(p, "n3") != want {
						return false
					}
				}
				return true
			}
		}
		until(t, time.Minute, "all know it", all(gossip.Alive))
		for i := range 3 {
			net.Cut(addrOf(i), addrOf(3))
		}
		until(t, time.Minute, "it has failed", all(gossip.Failed))
		until(t, time.Minute, "all have failed to it", func() bool { return len(living(pools[3])) == 1 })
		until(t, time.Minute, "it is forgotten", func() bool {
			if err := pools[0].RemoveFailed("n3", true); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			return all(gossip.None)()
		})
		for i := range 3 {
			net.Heal(addrOf(i), addrOf(3))
		}
		until(t, 3*time.Minute, "it is known again", func() bool { return status(pools[0], "n3") != gossip.None })
		until(t, 5*time.Second, "it is alive for all", all(gossip.Alive))
		time.Sleep(2 * time.Minute)
		if !all(gossip.Alive)() {
			t.Error("it did not stay alive")
		}
	})
}

func living(p *gossip.Pool) (names []string) {
	for _, m := range p.Members() {
		if m.Status == gossip.Alive {
			names = append(names, m.Name)
		}
	}
	return names
}

func TestSetTags(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		a, b := agent(t, net, 1), agent(t, net, 2)
		defer stop(t, a)
		defer stop(t, b)
		join(t, b, 1)
		if err := b.SetTags(map[string]string{"role": "consul", "dc": "lies"}); err != nil {
			t.Fatal(err)
		}
		until(t, 5*time.Second, "the tags arrive", func() bool {
			for _, m := range a.Members() {
				if m.Name == "n2" {
					return m.Tags["role"] == "consul" && m.Tags["dc"] == "dc1" && m.Tags["id"] == "id-2"
				}
			}
			return false
		})
		if m := b.Local(); m.Tags["role"] != "consul" || m.AddrPort() != addrOf(2) {
			t.Errorf("local = %+v", m)
		}
		if err := b.SetTags(map[string]string{"x": strings.Repeat("long", 200)}); err == nil {
			t.Error("tags beyond the limit were accepted")
		}
	})
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name string
		opt  option
		want string
	}{
		{"another datacenter", func(c *gossip.Config) { c.Datacenter = "dc2" }, `is in datacenter "dc1", this pool is of "dc2"`},
		{"a taken name", func(c *gossip.Config) { c.Name = "n1" }, `node name "n1" is held by node id-2 at 10.0.0.2:8301 and wanted by node id-1 at 10.0.0.1:8301`},
		{"a taken id", func(c *gossip.Config) { c.ID = "id-1" }, `node id id-1 is held by "n2" at 10.0.0.2:8301 and wanted by "n1" at 10.0.0.1:8301`},
		{"a hook's refusal", func(c *gossip.Config) {
			c.Admit = func(m gossip.Member) error { return fmt.Errorf("%s looks odd", m.Name) }
		}, `"n1": n1 looks odd`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gossiptest.Bubble(t, func(t *testing.T) {
				net := gossiptest.NewNetwork(1)
				a, b := agent(t, net, 1), agent(t, net, 2, tt.opt)
				defer stop(t, a)
				defer stop(t, b)
				_, err := b.Join(t.Context(), []string{addrOf(1).String()})
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("join = %v, want %q", err, tt.want)
				}
				time.Sleep(time.Minute)
				if na, nb := len(a.Members()), len(b.Members()); na != 1 && tt.name != "a hook's refusal" || nb != 1 {
					t.Errorf("members = %d and %d, want the pools apart", na, nb)
				}
			})
		})
	}
}

// One member that is kept out keeps nobody else out.
func TestKeptOut(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		a, b := agent(t, net, 1), agent(t, net, 2)
		defer stop(t, a)
		defer stop(t, b)
		if _, err := b.Join(t.Context(), []string{addrOf(1).String()}); err != nil {
			t.Fatal(err)
		}
		c := agent(t, net, 3, func(c *gossip.Config) {
			c.Admit = func(m gossip.Member) error {
				if m.Name == "n2" {
					return fmt.Errorf("it was evicted: %w", gossip.ErrKeptOut)
				}
				return nil
			}
		})
		defer stop(t, c)
		if _, err := c.Join(t.Context(), []string{addrOf(1).String()}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		for _, m := range c.Members() {
			if m.Name == "n2" {
				t.Error("n2 is a member")
			}
		}
		if len(c.Members()) != 2 {
			t.Errorf("members %v, want n1 and n3", c.Members())
		}
	})
}

// TestPoolsApart: both sides refuse to become one, and stay as they were.
func TestPoolsApart(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		of := func(color string) option {
			return func(c *gossip.Config) {
				c.Tags = map[string]string{"color": color}
				c.AdmitPool = func(m gossip.Member) error {
					if theirs := m.Tags["color"]; theirs != color {
						return fmt.Errorf("it is %s", theirs)
					}
					return nil
				}
			}
		}
		a, b := agent(t, net, 1, of("red")), agent(t, net, 2, of("red"))
		c, d := agent(t, net, 3, of("blue")), agent(t, net, 4, of("blue"))
		pools := []*gossip.Pool{a, b, c, d}
		for _, p := range pools {
			defer stop(t, p)
		}
		join(t, a, 2)
		join(t, c, 4)
		if _, err := a.Join(t.Context(), []string{addrOf(3).String()}); err == nil || !strings.Contains(err.Error(), ": it is blue") {
			t.Errorf("join = %v", err)
		}
		time.Sleep(time.Minute)
		for i, p := range pools {
			if n := len(p.Members()); n != 2 {
				t.Errorf("n%d has %d members", i+1, n)
			}
		}
	})
}

// TestNameIsFreeAfterFailure: a machine is replaced by another with its name.
func TestNameIsFreeAfterFailure(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		a, b, c := agent(t, net, 1), agent(t, net, 2), agent(t, net, 3)
		defer stop(t, a)
		defer stop(t, c)
		join(t, b, 1)
		join(t, c, 1)
		net.Crash(addrOf(2))
		stop(t, b)
		until(t, 20*time.Second, "n2 failed", func() bool { return status(a, "n2") == gossip.Failed && status(c, "n2") == gossip.Failed })
		time.Sleep(6 * time.Second) // a failed member's address may change then
		b = agent(t, net, 4, func(c *gossip.Config) { c.Name, c.ID = "n2", "another" })
		defer stop(t, b)
		join(t, b, 1)
		until(t, 10*time.Second, "the new n2 is alive", func() bool { return status(a, "n2") == gossip.Alive && status(c, "n2") == gossip.Alive })
	})
}

// TestRename: the same address and id, another name: accepted at once, though the
// others have not missed the old name yet.
func TestRename(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		a, b := agent(t, net, 1), agent(t, net, 2)
		defer stop(t, a)
		join(t, b, 1)
		net.Crash(addrOf(2))
		stop(t, b)
		b = agent(t, net, 2, func(c *gossip.Config) { c.Name = "renamed" })
		defer stop(t, b)
		join(t, b, 1)
		until(t, 5*time.Second, "the new name is known", func() bool { return status(a, "renamed") == gossip.Alive })
	})
}

// TestRestartInPlace: the same address, name and no data: accepted at once.
func TestRestartInPlace(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		a, b := agent(t, net, 1), agent(t, net, 2)
		defer stop(t, a)
		join(t, b, 1)
		net.Crash(addrOf(2))
		stop(t, b)
		b = agent(t, net, 2, func(c *gossip.Config) { c.ID = "another" })
		defer stop(t, b)
		join(t, b, 1)
		until(t, 5*time.Second, "the new id is known", func() bool {
			for _, m := range a.Members() {
				if m.Name == "n2" {
					return m.Status == gossip.Alive && m.Tags["id"] == "another"
				}
			}
			return false
		})
	})
}

func TestPartitionHeals(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(3)
		a, b := agent(t, net, 1), agent(t, net, 2)
		defer stop(t, a)
		defer stop(t, b)
		join(t, b, 1)
		net.Cut(addrOf(1), addrOf(2))
		until(t, 20*time.Second, "both find the other failed", func() bool {
			return status(a, "n2") == gossip.Failed && status(b, "n1") == gossip.Failed
		})
		net.Heal(addrOf(1), addrOf(2))
		until(t, 2*time.Minute, "both are back", func() bool {
			return status(a, "n2") == gossip.Alive && status(b, "n1") == gossip.Alive
		})
	})
}

func TestJoinReportsEachAddress(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		a, b := agent(t, net, 1), agent(t, net, 2)
		defer stop(t, a)
		defer stop(t, b)
		net.Cut(addrOf(2), addrOf(8))
		net.Cut(addrOf(2), addrOf(9))
		began := time.Now()
		n, err := b.Join(t.Context(), []string{addrOf(7).String(), addrOf(8).String(), addrOf(9).String(), "bad:port", "10.0.0.1"})
		if n != 0 && err != nil || n != 1 && err == nil {
			t.Errorf("join = %d, %v", n, err)
		}
		if d := time.Since(began); d > 11*time.Second {
			t.Errorf("three dead addresses took %s, want one time-out", d)
		}
		_, err = b.Join(t.Context(), []string{addrOf(7).String(), addrOf(8).String(), "bad:port"})
		for _, want := range []string{"10.0.0.7:8301", "10.0.0.8:8301", "bad:port"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error does not name %s: %v", want, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if _, err := b.Join(ctx, []string{addrOf(8).String()}); err == nil || time.Since(began) > time.Second {
			t.Errorf("join with a deadline of 1s = %v after %s", err, time.Since(began))
		}
	})
}

func TestSlowSubscriberGetsOneResync(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		a, b := agent(t, net, 1), agent(t, net, 2)
		defer stop(t, a)
		join(t, b, 1)
		slow, cancel := a.Subscribe()
		defer cancel()
		stop(t, b)
		for range 150 { // each return and each departure is an event
			b := agent(t, net, 2)
			join(t, b, 1)
			time.Sleep(time.Second) // serf refutes the old departure in the background
			_ = b.Leave(t.Context())
			stop(t, b)
			until(t, 10*time.Second, "n2 has left", func() bool { return status(a, "n2") == gossip.Left })
		}
		first := <-slow
		if first.Kind != gossip.Resync || len(slow) > 256 {
			t.Errorf("first of %d events = %s, want resync", len(slow)+1, first.Kind)
		}
		cancel()
		cancel()
		for range slow { // closed
		}
	})
}

func TestLifecycle(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		p, err := newAgent(net, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Join(t.Context(), []string{"10.0.0.2"}); err == nil {
			t.Error("joined before start")
		}
		if m := p.Local(); m.Name != "n1" || m.Tags["dc"] != "dc1" || len(p.Members()) != 0 {
			t.Errorf("before start: local %+v, %d members", m, len(p.Members()))
		}
		stop(t, p) // before start
		stop(t, p) // twice
		if err := p.Start(t.Context()); err == nil {
			t.Error("started after stop")
		}
		q := agent(t, net, 1)
		if err := q.Start(t.Context()); err == nil {
			t.Error("started twice")
		}
		events, _ := q.Subscribe()
		stop(t, q)
		for range events { // closed by Stop
		}
		if _, ok := <-events; ok {
			t.Error("channel open after stop")
		}
		if closed, _ := q.Subscribe(); closed != nil {
			if _, ok := <-closed; ok {
				t.Error("subscribed after stop")
			}
		}
	})
}

// A stop while leaves are under way waits for the first and refuses the second.
func TestStopDuringLeave(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		p, q := agent(t, net, 1), agent(t, net, 2)
		join(t, q, 1)
		var left [2]chan error // one each: they may end at the same moment, in any order
		for i := range left {
			left[i] = make(chan error, 1)
			go func() { left[i] <- p.Leave(t.Context()) }()
			time.Sleep(50 * time.Millisecond)
		}
		stop(t, p)
		if first, second := <-left[0], <-left[1]; first != nil || !errors.Is(second, gossip.ErrNotRunning) {
			t.Errorf("the leaves ended with %v and %v", first, second)
		}
		until(t, 5*time.Second, "the leave is known", func() bool { return status(q, "n1") == gossip.Left })
		stop(t, q)
	})
}

func TestOwnAddressOutsideTheCIDRs(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		p, err := newAgent(gossiptest.NewNetwork(1), 1, func(c *gossip.Config) {
			c.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "CIDR") {
			t.Errorf("start = %v, want an error about CIDRs", err)
		}
		stop(t, p)
	})
}

// A client agent may ask to be forgotten earlier; servers are kept.
func TestAdvertisedReconnectTimeout(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		a := agent(t, net, 1)
		defer stop(t, a)
		for i, role := range map[int]string{2: "node", 3: "consul"} {
			p := agent(t, net, i, func(c *gossip.Config) {
				c.Tags = map[string]string{"role": role, gossip.ReconnectTag: "2m"}
			})
			join(t, p, 1)
			stop(t, p)
		}
		time.Sleep(3 * time.Minute)
		if got, server := status(a, "n2"), status(a, "n3"); got != gossip.None || server != gossip.Failed {
			t.Errorf("three minutes after they died the client agent is %v and the server %v, want none and failed", got, server)
		}
	})
}

func TestValidateNamesAllProblems(t *testing.T) {
	_, err := gossip.New(gossip.Config{Name: "a b", Scope: "moon", Key: []byte("short")})
	for _, want := range []string{"node name", "datacenter", "Bind", "scope", "gossip_nodes", "Logger", "Registerer", "encrypt has invalid key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %q: %v", want, err)
		}
	}
}

// TestRealSockets runs two agents on UDP and TCP of the loopback.
func TestRealSockets(t *testing.T) {
	start := func(name string) *gossip.Pool {
		p, err := gossip.New(gossip.Config{
			Name: name, ID: name, Datacenter: "dc1", Profile: gossip.LAN(), Bind: netip.MustParseAddrPort("127.0.0.1:0"),
			Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return p
	}
	a, b := start("a"), start("b")
	defer stop(t, a)
	defer stop(t, b)
	events, cancel := a.Subscribe()
	defer cancel()
	if n, err := b.Join(t.Context(), []string{a.Local().AddrPort().String()}); n != 1 || err != nil {
		t.Fatalf("join = %d, %v", n, err)
	}
	deadline := time.After(5 * time.Second)
	for {
		select {
		case ev := <-events: // a's own joining may come first
			if ev.Kind == gossip.Joined && ev.Members[0].Name == "b" {
				return
			}
		case <-deadline:
			t.Fatal("no event about b within 5s")
		}
	}
}
