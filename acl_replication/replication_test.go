package aclreplication

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
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

	version uint64 // of what was digested last
	sum     [32]byte
	count   int
}

func newDatacenter(t testing.TB, id string) *datacenter {
	d := &datacenter{t: t, st: state.New()}
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

func (d *datacenter) change(changes ...store.ACLChange) {
	d.t.Helper()
	d.must(store.CmdACL, (&store.ACLCommand{Changes: changes}).AppendWire(nil))
}

func token(i int, local bool) store.ACLChange {
	t := &store.ACLToken{
		AccessorID: fmt.Sprintf("%08d-0000-4000-8000-000000000000", i), SecretID: fmt.Sprintf("%08d-1111-4000-8000-000000000000", i),
		Description: "a token of the test", Local: local, CreateTime: time.Unix(1e9, 0),
	}
	if local {
		t.AccessorID, t.SecretID = "local-"+t.AccessorID, "local-"+t.SecretID
	}
	t.Seal()
	return store.SetACL(store.ACLCreate, t)
}

func policy(i int) store.ACLChange {
	return store.SetACL(store.ACLCreate, &store.ACLPolicy{ID: fmt.Sprintf("policy-%d", i), Name: fmt.Sprintf("name-%d", i), Rules: `key_prefix "" { policy = "read" }`})
}

// digest is of all records that are shared, of both datacenters alike.
func (d *datacenter) digest() (sum [32]byte, count int) {
	v := d.st.ACLView()
	if d.version != 0 && v.Version == d.version {
		return d.sum, d.count
	}
	h := sha256.New()
	for _, k := range kinds(Secrets) {
		scan(v, k, Secrets, func(id string, d replica.Digest) {
			count++
			fmt.Fprintf(h, "%d %s %x\n", k, id, d)
		})
	}
	h.Sum(sum[:0])
	d.version, d.sum, d.count = v.Version, sum, count
	return sum, count
}

// leads is a leader that nobody doubts.
type leads struct{}

func (leads) CheckLease() error                  { return nil }
func (leads) VerifyLeader(context.Context) error { return nil }

// wire is a Remote without a wire, which counts bytes and can be cut.
type wire struct {
	p     *Primary
	delay time.Duration
	bytes atomic.Int64
	cut   atomic.Bool
	ends  atomic.Pointer[context.CancelFunc]
	told  atomic.Bool // a secret was among the bytes
}

func (w *wire) Follow(ctx context.Context, raw []byte, tokens Tokens, out io.Writer) error {
	if w.cut.Load() {
		return store.Errorf(store.KindUnreachable, "cut")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.ends.Store(&cancel)
	var ask replica.Ask
	if err := ask.DecodeWire(raw); err != nil {
		return err
	}
	time.Sleep(w.delay)
	err := w.p.Follow(ctx, &ask, tokens, counted{w, out}, func() error { return nil })
	if w.cut.Load() {
		err = store.Errorf(store.KindUnreachable, "cut")
	}
	return err
}

func (w *wire) sever() {
	w.cut.Store(true)
	if end := w.ends.Load(); end != nil {
		(*end)()
	}
}

func (w *wire) look(b []byte) {
	if bytes.Contains(b, []byte("-1111-4000-8000-")) {
		w.told.Store(true)
	}
}

type counted struct {
	w  *wire
	to io.Writer
}

func (c counted) Write(p []byte) (int, error) {
	if c.w.cut.Load() {
		return 0, io.ErrClosedPipe
	}
	c.w.bytes.Add(int64(len(p)))
	c.w.look(p)
	time.Sleep(c.w.delay)
	return c.to.Write(p)
}

func (w *wire) Ask(ctx context.Context, q Question, raw []byte, tokens Tokens) ([]byte, error) {
	if w.cut.Load() {
		return nil, store.Errorf(store.KindUnreachable, "cut")
	}
	time.Sleep(2 * w.delay)
	var ask replica.Ask
	if err := ask.DecodeWire(raw); err != nil {
		return nil, err
	}
	var b []byte
	switch q {
	case AskTrees:
		t, err := w.p.Trees(ctx, tokens)
		if err != nil {
			return nil, err
		}
		b = t.AppendWire(nil)
	case AskLeaves:
		l, err := w.p.Leaves(ctx, &ask, tokens)
		if err != nil {
			return nil, err
		}
		b = l.AppendWire(nil)
	case AskRows:
		r, err := w.p.Rows(ctx, &ask, tokens)
		if err != nil {
			return nil, err
		}
		b = r.AppendWire(nil)
	}
	w.bytes.Add(int64(len(b) + len(raw)))
	w.look(b)
	return b, nil
}

// pair is a primary and a secondary datacenter.
type pair struct {
	t    testing.TB
	east *datacenter
	west *datacenter
	wire *wire
	sec  *Secondary
	stop func()
}

func newPair(t testing.TB, tokens Tokens) *pair {
	p := &pair{t: t, east: newDatacenter(t, "east"), west: newDatacenter(t, "west")}
	p.wire = &wire{p: NewPrimary(p.east.st, leads{}, slog.New(slog.DiscardHandler)), delay: 40 * time.Millisecond}
	p.lead(tokens)
	t.Cleanup(func() { p.stop() })
	return p
}

// lead has the secondary's next leader begin.
func (p *pair) lead(tokens Tokens) {
	p.sec = New(Config{Datacenter: "west", Primary: func() string { return "east" }, Tokens: tokens, State: p.west.st, Apply: p.west.apply, Remote: p.wire,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.sec.Run(ctx) }()
	p.stop = func() { cancel(); <-done }
}

// equal waits until both have the same shared records.
func (p *pair) equal(within time.Duration) time.Duration {
	p.t.Helper()
	begin := time.Now()
	for {
		a, n := p.east.digest()
		b, m := p.west.digest()
		if a == b {
			return time.Since(begin)
		}
		if time.Since(begin) > within {
			p.t.Fatalf("not equal within %s: %d records in the primary, %d here; %+v", within, n, m, p.sec.Status())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func bubble(t *testing.T, tokens Tokens, story func(p *pair)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, tokens)
		story(p)
		p.stop()
		p.stop = func() {}
	})
}

func TestReplicate(t *testing.T) {
	bubble(t, Secrets, func(p *pair) {
		p.west.change(token(7, true))
		for i := range 200 {
			p.east.change(token(i, false), policy(i))
		}
		p.east.change(token(1, true))
		p.equal(5 * time.Second)
		if p.west.st.ACLRecord(store.ACLTokens, "local-00000001-0000-4000-8000-000000000000") != nil ||
			p.west.st.ACLRecord(store.ACLTokens, "local-00000007-0000-4000-8000-000000000000") == nil {
			t.Error("a local token travelled, or a local one of here was touched")
		}
		time.Sleep(time.Minute)
		// One way, and no more than a moment to write it.
		p.east.change(token(1000, false))
		if took := p.equal(time.Second); took > 45*time.Millisecond {
			t.Errorf("a change took %s over a path of 40 ms", took)
		}
		p.east.change(store.DeleteACL(store.ACLTokens, token(5, false).Record.ACLKey()))
		p.equal(time.Second)
		st := p.sec.Status()
		if len(st.Held) > 0 || !st.Healthy() || st.LastProof.IsZero() || st.Cursor.Marks[2] == 0 {
			t.Errorf("status %+v", st)
		}
		// The next leader goes on: nothing is compared, nothing written.
		before := p.west.st.Index()
		p.stop()
		p.lead(Secrets)
		time.Sleep(20 * time.Second)
		if now := p.west.st.Index(); now != before {
			t.Errorf("a change of leader cost %d writes", now-before)
		}
	})
}

// Without enable_token_replication no token travels; once it is on, all do.
func TestPoliciesOnly(t *testing.T) {
	bubble(t, NoTokens, func(p *pair) {
		p.east.change(token(1, false), policy(1))
		p.east.change(
			store.SetACL(store.ACLCreate, &store.ACLAuthMethod{Name: "Global", Type: "jwt", TokenLocality: "global"}),
			store.SetACL(store.ACLCreate, &store.ACLAuthMethod{Name: "mine", Type: "jwt"}),
			store.SetACL(store.ACLCreate, &store.ACLBindingRule{ID: "r1", AuthMethod: "Global", BindType: "service", BindName: "x"}),
			store.SetACL(store.ACLCreate, &store.ACLBindingRule{ID: "r2", AuthMethod: "mine", BindType: "service", BindName: "x"}))
		time.Sleep(5 * time.Second)
		for key, want := range map[replica.Key]bool{
			{Kind: replica.Kind(store.ACLTokens), ID: token(1, false).Record.ACLKey()}: false,
			{Kind: replica.Kind(store.ACLPolicies), ID: "policy-1"}:                    true,
			{Kind: replica.Kind(store.ACLAuthMethods), ID: "global"}:                   true,
			{Kind: replica.Kind(store.ACLAuthMethods), ID: "mine"}:                     false,
			{Kind: replica.Kind(store.ACLBindingRules), ID: "r1"}:                      true,
			{Kind: replica.Kind(store.ACLBindingRules), ID: "r2"}:                      false,
		} {
			if got := p.west.st.ACLRecord(store.ACLKind(key.Kind), key.ID) != nil; got != want {
				t.Errorf("%v is here: %v, want %v", key, got, want)
			}
		}
		p.stop()
		p.lead(Secrets)
		p.equal(5 * time.Second)
	})
}

// With acl.replicate_secrets = "hashed" no secret travels, or is kept; a change of that
// setting takes effect either way, and the copy is proven equal in each of them.
func TestHashedSecrets(t *testing.T) {
	bubble(t, Hashes, func(p *pair) {
		anyone := &store.ACLToken{AccessorID: store.AnonymousAccessor, SecretID: store.AnonymousSecret, CreateTime: time.Unix(1e9, 0)}
		anyone.Seal()
		p.east.change(store.SetACL(store.ACLCreate, anyone))
		for i := range 50 {
			p.east.change(token(i, false))
		}
		form := func(secrets bool) {
			t.Helper()
			for i := range 50 {
				want := token(i, false).Record.(*store.ACLToken)
				_, got := p.west.st.ACLTokenBySecret(nil, want.SecretID)
				switch {
				case got == nil || got.AccessorID != want.AccessorID:
					t.Fatalf("the secret of token %d is not recognised: %+v", i, got)
				case (got.SecretID != "") != secrets:
					t.Fatalf("token %d has the secret %q", i, got.SecretID)
				}
			}
			if _, anyone := p.west.st.ACLTokenBySecret(nil, store.AnonymousSecret); anyone == nil || anyone.SecretID == "" {
				t.Errorf("the anonymous token is %+v", anyone)
			}
			if st := p.sec.Status(); !st.Healthy() || st.LastProof.IsZero() {
				t.Errorf("status %+v", st)
			}
		}
		time.Sleep(5 * time.Second)
		p.east.change(token(50, false))
		time.Sleep(time.Minute)
		form(false)
		if p.wire.told.Load() {
			t.Error("a secret travelled")
		}
		before := p.west.st.Index()
		p.stop()
		p.lead(Hashes)
		time.Sleep(20 * time.Second)
		if now := p.west.st.Index(); now != before {
			t.Errorf("a change of leader cost %d writes", now-before)
		}
		for _, tokens := range []Tokens{Secrets, Hashes} {
			p.stop()
			p.lead(tokens)
			time.Sleep(20 * time.Second)
			form(tokens == Secrets)
		}
	})
}

// What a change costs with many tokens in place, and a burst of new ones.
func TestBytes(t *testing.T) {
	bubble(t, Secrets, func(p *pair) {
		for i := 0; i < 2000; i += 100 {
			var list []store.ACLChange
			for j := range 100 {
				list = append(list, token(i+j, false))
			}
			p.east.change(list...)
		}
		p.equal(30 * time.Second)
		time.Sleep(time.Minute)
		before := p.wire.bytes.Load()
		p.east.change(token(20_000, false))
		p.equal(time.Second)
		if n := p.wire.bytes.Load() - before; n > 1024 {
			t.Errorf("one change cost %d bytes", n)
		}
		before = p.wire.bytes.Load()
		for i := range 200 {
			p.east.change(token(30_000+i, false))
		}
		p.equal(2 * time.Second)
		if n := p.wire.bytes.Load() - before; n/200 > 450 {
			t.Errorf("a token of many cost %d bytes", n/200)
		}
	})
}

// A record of the copy that changed by itself is healed within a minute.
func TestDrift(t *testing.T) {
	bubble(t, Secrets, func(p *pair) {
		for i := range 100 {
			p.east.change(token(i, false), policy(i))
		}
		p.equal(5 * time.Second)
		p.west.change(store.SetACL(store.ACLUpdate, &store.ACLPolicy{ID: "policy-3", Name: "name-3", Rules: "flipped"}))
		p.west.change(store.DeleteACL(store.ACLTokens, token(9, false).Record.ACLKey()))
		p.west.change(token(500, false))
		p.equal(time.Minute)
	})
}

// The link is cut for 20 s while 400 tokens are made and 400 deleted.
func TestCut(t *testing.T) {
	bubble(t, Secrets, func(p *pair) {
		for i := range 1000 {
			p.east.change(token(i, false))
		}
		p.equal(5 * time.Second)
		p.wire.sever()
		for i := range 400 {
			p.east.change(token(2000+i, false))
			p.east.change(store.DeleteACL(store.ACLTokens, token(i, false).Record.ACLKey()))
			time.Sleep(50 * time.Millisecond)
		}
		if st := p.sec.Status(); st.Connected || st.LastErrorMessage == "" || st.Lag(time.Now()) < 15*time.Second {
			t.Errorf("while cut: %+v", st)
		}
		p.wire.cut.Store(false)
		if took := p.equal(2 * time.Second); took > 2*time.Second {
			t.Errorf("healed after %s", took)
		}
	})
}

// A primary that was restored to when it had nothing wipes nothing; its records work
// until somebody approves, and come back with undo.
func TestRestoredPrimary(t *testing.T) {
	bubble(t, Secrets, func(p *pair) {
		empty := p.east.st.Snapshot()
		for i := range 500 {
			p.east.change(token(i, false))
		}
		p.equal(5 * time.Second)
		h := empty.Header()
		h.Index, h.Cluster.HistoryID = p.east.st.Index()+1, "east-2"
		im := state.NewImage(h)
		if err := empty.Encode(im.Add); err != nil {
			t.Fatal(err)
		}
		p.east.st.Restore(im)
		time.Sleep(5 * time.Second)
		st := p.sec.Status()
		if _, n := p.west.digest(); n != 500 || len(st.Held) != 500 || st.Healthy() {
			t.Fatalf("%d records left, %d held", n, len(st.Held))
		}
		d := p.sec.Detail(time.Now())
		if d.Held != 500 || d.HeldReason == "" || d.HeldSince.IsZero() || d.HeldRecords[0].Kind != "token" {
			t.Errorf("status %s", d.JSON())
		}
		// The next leader holds them as well, and what is new arrives.
		p.stop()
		p.lead(Secrets)
		p.east.change(token(1000, false), token(3, false))
		time.Sleep(5 * time.Second)
		if st = p.sec.Status(); len(st.Held) != 499 {
			t.Fatalf("%d held", len(st.Held))
		}
		if _, err := p.sec.Approve(context.Background(), "something else"); store.KindOf(err) != store.KindConflict {
			t.Errorf("approved what nobody saw: %v", err)
		}
		if n, err := p.sec.Approve(context.Background(), st.HeldID); n != 499 || err != nil {
			t.Fatalf("approved %d: %v", n, err)
		}
		p.equal(5 * time.Second)
		done, err := p.sec.Undo(context.Background(), time.Time{})
		if done.Restored != 499 || err != nil {
			t.Fatalf("undone %+v: %v", done, err)
		}
		time.Sleep(time.Minute)
		if _, n := p.west.digest(); n != 501 || len(p.sec.Status().Held) != 499 {
			t.Errorf("%d records after undo, %d held", n, len(p.sec.Status().Held))
		}
	})
}

// A row that cannot be written here does not keep the others from coming.
func TestRefusedRow(t *testing.T) {
	bubble(t, Secrets, func(p *pair) {
		p.east.change(policy(1))
		p.equal(5 * time.Second)
		// Its name belongs to a record of here that is held.
		p.west.must(store.CmdACL, (&store.ACLCommand{Replicated: true, Changes: []store.ACLChange{policy(2)}}).AppendWire(nil))
		p.west.must(store.CmdACL, (&store.ACLCommand{Replicated: true, Changes: []store.ACLChange{store.DeleteACL(store.ACLPolicies, "policy-2")}}).AppendWire(nil))
		if done, err := p.sec.Undo(context.Background(), time.Time{}); done.Restored != 1 || err != nil {
			t.Fatalf("%+v %v", done, err)
		}
		p.east.change(store.SetACL(store.ACLCreate, &store.ACLPolicy{ID: "policy-3", Name: "name-2"}), policy(4))
		time.Sleep(20 * time.Second)
		if p.west.st.ACLRecord(store.ACLPolicies, "policy-4") == nil || p.west.st.ACLRecord(store.ACLPolicies, "policy-2") == nil || p.west.st.ACLRecord(store.ACLPolicies, "policy-3") != nil {
			t.Errorf("a held record was pushed out, or kept others away: %+v", p.sec.Status())
		}
		if st := p.sec.Status(); len(st.Held) != 1 || st.LastRefusal == "" {
			t.Errorf("status %+v", st)
		} else if _, err := p.sec.Approve(context.Background(), st.HeldID); err != nil {
			t.Fatal(err)
		}
		p.equal(5 * time.Second)
	})
}
