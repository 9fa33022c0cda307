package forwarding

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/rpc/rpctest"
	"landbridge/store"
)

// world fakes everything a dispatcher asks for: one lock, a leader, servers by
// name, and the datacenters they belong to.
type world struct {
	mu       sync.Mutex
	leader   string // "self", a server's name, or "" for none
	changed  chan struct{}
	servers  []Peer
	remote   map[string][]Peer
	known    map[string]bool
	answer   map[string]rpc.DoerFunc // by server; "self" is Local
	refused  map[string]bool         // dialing fails
	calls    []string
	lastHops uint8
	outlook  Outlook
}

func newWorld() *world {
	return &world{changed: make(chan struct{}), remote: map[string][]Peer{}, known: map[string]bool{}, answer: map[string]rpc.DoerFunc{}, refused: map[string]bool{}}
}

func (w *world) elect(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leader = name
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) IsLeader() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.leader == "self" }

func (w *world) Do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return w.call(ctx, "self", req)
}

func (w *world) call(ctx context.Context, name string, req *rpc.Request) (*rpc.Response, error) {
	if req.Method == rpc.Ping { // a probe
		return &rpc.Response{}, nil
	}
	w.mu.Lock()
	w.calls = append(w.calls, name)
	w.lastHops = req.Hops
	f := w.answer[name]
	w.mu.Unlock()
	if f == nil {
		return &rpc.Response{Body: []byte(name)}, nil
	}
	return f(ctx, req)
}

func (w *world) Leader() (Peer, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Peer{Name: w.leader}, w.leader != "" && w.leader != "self"
}

func (w *world) Outlook(context.Context) Outlook { return w.outlook }

func (w *world) LeaderChanged() <-chan struct{} { w.mu.Lock(); defer w.mu.Unlock(); return w.changed }

func (w *world) Servers() []Peer { w.mu.Lock(); defer w.mu.Unlock(); return w.servers }

func (w *world) Failed(p Peer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.servers = append(w.servers[1:], w.servers[0])
}

func (w *world) Dial(_ context.Context, p Peer) (rpc.Doer, error) {
	w.mu.Lock()
	refused := w.refused[p.Name]
	w.mu.Unlock()
	if refused {
		return nil, errors.New("connection refused")
	}
	return rpc.DoerFunc(func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		return w.call(ctx, p.Name, req)
	}), nil
}

// refuse has dialing these fail, and no others.
func (w *world) refuse(names ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.refused)
	for _, name := range names {
		w.refused[name] = true
	}
}

type fakeWAN struct{ *world }

func (w fakeWAN) Known(dc string) bool     { return w.known[dc] }
func (w fakeWAN) Servers(dc string) []Peer { return w.remote[dc] }
func (w fakeWAN) Ready(Peer) rpc.Doer      { return nil }
func (w fakeWAN) Loss(string) float64      { return 0 }
func (w fakeWAN) RTT(string) time.Duration { return 0 }
func (w fakeWAN) Report(string, error)     {}

func (w *world) dispatcher(t *testing.T, server, federated bool) *Dispatcher {
	cfg := Config{
		Datacenter: "dc1", LAN: w, HoldTimeout: 7 * time.Second, Limits: Limits{ClientTimeout: time.Minute},
		DefaultQueryTime: 5 * time.Minute, MaxQueryTime: 10 * time.Minute,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: prometheus.NewRegistry(),
	}
	if server {
		cfg.Local = w
	}
	if federated {
		cfg.WAN = fakeWAN{w}
	}
	d := New(cfg)
	t.Cleanup(func() { d.Stop(context.Background()) })
	return d
}

func fails(kind store.Kind, text string) rpc.DoerFunc {
	return func(context.Context, *rpc.Request) (*rpc.Response, error) {
		return nil, store.Errorf(kind, "%s", text)
	}
}

func (w *world) trace() string { w.mu.Lock(); defer w.mu.Unlock(); return strings.Join(w.calls, " ") }

var (
	read  = rpc.Request{Method: rpc.KVGet}
	stale = rpc.Request{Method: rpc.KVGet, Consistency: store.Stale}
	write = rpc.Request{Method: rpc.KVApply}
)

func with(r rpc.Request, change func(*rpc.Request)) *rpc.Request { change(&r); return &r }

func inDC2(r *rpc.Request) { r.Datacenter = "dc2" }

func TestWhereRequestsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name   string
			leader string
			server bool
			req    *rpc.Request
			want   string
		}{
			{"read on the leader", "self", true, &read, "self"},
			{"read on a follower goes to the leader", "s2", true, &read, "s2"},
			{"stale read stays on the follower", "s2", true, &stale, "self"},
			{"stale read without a leader", "", true, &stale, "self"},
			{"write on a follower goes to the leader", "s2", true, &write, "s2"},
			{"stale write still goes to the leader", "s2", true, with(write, func(r *rpc.Request) { r.Consistency = store.Stale }), "s2"},
			{"status on a follower stays", "s2", true, &rpc.Request{Method: rpc.StatusLeader}, "self"},
			{"own datacenter by name", "self", true, with(read, func(r *rpc.Request) { r.Datacenter = "dc1" }), "self"},
			{"client agent asks its first server", "", false, &read, "s2"},
			{"client agent passes other datacenters on", "", false, with(read, inDC2), "s2"},
			{"server asks the other datacenter", "self", true, with(read, inDC2), "r1.dc2"},
		} {
			w := newWorld()
			w.leader = c.leader
			w.servers = []Peer{{Name: "s2"}, {Name: "s3"}}
			w.remote["dc2"] = []Peer{{Name: "r1.dc2"}}
			if _, err := w.dispatcher(t, c.server, c.server).Do(t.Context(), c.req); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if got := w.trace(); got != c.want {
				t.Errorf("%s: ran on %q, want %q", c.name, got, c.want)
			}
			if wantHops := uint8(1); c.want != "self" && w.lastHops != wantHops {
				t.Errorf("%s: hops %d, want %d", c.name, w.lastHops, wantHops)
			}
		}
	})
}

func TestHoldsForALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		go func() { time.Sleep(3 * time.Second); w.elect("s2") }()
		start := time.Now()
		if _, err := w.dispatcher(t, true, true).Do(t.Context(), &write); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("a new leader was used after %s, want at once (3s)", took)
		}
	})
}

func TestNoLeaderAfterTheHoldTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := newWorld().dispatcher(t, true, true).Do(t.Context(), &read)
		if !errors.Is(err, store.ErrNoLeader) || time.Since(start) != 7*time.Second {
			t.Errorf("got %v after %s, want %v after 7s", err, time.Since(start), store.ErrNoLeader)
		}
	})
}

// A server that stops does not keep requests waiting for a leader: whoever sent them
// asks one that goes on.
func TestNobodyWaitsAtAServerThatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newWorld().dispatcher(t, true, true)
		start := time.Now()
		time.AfterFunc(time.Second, func() { d.Stop(context.Background()) })
		for range 2 { // one that waits, one that comes later
			_, err := d.Do(t.Context(), &write)
			if !errors.Is(err, store.ErrNoLeader) || time.Since(start) != time.Second {
				t.Errorf("got %v after %s, want %v after 1s", err, time.Since(start), store.ErrNoLeader)
			}
		}
	})
}

func TestWritesOfUnknownOutcomeAreNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			req  *rpc.Request
			want string
		}{{&write, "s2"}, {&read, "s2 self"}} {
			w := newWorld()
			w.leader = "s2"
			w.answer["s2"] = func(context.Context, *rpc.Request) (*rpc.Response, error) {
				w.elect("self")
				return nil, store.Errorf(store.KindMaybeApplied, "leadership lost while committing log")
			}
			_, err := w.dispatcher(t, true, true).Do(t.Context(), c.req)
			if got := w.trace(); got != c.want {
				t.Errorf("tried %q, want %q (err %v)", got, c.want, err)
			}
		}
	})
}

func TestClientAgentRotates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.servers = []Peer{{Name: "s1"}, {Name: "s2"}}
		w.refused["s1"] = true
		resp, err := w.dispatcher(t, false, false).Do(t.Context(), &write)
		if err != nil || string(resp.Body) != "s2" {
			t.Errorf("got %v, %v; want an answer of s2", resp, err)
		}
		w.servers = nil
		if _, err := w.dispatcher(t, false, false).Do(t.Context(), &write); !errors.Is(err, store.ErrNoServers) {
			t.Errorf("without servers: %v, want %v", err, store.ErrNoServers)
		}
	})
}

