package kv

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/acl_replication/replica"
	"landbridge/store"
	"landbridge/store/state"
)

// datacenter is a state that is written without Raft.
type datacenter struct {
	t  testing.TB
	st *state.Store
}

func newDatacenter(t testing.TB, id string) *datacenter {
	d := &datacenter{t, state.New()}
	d.must(store.CmdCluster, (&store.Cluster{ID: id, HistoryID: id + "-1"}).AppendWire(nil))
	return d
}

func (d *datacenter) apply(_ context.Context, cmd store.Command) (store.Result, error) {
	var res [1]store.Result
	cmd.UnixNano = time.Now().UnixNano()
	d.st.Apply([]store.Command{cmd}, res[:])
	return res[0], nil
}

func (d *datacenter) must(kind store.CommandKind, payload []byte) {
	d.t.Helper()
	if res, _ := d.apply(context.Background(), store.Command{Kind: kind, Payload: payload}); res.Err != nil {
		d.t.Fatal(res.Err)
	}
}

func (d *datacenter) put(key, value string) {
	d.t.Helper()
	d.must(store.CmdKV, (&store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: key, Value: []byte(value), Flags: uint64(len(value))}}).AppendWire(nil))
}

func (d *datacenter) remove(key string) {
	d.t.Helper()
	d.must(store.CmdKV, (&store.KVCommand{Op: store.KVDelete, Entry: store.KVEntry{Key: key}}).AppendWire(nil))
}

// below is what there is under a prefix, by the rest of the key.
func (d *datacenter) below(prefix string) map[string]string {
	m := map[string]string{}
	_, list := d.st.KVList(nil, prefix)
	for _, e := range list {
		m[strings.TrimPrefix(e.Key, prefix)] = fmt.Sprintf("%s %d", e.Value, e.Flags)
	}
	return m
}

// leads is a leader that nobody doubts.
type leads struct{}

func (leads) CheckLease() error                  { return nil }
func (leads) VerifyLeader(context.Context) error { return nil }

// line is a Remote without a wire, 40 ms long, that can be cut.
type line struct {
	src  *Source
	cut  atomic.Bool
	ends atomic.Pointer[context.CancelFunc]
}

const delay = 40 * time.Millisecond

var errCut = store.Errorf(store.KindUnreachable, "cut")

func (w *line) Follow(ctx context.Context, _ string, question []byte, out io.Writer) error {
	if w.cut.Load() {
		return errCut
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.ends.Store(&cancel)
	var q Question
	if err := q.DecodeWire(question); err != nil {
		return err
	}
	time.Sleep(delay)
	err := w.src.Follow(ctx, &q, late{w, out}, func() error { return nil })
	if w.cut.Load() {
		err = errCut
	}
	return err
}

type late struct {
	w  *line
	to io.Writer
}

func (l late) Write(p []byte) (int, error) {
	time.Sleep(delay)
	if l.w.cut.Load() {
		return 0, errCut
	}
	return l.to.Write(p)
}

func (w *line) sever() {
	w.cut.Store(true)
	if end := w.ends.Load(); end != nil {
		(*end)()
	}
}

func (w *line) Ask(ctx context.Context, _ string, what Asks, question []byte) ([]byte, error) {
	if w.cut.Load() {
		return nil, errCut
	}
	time.Sleep(2 * delay)
	var q Question
	if err := q.DecodeWire(question); err != nil {
		return nil, err
	}
	switch what {
	case AskTrees:
		t, err := w.src.Trees(ctx, &q)
		return t.AppendWire(nil), err
	case AskLeaves:
		l, err := w.src.Leaves(ctx, &q)
		return l.AppendWire(nil), err
	}
	r, err := w.src.Rows(ctx, &q)
	return r.AppendWire(nil), err
}

// pair copies app/ of east to copy/app/ of west, without app/secret/.
type pair struct {
	t    testing.TB
	east *datacenter
	west *datacenter
	wire *line
	copy *Copy
	stop func()
}

func (p *pair) lead() {
	block := Block{Source: "east", Scope: Scope{Prefix: "app/", Exclude: []string{"app/secret/"}}, Target: "copy/app/"}
	p.copy = NewCopy(Config{Block: block, State: p.west.st, Apply: p.west.apply, Remote: p.wire, Logger: slog.New(slog.DiscardHandler),
		Metrics: replica.NewMetrics(prometheus.NewRegistry(), replica.Words{Prefix: "landbridge_test_", Rows: "Keys", Source: "the source"})})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.copy.Run(ctx) }()
	p.stop = func() { cancel(); <-done }
}

