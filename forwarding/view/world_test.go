package view

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a dispatcher over servers that have a value for each name: what the
// leader has, and what a follower that stale reads get has, which may lag.
type world struct {
	mu      sync.Mutex
	index   store.Index
	leader  map[string]row
	stale   map[string]row
	lags    bool
	down    error         // what calls get, nil: servers are there
	died    chan struct{} // closed: calls under way are lost
	changed chan struct{}
	calls   []string // name, index asked for, consistency
	fetches int      // answered or refused calls
	waiting int
	delay   time.Duration // of an answer
	refuse  map[string]error
	padding int // bytes of each body
	// leaderless has default reads fail, and nobody known who leads.
	leaderless bool
	slow       map[string]time.Duration // what answers for a name take
}

type row struct {
	index store.Index
	value string
	at    time.Time
}

func newWorld() *world {
	return &world{index: 10, leader: map[string]row{}, stale: map[string]row{}, died: make(chan struct{}), changed: make(chan struct{}), refuse: map[string]error{}}
}

// set changes a value, at once unless the follower lags.
func (w *world) set(name, value string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index++
	r := row{w.index, value, time.Now()}
	w.leader[name] = r
	if !w.lags {
		w.stale[name] = r
	}
	w.wake()
}

func (w *world) wake() { close(w.changed); w.changed = make(chan struct{}) }

// lag has the follower stay behind, or catch up.
func (w *world) lag(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lags = on
	if !on {
		for k, r := range w.leader {
			w.stale[k] = r
		}
		w.wake()
	}
}

// crash ends the calls under way; err is what new ones get, nil for none.
func (w *world) crash(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = err
	close(w.died)
	w.died = make(chan struct{})
}

// lose has the servers lose their leader.
func (w *world) lose() { w.mu.Lock(); defer w.mu.Unlock(); w.leaderless = true; w.wake() }

func (w *world) up() { w.mu.Lock(); defer w.mu.Unlock(); w.down = nil; w.wake() }

func (w *world) trace() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := strings.Join(w.calls, ", ")
	w.calls = nil
	return t
}

func (w *world) parked() int { w.mu.Lock(); defer w.mu.Unlock(); return w.waiting }

func (w *world) Do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, fmt.Sprintf("%s>%d %s", req.Query.Name, req.MinIndex, req.Consistency))
	name := strings.ToLower(req.Query.Name)
	died := w.died
	if d := w.delay + w.slow[name]; d > 0 {
		w.sleep(ctx, d, nil, died)
	}
	end := time.Now().Add(req.Wait)
	if req.Wait == 0 {
		end = time.Now().Add(5 * time.Minute)
	}
	hold := time.Now().Add(7 * time.Second)
	for {
		switch {
		case ctx.Err() != nil:
			return nil, store.Errorf(store.KindTimeout, "given up: %w", ctx.Err())
		case w.down != nil:
			if req.NoHold || !time.Now().Before(hold) {
				return nil, w.down
			}
			w.sleep(ctx, min(time.Until(hold), time.Second), w.changed, nil)
			continue
		case isClosed(died):
			return nil, store.Errorf(store.KindUnreachable, "EOF")
		case w.refuse[req.Token] != nil:
			return nil, w.refuse[req.Token]
		}
		if req.Method == rpc.StatusLeader {
			if w.leaderless {
				return &rpc.Response{Body: []byte(`""`)}, nil
			}
			return &rpc.Response{Body: []byte(`"10.0.0.1:8300"`)}, nil
		}
		if w.leaderless && req.Consistency != store.Stale {
			if !time.Now().Before(hold) {
				return nil, store.ErrNoLeader
			}
			w.sleep(ctx, min(time.Until(hold), time.Second), w.changed, nil)
			continue
		}
		rows := w.leader
		if req.Consistency == store.Stale {
			rows = w.stale
		}
		r, ok := rows[name]
		if !ok {
			r = row{index: 1}
		}
		if req.MinIndex == 0 || r.index > req.MinIndex || !time.Now().Before(end) {
			w.fetches++
			body := req.Token + "|" + req.Datacenter + "|" + r.value + strings.Repeat(".", w.padding)
			return &rpc.Response{Index: r.index, KnownLeader: true, Effective: req.Consistency, Body: []byte(body)}, nil
		}
		w.sleep(ctx, time.Until(end), w.changed, died)
	}
}

// sleep waits without the lock.
func (w *world) sleep(ctx context.Context, d time.Duration, changed, died chan struct{}) {
	w.waiting++
	w.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-died:
	case <-t.C:
	}
	w.mu.Lock()
	w.waiting--
}

var gone = store.Errorf(store.KindUnreachable, "connection refused")

var discard = slog.New(slog.DiscardHandler)

func registry() prometheus.Registerer { return prometheus.NewRegistry() }

// newSet makes a set of a client agent over the world, which the test's end stops.
func (w *world) newSet(t *testing.T, edits ...func(*Config)) *Set {
	cfg := Config{Do: w, Datacenter: "dc1", Logger: discard, Registerer: registry()}
	for _, e := range edits {
		e(&cfg)
	}
	s := New(cfg)
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func ask(name string, edits ...func(*rpc.Request)) *rpc.Request {
	r := &rpc.Request{Method: rpc.HealthService, Representation: rpc.Records, Consistency: store.Stale, Query: store.Query{Name: name}}
	for _, e := range edits {
		e(r)
	}
	return r
}

func token(s string) func(*rpc.Request)           { return func(r *rpc.Request) { r.Token = s } }
func dc(s string) func(*rpc.Request)              { return func(r *rpc.Request) { r.Datacenter = s } }
func maxStale(d time.Duration) func(*rpc.Request) { return func(r *rpc.Request) { r.MaxStale = d } }
func method(m rpc.MethodID) func(*rpc.Request)    { return func(r *rpc.Request) { r.Method = m } }
func mode(c store.Consistency) func(*rpc.Request) { return func(r *rpc.Request) { r.Consistency = c } }
func after(i store.Index, wait time.Duration) func(*rpc.Request) {
	return func(r *rpc.Request) { r.MinIndex, r.Wait = i, wait }
}

// follow asks twice: the second time makes the view.
func follow(t *testing.T, s *Set, r *rpc.Request) *rpc.Response {
	t.Helper()
	var resp *rpc.Response
	for range 2 {
		var err error
		if resp, err = s.Follow(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	return resp
}

// value asks once, and returns what the body says behind token and datacenter.
func value(t *testing.T, s *Set, r *rpc.Request) string {
	t.Helper()
	resp, err := s.Follow(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitN(string(resp.Body), "|", 3)
	return parts[2]
}
