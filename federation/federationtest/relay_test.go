package federationtest_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"landbridge/federation"
	. "landbridge/federation/federationtest"
	"landbridge/federation/node"
)

func relay(c *node.Config) { c.Relay = c.Server }

// routes returns nil when every running agent of from reads from to, and all answers
// came through a server of via; "" is none.
func routes(from, to *Datacenter, via string) error {
	errs := make(chan error)
	n := 0
	for _, h := range from.Hosts() {
		if !h.Running() {
			continue
		}
		n++
		go func() {
			reply, err := h.Call(context.Background(), "GET", "/v1/kv/here?raw&stale&dc="+to.Name, "")
			switch {
			case err != nil:
			case reply.Code != 200 || reply.Body != to.Name:
				err = fmt.Errorf("%s reads %d %q", h.Name, reply.Code, reply.Body)
			case !through(reply.Header, via):
				err = fmt.Errorf("%s has an answer by the route %q, want it through %q", h.Name, reply.Header.Get("X-Landbridge-Route"), via)
			}
			errs <- err
		}()
	}
	var all []error
	for range n {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

func through(h http.Header, dc string) bool {
	_, via, ok := strings.Cut(h.Get("X-Landbridge-Route"), "via=")
	if dc == "" {
		return !ok
	}
	via, _, _ = strings.Cut(via, ",")
	return ok && strings.HasSuffix(via, "."+dc)
}

// three datacenters of which east and west have no path once cut is called.
func three(f *Federation) (east, middle, west *Datacenter, cut func()) {
	east, middle, west = f.DC("east"), f.DC("middle"), f.DC("west")
	f.Slow(east, middle, 40*time.Millisecond)
	f.Slow(middle, west, 40*time.Millisecond)
	f.Slow(east, west, 60*time.Millisecond)
	fill(f, east, middle, west)
	f.Must(middle.Server(0).Join(east.Server(0)))
	f.Await(2*time.Second, "east and middle read from each other", bothWays(east, middle))
	f.Must(west.Server(0).Join(middle.Server(0)))
	f.Await(5*time.Second, "all read from all", func() error {
		return errors.Join(bothWays(east, middle)(), bothWays(middle, west)(), bothWays(east, west)())
	})
	return east, middle, west, func() { f.Partition(east, west) }
}

// Two datacenters lose their path: calls of all kinds go through the third, which
// says so, and no slower than its two legs are long; when there is a path again,
// they take it, and waiting queries are not woken by any of it.
func TestRelayOfCutPair(t *testing.T) {
	Run(t, func(f *Federation) {
		east, middle, west, cut := three(f)
		f.Must(routes(east, west, ""))
		cut()
		took := f.Await(10*time.Second, "east and west read from each other through middle", func() error {
			return errors.Join(routes(east, west, "middle"), routes(west, east, "middle"))
		})
		t.Logf("all answers came through middle %s after the cut", took)
		began := f.Now()
		f.Must(routes(east, west, "middle"))
		if took := f.Now() - began; took > 90*time.Millisecond {
			t.Errorf("a read through middle took %s, its legs are 40 ms long", took)
		}

		// Writes, and queries that wait.
		c := east.Client(0)
		f.Must(c.Put("there", "one", "dc=west"))
		f.Must(west.Client(0).Expect("there", "one"))
		reply, err := c.Call(context.Background(), "GET", "/v1/kv/there?dc=west", "")
		f.Must(err)
		woken := make(chan string, 1)
		index := reply.Header.Get("X-Consul-Index")
		go func() {
			reply, err := c.Call(context.Background(), "GET", "/v1/kv/there?raw&dc=west&wait=80s&index="+index, "")
			if err != nil {
				woken <- err.Error()
				return
			}
			woken <- reply.Body
		}()
		time.Sleep(3 * time.Second)

		// What a status says.
		st := status(f, c)
		for _, p := range st.Matrix {
			want := ""
			if p.From != "middle" && p.To != "middle" {
				want = "middle"
			}
			if got := strings.Join(p.Via, " "); (got == "") != (want == "") || want != "" && !strings.Contains(got, "."+want) || p.Reachable != p.Links || p.Unknown {
				t.Errorf("status of %s -> %s: %+v", p.From, p.To, p)
			}
		}

		f.Heal(east, west)
		took = f.Await(15*time.Second, "east and west read from each other directly", func() error {
			return errors.Join(routes(east, west, ""), routes(west, east, ""))
		})
		t.Logf("all answers came directly %s after the healing", took)
		time.Sleep(15 * time.Second) // the last of the calls through middle have ended
		select {
		case got := <-woken:
			t.Fatalf("the waiting query was woken with %q", got)
		default:
		}
		f.Must(west.Server(0).Put("there", "two"))
		if got := <-woken; got != "two" {
			t.Errorf("the waiting query was woken with %q", got)
		}
		for _, h := range middle.Servers() {
			if n := metric(f, h, `landbridge_wan_relay_tunnels{role="relay"}`); n != 0 {
				t.Errorf("%s still carries %v tunnels", h.Name, n)
			}
		}
	}, DC("east", 2).Clients(1), DC("middle", 2).Edit(relay), DC("west", 2).Clients(1))
}

// What is read through a relay may be large, and the legs lossy: it comes over tunnels
// of its own, beside which small reads find the datacenter where it was, and which end
// when there is a direct path.
func TestRelayOfLargeAnswers(t *testing.T) {
	Run(t, func(f *Federation) {
		east, middle, west, cut := three(f)
		var value [256 << 10]byte
		random := rand.NewChaCha8([32]byte{1})
		const values = 12
		for i := range values {
			random.Read(value[:])
			f.Must(west.Server(0).Put(fmt.Sprint("large/", i), string(value[:])))
		}
		large := func() error {
			reply, err := east.Client(0).Call(context.Background(), "GET", "/v1/kv/large/?recurse&dc=west", "")
			if err == nil && (reply.Code != 200 || len(reply.Body) < values*len(value)*4/3) {
				err = fmt.Errorf("%d with %d bytes", reply.Code, len(reply.Body))
			}
			return err
		}
		f.Must(large()) // its connections are of no use once there is no path
		cut()
		f.Await(10*time.Second, "through middle", func() error { return routes(east, west, "middle") })
		f.Lossy(east, middle, 40*time.Millisecond, 0.01)
		f.Lossy(middle, west, 40*time.Millisecond, 0.01)

		done, began, took := make(chan error), f.Now(), time.Duration(0)
		go func() {
			err := large()
			took = f.Now() - began
			done <- err
		}()
		small := steady(f, east.Client(0), west, 10, 10*time.Second)
		f.Must(<-done)
		slowest := slices.MaxFunc(small, func(a, b sample) int { return cmp.Compare(a.took, b.took) })
		t.Logf("%d MB in %s, small reads beside it in %s at most", values*len(value)*4/3>>20, took, slowest.took)
		for _, s := range small {
			if s.err != nil {
				t.Errorf("a small read %s after the large one began: %v", s.at-began, s.err)
			}
		}
		tunnels := func() float64 { return metric(f, middle.Server(0), `landbridge_wan_relay_tunnels{role="relay"}`) }
		if n := tunnels(); n < 3 {
			t.Errorf("middle carries %v tunnels, want some for large answers", n)
		}

		f.Heal(east, west)
		f.Await(15*time.Second, "directly", func() error { return routes(east, west, "") })
		f.Must(large())
		time.Sleep(15 * time.Second) // the last of the calls through middle have ended
		if n := tunnels(); n != 0 {
			t.Errorf("middle still carries %v tunnels", n)
		}
	}, DC("east", 1).Clients(1), DC("middle", 1).Edit(relay), DC("west", 1))
}

func status(f *Federation, h *Host) *federation.Status {
	f.T.Helper()
	reply, err := h.Call(context.Background(), "GET", "/v1/internal/federation", "")
	f.Must(err)
	st := new(federation.Status)
	if err := json.Unmarshal([]byte(reply.Body), st); err != nil {
		f.T.Fatalf("status %q: %v", reply.Body, err)
	}
	return st
}

// metric reads one series, 0 if there is none.
func metric(f *Federation, h *Host, series string) (v float64) {
	f.T.Helper()
	reply, err := h.Call(context.Background(), "GET", "/v1/agent/metrics?format=prometheus", "")
	f.Must(err)
	for line := range strings.Lines(reply.Body) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			if _, err := fmt.Sscan(rest, &v); err != nil {
				f.T.Fatal(err)
			}
		}
	}
	return v
}