// behindASession is the world of a client agent whose server s1 answers by do over a
// real session, until end; s2 answers by its name.
func behindASession(t *testing.T, do rpc.DoerFunc) (w *world, client *rpc.Client, end func()) {
	ours, theirs := rpctest.Pipe()
	srv := rpc.NewServer(rpc.ServerConfig{Handler: do, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	served := make(chan error)
	go func() { served <- srv.ServeSession(t.Context(), theirs, rpc.FromLAN, "c1") }()
	client = rpc.NewClient(ours, rpc.ClientConfig{Name: "s1", Lanes: 1})
	w = newWorld()
	w.servers = []Peer{{Name: "s1"}, {Name: "s2"}}
	w.answer["s1"] = client.Do
	return w, client, func() { _ = client.Close(); <-served }
}

// A server that answers that it could not reach somebody is not at fault: a client
// agent stays with it, and takes its word on another datacenter.
func TestClientAgentStaysWithAServerThatAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		w, client, end := behindASession(t, func(context.Context, *rpc.Request) (*rpc.Response, error) {
			if asked++; asked > 1 {
				return &rpc.Response{}, nil
			}
			return nil, store.Errorf(store.KindUnreachable, "nobody is there")
		})
		away := write
		away.Datacenter = "dc2"
		_, err := w.dispatcher(t, false, false).Do(t.Context(), &away)
		if !rpc.Answered(err) || store.KindOf(err) != store.KindUnreachable || asked != 1 {
			t.Errorf("got %v after %d calls, want the server's own answer after one", err, asked)
		}
		asked = 0
		if _, err := w.dispatcher(t, false, false).Do(t.Context(), &write); err != nil || asked != 2 {
			t.Errorf("got %v after %d calls of s1, want an answer of the second", err, asked)
		}
		end()
		if _, err := client.Do(t.Context(), &write); err == nil || rpc.Answered(err) {
			t.Errorf("a closed client gives %v, want an error that is no answer", err)
		}
	})
}

// A server that is about to stop, or has just started, is not the last word on another
// datacenter: another one is asked.
func TestClientAgentAsksAnotherServerOnTheWay(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error // of s1
	}{
		{"about to stop", store.Errorf(store.KindUnreachable, "this server is stopping, the call was not run")},
		{"just started", store.ErrNoPath},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			w, client, end := behindASession(t, func(context.Context, *rpc.Request) (*rpc.Response, error) { asked++; return nil, c.err })
			away := write
			away.Datacenter = "dc2"
			resp, err := w.dispatcher(t, false, false).Do(t.Context(), &away)
			if err != nil || string(resp.Body) != "s2" || asked != 1 {
				t.Errorf("%s: got %v, %v after %d calls of s1; want an answer of s2", c.name, resp, err, asked)
			}
			// Nobody knows the way.
			w.answer["s2"] = client.Do
			asked = 0
			if _, err = w.dispatcher(t, false, false).Do(t.Context(), &away); store.KindOf(err) != store.KindOf(c.err) || c.err == store.ErrNoPath && asked != 2 {
				t.Errorf("%s: of both: %v after %d calls", c.name, err, asked)
			}
			end()
		})
	}
}