func bubble(t *testing.T, story func(p *pair)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pair{t: t, east: newDatacenter(t, "east"), west: newDatacenter(t, "west")}
		p.wire = &line{src: NewSource(p.east.st, leads{})}
		p.lead()
		defer func() { p.stop() }()
		story(p)
	})
}

// equal waits until the copy is what the source has, and returns how long it took.
func (p *pair) equal(within time.Duration) time.Duration {
	p.t.Helper()
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		want, got := p.east.below("app/"), p.west.below("copy/app/")
		maps.DeleteFunc(want, func(id, _ string) bool { return strings.HasPrefix(id, "secret/") })
		if maps.Equal(want, got) {
			return time.Since(begin)
		}
		if time.Since(begin) > within {
			p.t.Fatalf("not equal within %s: %d keys in the source, %d here: %+v", within, len(want), len(got), p.copy.Detail(time.Now()))
		}
	}
}

func TestCopy(t *testing.T) {
	bubble(t, func(p *pair) {
		p.west.put("elsewhere", "ours")
		for i := range 1000 {
			p.east.put(fmt.Sprintf("app/%d", i), fmt.Sprint("value ", i))
		}
		p.east.put("app/", "the prefix itself")
		p.east.put("app/empty", "")
		p.east.put("app/secret/x", "stays there")
		p.east.put("apple", "is not below")
		p.equal(5 * time.Second)
		time.Sleep(time.Minute)
		p.east.put("app/1", "changed")
		if took := p.equal(time.Second); took > delay+5*time.Millisecond {
			t.Errorf("a change took %s", took)
		}
		// As many deletions as there are, told by the stream.
		for i := range 900 {
			p.east.remove(fmt.Sprintf("app/%d", i))
		}
		p.equal(time.Second)
		d := p.copy.Detail(time.Now())
		if !d.Healthy || d.Held > 0 || d.LastProof.IsZero() {
			t.Errorf("status %+v", d)
		}
		if p.west.st.KVView().Get("elsewhere") == nil || p.west.st.KVView().Get("copy/app/secret/x") != nil {
			t.Error("a key beside the copy went, or an excluded one came")
		}
		// The next leader goes on: nothing is written again.
		before := p.west.st.Index()
		p.stop()
		p.lead()
		time.Sleep(time.Minute)
		if now := p.west.st.Index(); now != before {
			t.Errorf("a change of leader cost %d writes", now-before)
		}
		// What somebody writes below the target is found by a proof, and an excluded key
		// there is nobody's business.
		p.west.put("copy/app/1", "by hand")
		p.west.put("copy/app/new", "by hand")
		p.west.remove("copy/app/950")
		p.equal(time.Minute)
		p.west.put("copy/app/secret/y", "ours")
		time.Sleep(2 * time.Minute)
		if d := p.copy.Detail(time.Now()); !d.Healthy || p.west.st.KVView().Get("copy/app/secret/y") == nil {
			t.Errorf("an excluded key: %+v", d)
		}
	})
}

// A cut of 20 s, in which much is written and deleted, and in which so much happens
// that the log does not go back so far.
func TestCut(t *testing.T) {
	bubble(t, func(p *pair) {
		for i := range 500 {
			p.east.put(fmt.Sprintf("app/%d", i), "old")
		}
		p.equal(5 * time.Second)
		p.wire.sever()
		for i := range 400 {
			p.east.put(fmt.Sprintf("app/new/%d", i), "new")
			p.east.remove(fmt.Sprintf("app/%d", i))
			time.Sleep(50 * time.Millisecond)
		}
		p.wire.cut.Store(false)
		t.Logf("equal %s after the cut", p.equal(2*time.Second))
		if d := p.copy.Detail(time.Now()); d.Held > 0 {
			t.Errorf("held after a cut: %+v", d)
		}
		p.wire.sever()
		for i := range 100_001 {
			p.east.put("other", fmt.Sprint(i))
		}
		p.east.put("app/last", "new")
		time.Sleep(time.Second)
		p.wire.cut.Store(false)
		p.equal(3 * time.Second)
	})
}