// A relay that dies while it carries calls is replaced by another.
func TestRelayDies(t *testing.T) {
	Run(t, func(f *Federation) {
		east, middle, west, cut := three(f)
		cut()
		f.Await(10*time.Second, "through middle", func() error { return routes(east, west, "middle") })
		middle.Server(0).Crash()
		took := f.Await(10*time.Second, "through the other server of middle", func() error { return routes(east, west, "middle") })
		t.Logf("all read %s after the crash of one relay", took)
		middle.Server(1).Crash()
		f.Await(10*time.Second, "there is no relay left", func() error {
			reply, err := east.Client(0).Call(context.Background(), "GET", "/v1/kv/here?stale&dc=west", "")
			if err != nil || reply.Code != 500 || !strings.Contains(reply.Body, `"west"`) {
				return fmt.Errorf("%v, %v", reply, err)
			}
			return nil
		})
		f.Heal(east, west)
		f.Await(15*time.Second, "directly", func() error { return routes(east, west, "") })
	}, DC("east", 1).Clients(1), DC("middle", 2).Edit(relay), DC("west", 2))
}

// Where nobody says federation.relay, nobody carries, and nobody asks.
func TestNoRelay(t *testing.T) {
	Run(t, func(f *Federation) {
		east, middle, _, cut := three(f)
		cut()
		for range 20 {
			reply, err := east.Client(0).Call(context.Background(), "GET", "/v1/kv/here?stale&dc=west", "")
			f.Must(err)
			if reply.Code != 500 || !strings.Contains(reply.Body, `"west"`) {
				t.Errorf("an answer without a path: %d %q", reply.Code, reply.Body)
			}
			time.Sleep(time.Second)
		}
		for _, h := range middle.Servers() {
			if n := metric(f, h, `landbridge_wan_accepts_total{outcome="ok",protocol="relay"}`); n != 0 {
				t.Errorf("%s was asked for %v tunnels", h.Name, n)
			}
		}
	}, DC("east", 1).Clients(1), DC("middle", 1), DC("west", 1))
}