func TestOtherDatacenters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name   string
			setup  func(w *world)
			req    *rpc.Request
			trace  string
			kind   store.Kind
			errHas string
		}{
			{name: "never seen", setup: func(w *world) { delete(w.remote, "dc2") }, req: with(read, inDC2), kind: store.KindNoPath, errHas: "No path to datacenter"},
			{name: "all gone but known", setup: func(w *world) { delete(w.remote, "dc2"); w.known["dc2"] = true }, req: with(read, inDC2), kind: store.KindUnreachable, errHas: `dc "dc2": no server is reachable`},
			{name: "a dead server is passed over", setup: func(w *world) { w.refused["r1.dc2"] = true }, req: with(write, inDC2), trace: "r2.dc2"},
			{name: "a write that was sent is not sent twice", setup: func(w *world) { w.first(fails(store.KindMaybeApplied, "EOF")) }, req: with(write, inDC2), trace: "first", kind: store.KindMaybeApplied, errHas: `rpc error making call: dc "dc2": EOF; tried `},
			{name: "a read is", setup: func(w *world) { w.first(fails(store.KindMaybeApplied, "EOF")) }, req: with(read, inDC2), trace: "first second"},
			{name: "no leader there", setup: func(w *world) { w.all(fails(store.KindNoLeader, "No cluster leader")) }, req: with(read, inDC2), trace: "first second", kind: store.KindNoLeader, errHas: `rpc error making call: dc "dc2": No cluster leader`},
			{name: "refusals pass unchanged", setup: func(w *world) { w.all(fails(store.KindPermissionDenied, "Permission denied")) }, req: with(read, inDC2), trace: "first", kind: store.KindPermissionDenied, errHas: "Permission denied"},
			{name: "local only", setup: func(*world) {}, req: &rpc.Request{Method: rpc.TrustJoin, Datacenter: "dc2"}, kind: store.KindInvalid, errHas: "Trust.Join"},
			{name: "unknown method", setup: func(*world) {}, req: &rpc.Request{Method: 9999}, kind: store.KindInvalid, errHas: "9999"},
			{name: "a loop ends", setup: func(*world) {}, req: with(read, func(r *rpc.Request) { r.Hops = rpc.MaxHops + 1 }), kind: store.KindUnreachable, errHas: "loop"},
		} {
			w := newWorld()
			w.leader = "self"
			w.remote["dc2"] = []Peer{{Name: "r1.dc2"}, {Name: "r2.dc2"}}
			c.setup(w)
			_, err := w.dispatcher(t, true, true).Do(t.Context(), c.req)
			if c.errHas == "" {
				if err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			} else if err == nil || store.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.errHas) {
				t.Errorf("%s: got %v (kind %d), want kind %d with %q", c.name, err, store.KindOf(err), c.kind, c.errHas)
			}
			got := w.trace()
			switch c.trace { // servers are tried in any order
			case "first":
				c.trace = w.calls[0]
			case "first second":
				if c.trace = "r1.dc2 r2.dc2"; strings.HasPrefix(got, "r2") {
					c.trace = "r2.dc2 r1.dc2"
				}
			}
			if got != c.trace {
				t.Errorf("%s: tried %q, want %q", c.name, got, c.trace)
			}
		}
	})
}

// first has the first of two servers of the other datacenter that is asked answer
// so, whichever it is; all has both.
func (w *world) first(f rpc.DoerFunc) {
	asked := false
	w.all(func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		if asked {
			return &rpc.Response{}, nil
		}
		asked = true
		return f(ctx, req)
	})
}

func (w *world) all(f rpc.DoerFunc) { w.answer["r1.dc2"], w.answer["r2.dc2"] = f, f }

// A server of another datacenter gets answers of ours, and none of a third.
func TestRequestsOfOthersAreNotPassedOn(t *testing.T) {
	w := newWorld()
	w.leader = "self"
	w.known["dc2"], w.remote["dc2"] = true, []Peer{{Name: "r1"}}
	d := w.dispatcher(t, true, true)
	for _, r := range []rpc.Request{read, stale, write, {Method: rpc.SnapshotSave}} {
		fromWAN := func(r *rpc.Request) { r.Origin, r.Peer = rpc.FromWAN, "s1.dc3" }
		if _, err := d.Do(t.Context(), with(r, fromWAN)); err != nil {
			t.Errorf("method %d for us: %v", r.Method, err)
		}
		w.calls = nil
		_, err := d.Do(t.Context(), with(*with(r, inDC2), fromWAN))
		if store.KindOf(err) != store.KindPermissionDenied || !strings.Contains(err.Error(), `s1.dc3 asked datacenter "dc1" for datacenter "dc2"`) || w.trace() != "" {
			t.Errorf("method %d for dc2: %v, calls: %s", r.Method, err, w.trace())
		}
	}
}

func TestTooStaleIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.leader = "s2"
		w.answer["self"] = func(context.Context, *rpc.Request) (*rpc.Response, error) {
			return &rpc.Response{LastContact: 2 * time.Second}, nil
		}
		req := &rpc.Request{Method: rpc.CatalogNodes, Consistency: store.Stale, MaxStale: time.Second}
		if _, err := w.dispatcher(t, true, true).Do(t.Context(), req); err != nil || w.trace() != "self s2" {
			t.Errorf("ran %q (%v), want self, then the leader", w.trace(), err)
		}
	})
}

func TestRequestsWithoutADeadlineGetOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			req  *rpc.Request
			want time.Duration
		}{
			{&read, time.Minute},
			{with(read, func(r *rpc.Request) { r.MinIndex, r.Wait = 5, 16*time.Second }), time.Minute + 17*time.Second},
			{with(read, func(r *rpc.Request) { r.MinIndex = 5 }), time.Minute + 5*time.Minute*17/16},
		} {
			w := newWorld()
			w.leader = "self"
			var got time.Duration
			w.answer["self"] = func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
				at, _ := ctx.Deadline()
				got = time.Until(at)
				return &rpc.Response{}, nil
			}
			d := w.dispatcher(t, true, true)
			d.Do(context.Background(), c.req)
			if got != c.want {
				t.Errorf("deadline in %s, want %s", got, c.want)
			}
			d.Reload(Limits{ClientTimeout: 10 * time.Second})
			if d.Do(context.Background(), c.req); got != c.want-50*time.Second {
				t.Errorf("deadline in %s after a change, want %s", got, c.want-50*time.Second)
			}
		}
	})
}

// A blocking query that has waited for minutes when its server dies waits on at
// another one for what is left of its time, here and in another datacenter; one that
// died as well is no reason to give up.
func TestBlockingQueriesMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.servers = []Peer{{Name: "s1"}, {Name: "s2"}, {Name: "s3"}}
		w.remote["dc2"] = []Peer{{Name: "r1.dc2"}, {Name: "r2.dc2"}, {Name: "r3.dc2"}}
		var waits []time.Duration
		for _, p := range slices.Concat(w.servers, w.remote["dc2"]) {
			w.answer[p.Name] = func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
				waits = append(waits, req.Wait.Round(time.Second))
				if len(waits) < 3 {
					time.Sleep(2 * time.Minute)
					return nil, store.Errorf(store.KindUnreachable, "gone: %w", rpc.ErrLost)
				}
				time.Sleep(req.Wait)
				return &rpc.Response{}, nil
			}
		}
		for _, dc := range []string{"", "dc2"} {
			w.calls, waits = nil, nil
			req := with(read, func(r *rpc.Request) { r.Datacenter, r.MinIndex, r.Wait = dc, 5, 5*time.Minute })
			start := time.Now()
			_, err := w.dispatcher(t, dc != "", dc != "").Do(t.Context(), req)
			if err != nil || dc == "" && w.trace() != "s1 s2 s3" {
				t.Errorf("dc %q: tried %q: %v", dc, w.trace(), err)
			}
			if took := time.Since(start).Round(time.Second); took != 5*time.Minute {
				t.Errorf("dc %q: took %s, want 5m", dc, took)
			}
			if want := []time.Duration{5 * time.Minute, 3 * time.Minute, time.Minute}; !slices.Equal(waits, want) {
				t.Errorf("dc %q: waits %v, want %v", dc, waits, want)
			}
		}
		// Who tries again by itself is told at once.
		again := with(stale, func(r *rpc.Request) { r.NoHold = true })
		w.calls, waits = nil, nil
		w.servers = []Peer{{Name: "s1"}, {Name: "s3"}}
		if _, err := w.dispatcher(t, false, false).Do(t.Context(), again); err == nil || w.trace() != "s1" {
			t.Errorf("tried %q: %v", w.trace(), err)
		}
	})
}

// Where servers die more often than the hold time-out lasts, a blocking query goes on as
// long as it waits at each for a while.
func TestBlockingQueriesOutliveManyDeaths(t *testing.T) {
	for _, c := range []struct {
		lives time.Duration
		ends  bool
	}{{2 * time.Second, false}, {giveUp / 2, true}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.servers = []Peer{{Name: "s1"}, {Name: "s2"}}
			deaths := 0
			for _, p := range w.servers {
				w.answer[p.Name] = func(context.Context, *rpc.Request) (*rpc.Response, error) {
					time.Sleep(c.lives)
					if deaths == 30 {
						return &rpc.Response{}, nil
					}
					deaths++
					return nil, store.Errorf(store.KindUnreachable, "gone: %w", rpc.ErrLost)
				}
			}
			req := with(read, func(r *rpc.Request) { r.MinIndex, r.Wait = 5, 5*time.Minute })
			if _, err := w.dispatcher(t, false, false).Do(t.Context(), req); (err != nil) != c.ends {
				t.Errorf("servers that live %s: %d deaths, %v", c.lives, deaths, err)
			}
		})
	}
}