// Keys that were here before, and a source that lost its own, wait for an approval.
func TestGuard(t *testing.T) {
	bubble(t, func(p *pair) {
		p.stop()
		p.west.put("copy/app/mine", "from before")
		p.lead()
		p.east.put("app/a", "1")
		time.Sleep(10 * time.Second)
		d := p.copy.Detail(time.Now())
		if d.Held != 1 || d.Healthy || d.HeldKeys[0] != "copy/app/mine" || !strings.Contains(d.HeldReason, "before") || p.west.st.KVView().Get("copy/app/a") == nil {
			t.Fatalf("a key from before: %+v", d)
		}
		if _, err := p.copy.Approve(context.Background(), "000000000000"); store.KindOf(err) != store.KindConflict {
			t.Errorf("approved what nobody saw: %v", err)
		}
		if n, err := p.copy.Approve(context.Background(), d.HeldID); n != 1 || err != nil {
			t.Errorf("approve: %d, %v", n, err)
		}
		p.equal(5 * time.Second)

		for i := range 100 {
			p.east.put(fmt.Sprintf("app/%d", i), "value")
		}
		p.equal(time.Second)
		p.stop()
		p.east = newDatacenter(t, "another")
		p.east.put("app/a", "1")
		p.wire.src = NewSource(p.east.st, leads{})
		p.lead()
		time.Sleep(time.Minute)
		if d := p.copy.Detail(time.Now()); d.Held != 100 || !strings.Contains(d.HeldReason, "another cluster") || len(p.west.below("copy/app/")) != 101 {
			t.Fatalf("another source: %+v, %d keys are here", d, len(p.west.below("copy/app/")))
		}
		// The next leader still knows.
		p.stop()
		p.lead()
		time.Sleep(time.Minute)
		if d := p.copy.Detail(time.Now()); d.Held != 100 {
			t.Fatalf("the next leader: %+v", d)
		}
		for i := range 100 { // it has them again
			p.east.put(fmt.Sprintf("app/%d", i), "value")
		}
		time.Sleep(time.Second)
		p.equal(0)
		if d := p.copy.Detail(time.Now()); d.Held != 0 || !d.Healthy {
			t.Errorf("the source has them again: %+v", d)
		}
	})
}

// Whatever happens in which order, the copy becomes what the source is.
func TestRandom(t *testing.T) {
	for range 20 {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 0))
		bubble(t, func(p *pair) {
			for range 60 {
				key := fmt.Sprintf("app/%d", rng.IntN(40))
				if rng.IntN(8) == 0 {
					key = "app/secret/" + key
				}
				switch rng.IntN(10) {
				case 0:
					p.wire.sever()
				case 1:
					p.wire.cut.Store(false)
				case 2:
					p.stop()
					p.lead()
				case 3:
					p.must(store.CmdKV, (&store.KVCommand{Op: store.KVDeleteAll, Entry: store.KVEntry{Key: key[:5]}}).AppendWire(nil))
				case 4, 5:
					p.east.remove(key)
				case 6:
					time.Sleep(time.Duration(rng.IntN(5000)) * time.Millisecond)
				default:
					p.east.put(key, fmt.Sprint(rng.IntN(5)))
				}
			}
			p.wire.cut.Store(false)
			p.equal(20 * time.Second)
			if d := p.copy.Detail(time.Now()); d.Held > 0 {
				t.Errorf("held: %+v", d)
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func (p *pair) must(kind store.CommandKind, payload []byte) { p.east.must(kind, payload) }

func FuzzQuestion(f *testing.F) {
	q := Question{Scope: Scope{Prefix: "a/", Exclude: []string{"a/b"}}, Ask: replica.Ask{Bits: 3, Leaves: []uint32{1}}}
	f.Add(q.AppendWire(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var x, y Question
		if x.DecodeWire(b) != nil {
			return
		}
		if err := y.DecodeWire(x.AppendWire(nil)); err != nil || x.Prefix != y.Prefix {
			t.Fatalf("%v: %+v, %+v", err, x, y)
		}
	})
}