// A secondary that has no path to the primary has its tokens all the same, and an
// evicted server is refused through the tunnel as it is directly.
func TestRelayOfSecondary(t *testing.T) {
	Run(t, func(f *Federation) {
		east, middle, west := f.DC("east"), f.DC("middle"), f.DC("west")
		f.Slow(east, middle, 40*time.Millisecond)
		f.Slow(middle, west, 40*time.Millisecond)
		f.Slow(east, west, 40*time.Millisecond)
		fill(f, east, middle, west)
		f.Must(middle.Server(0).Join(east.Server(0)))
		f.Must(west.Server(0).Join(east.Server(0)))
		f.Await(20*time.Second, "the first copies", func() error { return errors.Join(sameTokens(east, middle)(), sameTokens(east, west)()) })
		f.Partition(east, west)
		f.Await(15*time.Second, "through middle", func() error { return routes(west, east, "middle") })
		for i := range 10 {
			f.Must(createToken(east.Server(0), i))
		}
		took := f.Await(10*time.Second, "the copy through middle", sameTokens(east, west))
		t.Logf("ten tokens were copied %s later", took)

		victim := west.Followers()[0]
		f.Must(asRoot(east.Leader(), http.MethodPut, "/v1/internal/federation/evict", `{"Node":"`+victim.Name+`","Datacenter":"west"}`, nil))
		took = f.Await(30*time.Second, "the evicted server is refused", func() error {
			if err := victim.Expect("here", "east", "dc=east", "stale", "token="+rootSecret); err == nil {
				return errors.New("the evicted server reads through the relay")
			}
			return nil
		})
		t.Logf("refused %s after its eviction", took)
		for range 10 {
			time.Sleep(time.Second)
			if err := victim.Expect("here", "east", "dc=east", "stale", "token="+rootSecret); err == nil {
				t.Error("the evicted server reads again")
			}
		}
		f.Must(west.Leader().Expect("here", "east", "dc=east", "stale"))
	}, DC("east", 1).Edit(withACLs), DC("middle", 1).Edit(withACLs).Edit(relay), DC("west", 3).Edit(withACLs))
}