// TestBlockingQueriesOutliveARollingRestart has every server of the other datacenter
// die while the query waits there, for so long that nobody else has asked lately. The
// others take no connections yet: they are still restarting.
func TestBlockingQueriesOutliveARollingRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.remote["dc2"] = []Peer{{Name: "r1.dc2"}, {Name: "r2.dc2"}}
		deaths := 0
		for _, p := range w.remote["dc2"] {
			w.answer[p.Name] = func(context.Context, *rpc.Request) (*rpc.Response, error) {
				time.Sleep(2 * askedLately)
				if deaths++; deaths > 4 {
					return &rpc.Response{}, nil
				}
				w.refuse("r1.dc2", "r2.dc2")
				time.AfterFunc(2*time.Second, func() { w.refuse() })
				return nil, store.Errorf(store.KindUnreachable, "gone: %w", rpc.ErrLost)
			}
		}
		req := with(read, func(r *rpc.Request) { r.Datacenter, r.MinIndex, r.Wait = "dc2", 5, 5*time.Minute })
		start := time.Now()
		if _, err := w.dispatcher(t, true, true).Do(t.Context(), req); err != nil || deaths != 5 {
			t.Errorf("after %s and %d deaths: tried %q: %v", time.Since(start), deaths, w.trace(), err)
		}
		// One that has not waited yet waits for a sign of life, like any call.
		for name := range w.answer {
			w.answer[name] = fails(store.KindUnreachable, "gone")
		}
		for _, index := range []store.Index{5, 0} {
			req.MinIndex, w.calls = index, nil
			start := time.Now()
			if _, err := w.dispatcher(t, true, true).Do(t.Context(), req); store.KindOf(err) != store.KindUnreachable {
				t.Errorf("index %d: %v", index, err)
			}
			if took := time.Since(start); took != giveUp {
				t.Errorf("index %d: took %s, want %s", index, took, giveUp)
			}
			if len(w.calls) > 60 {
				t.Errorf("index %d: asked %d times within %s servers that only answer pings", index, len(w.calls), giveUp)
			}
		}
	})
}

func TestWithoutWaiting(t *testing.T) {
	for _, c := range []struct {
		name    string
		leader  string
		server  bool
		contact time.Duration
		change  func(*rpc.Request)
		here    bool
	}{
		{"stale", "s2", true, 0, func(*rpc.Request) {}, true},
		{"stale, without a leader", "", true, 0, func(*rpc.Request) {}, true},
		{"stale enough", "s2", true, time.Second, func(r *rpc.Request) { r.MaxStale = time.Second }, true},
		{"too stale", "s2", true, 2 * time.Second, func(r *rpc.Request) { r.MaxStale = time.Second }, false},
		{"by the leader", "self", true, 0, func(r *rpc.Request) { r.Consistency = store.Default }, false},
		{"blocking", "s2", true, 0, func(r *rpc.Request) { r.MinIndex = 7 }, false},
		{"a query that may fail over", "s2", true, 0, func(r *rpc.Request) { r.Method = rpc.QueryExecute }, false},
		{"a write", "self", true, 0, func(r *rpc.Request) { r.Method = rpc.KVApply }, false},
		{"another datacenter", "s2", true, 0, inDC2, false},
		{"a client agent", "s2", false, 0, func(*rpc.Request) {}, false},
	} {
		w := newWorld()
		w.leader = c.leader
		w.servers = []Peer{{Name: "s2"}}
		w.remote["dc2"], w.known["dc2"] = []Peer{{Name: "r1"}}, true
		w.answer["self"] = func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
			if _, ok := ctx.Deadline(); ok {
				t.Errorf("%s: a deadline for what does not wait", c.name)
			}
			return &rpc.Response{LastContact: c.contact}, nil
		}
		req := rpc.Request{Method: rpc.HealthService, Consistency: store.Stale, NoWait: true}
		c.change(&req)
		resp, err := w.dispatcher(t, c.server, true).Do(context.Background(), &req)
		if got := err == nil && resp != nil; got != c.here || !got && !errors.Is(err, rpc.ErrWouldWait) {
			t.Errorf("%s: got %v, %v; want an answer: %v", c.name, resp, err, c.here)
		}
		if trace := w.trace(); trace != "" && trace != "self" {
			t.Errorf("%s: asked %s", c.name, trace)
		}
	}
}
