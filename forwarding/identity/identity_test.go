package identity

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
	"landbridge/store/state"
)

// acls is a state with ACL records, and a clock of commands.
type acls struct {
	t  testing.TB
	st *state.Store
}

func newACLs(t testing.TB) *acls {
	a := &acls{t, state.New()}
	return a
}

func (a *acls) apply(changes ...store.ACLChange) {
	a.t.Helper()
	var res [1]store.Result
	a.st.Apply([]store.Command{{Kind: store.CmdACL, Payload: (&store.ACLCommand{Changes: changes}).AppendWire(nil)}}, res[:])
	if res[0].Err != nil {
		a.t.Fatal(res[0].Err)
	}
}

func (a *acls) policy(id, rules string, dcs ...string) {
	a.t.Helper()
	a.apply(store.SetACL(store.ACLSet, &store.ACLPolicy{ID: id, Name: id, Rules: rules, Datacenters: dcs}))
}

func (a *acls) token(secret string, change func(*store.ACLToken)) {
	a.t.Helper()
	t := &store.ACLToken{AccessorID: "id-" + secret, SecretID: secret}
	change(t)
	t.Seal()
	a.apply(store.SetACL(store.ACLSet, t))
}

func links(ids ...string) (list []store.ACLLink) {
	for _, id := range ids {
		list = append(list, store.ACLLink{ID: id})
	}
	return list
}

func (a *acls) resolver(change func(*Config)) *State {
	a.t.Helper()
	cfg := Config{Datacenter: "dc1", State: a.st, NodeName: "n1"}
	if change != nil {
		change(&cfg)
	}
	s, err := NewState(cfg)
	if err != nil {
		a.t.Fatal(err)
	}
	return s
}

func mustResolve(t testing.TB, r interface {
	Resolve(context.Context, string, *state.Watch, bool) (*acl.Bearer, error)
}, secret string) *acl.Bearer {
	t.Helper()
	who, err := r.Resolve(t.Context(), secret, nil, false)
	if err != nil {
		t.Fatalf("%s: %v", secret, err)
	}
	return who
}

func TestStateResolves(t *testing.T) {
	a := newACLs(t)
	s := a.resolver(func(c *Config) { c.Recovery = func() string { return "break-glass" } })
	if _, err := s.Resolve(t.Context(), "x", nil, false); err != store.ErrACLBootstrap {
		t.Errorf("an unknown secret before there are tokens: %v", err)
	}
	if who := mustResolve(t, s, ""); !who.Anonymous() || who.Can(acl.Key, "a", acl.Read) {
		t.Error("the anonymous token before it is in the state")
	}
	a.policy("p1", `key_prefix "a/" { policy = "write" }`)
	a.policy("p2", `operator = "read"`, "dc2")
	a.policy("p3", `operator = "read"`, "DC1")
	a.apply(store.SetACL(store.ACLSet, &store.ACLRole{ID: "r1", Name: "r1", ACLGrants: store.ACLGrants{Policies: links("p3"),
		NodeIdentities: []store.NodeIdentity{{NodeName: "n", Datacenter: "dc1"}, {NodeName: "other", Datacenter: "dc2"}}}}))
	a.token("s1", func(t *store.ACLToken) {
		t.Policies, t.Roles = links("p1", "p2"), links("r1")
		t.ServiceIdentities = []store.ServiceIdentity{{ServiceName: "web"}, {ServiceName: "far", Datacenters: []string{"dc2"}}}
		t.TemplatedPolicies = []store.TemplatedPolicy{{TemplateName: "builtin/dns"}}
	})
	if _, err := s.Resolve(t.Context(), "x", nil, false); err != store.ErrACLNotFound {
		t.Errorf("an unknown secret: %v", err)
	}
	who := mustResolve(t, s, "s1")
	for _, q := range []struct {
		r    acl.Resource
		name string
		want acl.Access
		may  bool
	}{
		{acl.Key, "a/b", acl.Write, true}, {acl.Operator, "", acl.Read, true}, {acl.Node, "n", acl.Write, true}, {acl.Node, "other", acl.Write, false},
		{acl.Service, "web", acl.Write, true}, {acl.Service, "far", acl.Write, false}, {acl.Query, "q", acl.Read, true}, {acl.ACL, "", acl.Read, false},
	} {
		if got := who.Can(q.r, q.name, q.want); got != q.may {
			t.Errorf("%s:%s on %q: %v", q.r, q.want, q.name, got)
		}
	}
	if again := mustResolve(t, s, "s1"); again != who {
		t.Error("what nothing changed was made anew")
	}
	a.token("s2", func(t *store.ACLToken) {
		t.Policies = links("p1")
	})
	a.token("s3", func(t *store.ACLToken) {
		t.Policies = links("p1")
	})
	if mustResolve(t, s, "s2").Authorizer != mustResolve(t, s, "s3").Authorizer {
		t.Error("two tokens with the same policies have two authorizers")
	}
	// A change is felt by the next request.
	a.policy("p1", `key_prefix "a/" { policy = "deny" }`)
	if mustResolve(t, s, "s1").Can(acl.Key, "a/b", acl.Read) || mustResolve(t, s, "s2").Can(acl.Key, "a/b", acl.Read) {
		t.Error("a changed policy is not felt")
	}
	a.apply(store.DeleteACL(store.ACLTokens, "id-s2"))
	if _, err := s.Resolve(t.Context(), "s2", nil, false); err != store.ErrACLNotFound {
		t.Errorf("a deleted token: %v", err)
	}
	// The recovery token shadows.
	a.token("break-glass", func(t *store.ACLToken) {})
	if who := mustResolve(t, s, "break-glass"); who.AccessorID != "agent-recovery:n1" || !who.Can(acl.Agent, "n1", acl.Write) {
		t.Errorf("the recovery token: %v", who)
	}
	// A policy that cannot be read may be the one that denies: no rights at all.
	a.policy("bad", `key "x" {`)
	a.token("s4", func(t *store.ACLToken) { t.Policies = links("bad", "p3") })
	if _, err := s.Resolve(t.Context(), "s4", nil, false); err == nil {
		t.Error("a token with a policy that cannot be read works")
	}
}

func TestStateExpiryAndWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newACLs(t)
		s := a.resolver(nil)
		a.policy("p1", `operator = "read"`)
		a.policy("other", ``)
		a.token("s1", func(t *store.ACLToken) { t.ExpirationTime, t.Policies = time.Now().Add(time.Hour), links("p1") })
		w := a.st.NewWatch()
		defer w.Close()
		for range 2 { // made anew, then kept
			if who, err := s.Resolve(t.Context(), "s1", w, false); err != nil || !who.Expires.Equal(time.Now().Add(time.Hour)) {
				t.Fatal(who, err)
			}
		}
		a.policy("other", `key "x" { policy = "read" }`)
		select {
		case <-w.C():
			t.Error("a change of another policy woke the watch")
		default:
		}
		a.policy("p1", `operator = "write"`)
		select {
		case <-w.C():
		default:
			t.Error("a change of its policy did not wake the watch")
		}
		time.Sleep(time.Hour)
		if _, err := s.Resolve(t.Context(), "s1", nil, false); err != store.ErrACLNotFound {
			t.Errorf("at its end: %v", err)
		}
	})
}

// far is a server that can be away.
type far struct {
	mu    sync.Mutex
	s     *State
	down  bool
	calls int
	stale map[string]bool // secrets that servers but the leader do not know yet
}

func (f *far) set(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

func (f *far) Do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.down {
		return nil, store.ErrNoServers
	}
	if req.Consistency == store.Stale && f.stale[req.Token] {
		return nil, store.ErrACLNotFound
	}
	return f.s.Answer(ctx, req)
}

func TestRemote(t *testing.T) {
	for _, down := range []DownPolicy{DownAllow, DownDeny, DownExtend, DownAsync} {
		t.Run(string(down), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newACLs(t)
				a.policy("p1", `key_prefix "a/" { policy = "write" }`)
				a.token("s1", func(t *store.ACLToken) { t.Policies = links("p1") })
				a.token("new", func(t *store.ACLToken) { t.Policies = links("p1") })
				a.token("local", func(t *store.ACLToken) { t.Local = true })
				f := &far{s: a.resolver(nil), stale: map[string]bool{"new": true}}
				r := NewRemote(RemoteConfig{Do: f, Datacenter: "dc1", TTL: 30 * time.Second, Down: down, NodeName: "n1", Logger: slog.New(slog.DiscardHandler),
					Recovery: func() string { return "glass" }})
				defer r.Stop(t.Context())
				may := func(secret string) bool { return mustResolve(t, r, secret).Can(acl.Key, "a/b", acl.Write) }
				if _, err := r.Resolve(t.Context(), "s1", nil, true); err != rpc.ErrWouldWait {
					t.Errorf("who must not wait: %v", err)
				}
				if !may("s1") || !may("new") || mustResolve(t, r, "").Can(acl.Key, "a/b", acl.Read) {
					t.Error("rights are not those of the server")
				}
				if who, err := r.Resolve(t.Context(), "s1", nil, true); err != nil || who == nil {
					t.Errorf("kept, for who must not wait: %v", err)
				}
				if _, err := r.Resolve(t.Context(), "nobody's", nil, false); err != store.ErrACLNotFound {
					t.Errorf("an unknown secret: %v", err)
				}
				n := f.calls
				r.Resolve(t.Context(), "nobody's", nil, false)
				for i := range 3 * slotCount { // pushes nothing out that is good
					r.keep(store.HashSecret(fmt.Sprint("random", i)), &held{err: store.ErrACLNotFound})
				}
				may("s1")
				if f.calls != n {
					t.Error("what is kept was asked for again")
				}
				// Who tries a secret before it is known does not wait long.
				a.token("late", func(*store.ACLToken) {})
				r.keep(store.HashSecret("late"), &held{err: store.ErrACLNotFound, at: time.Now()})
				if _, err := r.Resolve(t.Context(), "late", nil, false); err != store.ErrACLNotFound {
					t.Errorf("refused a moment ago: %v", err)
				}
				time.Sleep(refusedTTL)
				mustResolve(t, r, "late")
				// A change is felt when the time to live is over.
				first := mustResolve(t, r, "s1").Authorizer
				time.Sleep(31 * time.Second)
				may("s1")
				synctest.Wait()
				if mustResolve(t, r, "s1").Authorizer != first {
					t.Error("the same policies were compiled twice")
				}
				a.policy("p1", `key_prefix "a/" { policy = "read" }`)
				time.Sleep(31 * time.Second)
				if down == DownAsync {
					if !may("s1") {
						t.Error("async-cache waited for a refresh")
					}
					synctest.Wait()
				}
				if may("s1") {
					t.Error("a changed policy is not felt after the time to live")
				}
				// Nobody answers.
				f.set(true)
				time.Sleep(31 * time.Second)
				who, err := r.Resolve(t.Context(), "s1", nil, false)
				switch down {
				case DownAllow:
					if err != nil || !who.Can(acl.Key, "a/b", acl.Write) || who.Can(acl.ACL, "", acl.Read) {
						t.Errorf("down: %v", err)
					}
				case DownDeny:
					if err != store.ErrNoServers {
						t.Errorf("down: %v", err)
					}
				default:
					if err != nil || !who.Can(acl.Key, "a/b", acl.Read) || who.Can(acl.Key, "a/b", acl.Write) {
						t.Errorf("down: %v", err)
					}
				}
				if _, err := r.Resolve(t.Context(), "never seen", nil, false); (err == nil) != (down == DownAllow) {
					t.Errorf("never seen, down: %v", err)
				}
				if who := mustResolve(t, r, "glass"); who.AccessorID != "agent-recovery:n1" {
					t.Errorf("recovery: %v", who)
				}
				// And deleted tokens are gone when somebody answers again.
				f.set(false)
				a.apply(store.DeleteACL(store.ACLTokens, "id-s1"))
				time.Sleep(31 * time.Second)
				if down == DownAsync {
					r.Resolve(t.Context(), "s1", nil, false)
					synctest.Wait()
				}
				if _, err := r.Resolve(t.Context(), "s1", nil, false); err != store.ErrACLNotFound {
					t.Errorf("deleted: %v", err)
				}
			})
		})
	}
}

// Secrets that nobody knows are asked for in bounded numbers, and refused beyond; who
// is known is not.
func TestRandomSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newACLs(t)
		a.token("s1", func(*store.ACLToken) {})
		f := &slow{far: far{s: a.resolver(nil)}}
		reg := prometheus.NewRegistry()
		r := NewRemote(RemoteConfig{Do: f, Datacenter: "dc1", TTL: 30 * time.Second, Down: DownAllow, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
		defer r.Stop(t.Context())
		mustResolve(t, r, "s1")
		time.Sleep(31 * time.Second)
		before := f.calls
		var all sync.WaitGroup
		var unknown, limited atomic.Int64
		for i := range 10 * askMost {
			all.Go(func() {
				switch _, err := r.Resolve(t.Context(), fmt.Sprint("random", i), nil, false); err {
				case store.ErrACLNotFound:
					unknown.Add(1)
				case errAsking:
					limited.Add(1)
				default:
					t.Errorf("a random secret: %v", err)
				}
			})
		}
		synctest.Wait()
		mustResolve(t, r, "s1") // has to be asked for again, and is
		all.Wait()
		if unknown.Load() != askMost || limited.Load() != 9*askMost || f.calls-before > 2*askMost+1 {
			t.Errorf("%d found unknown, %d refused, with %d calls", unknown.Load(), limited.Load(), f.calls-before)
		}
		if n := testutil.ToFloat64(r.metrics.refused); n != 9*askMost {
			t.Errorf("the metric counts %v", n)
		}
	})
}

// slow is a server that takes its time.
type slow struct{ far }

func (s *slow) Do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	time.Sleep(80 * time.Millisecond)
	return s.far.Do(ctx, req)
}

// A secondary finds global tokens in the primary, and no local ones.
func TestElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		primary, secondary := newACLs(t), newACLs(t)
		primary.policy("p1", `operator = "read"`, "dc2")
		primary.policy("p2", `keyring = "read"`, "dc1")
		primary.token("global", func(t *store.ACLToken) { t.Policies = links("p1", "p2") })
		primary.token("local", func(t *store.ACLToken) { t.Local, t.Policies = true, links("p1") })
		secondary.token("own", func(t *store.ACLToken) { t.Local = true })
		r := NewRemote(RemoteConfig{Do: &far{s: primary.resolver(nil)}, Datacenter: "dc2", Ask: func() string { return "dc1" }, TTL: time.Minute, Down: DownExtend, Logger: slog.New(slog.DiscardHandler)})
		defer r.Stop(t.Context())
		s := secondary.resolver(func(c *Config) { c.Datacenter, c.Elsewhere = "dc2", r })
		if who := mustResolve(t, s, "global"); !who.Can(acl.Operator, "", acl.Read) || who.Can(acl.Keyring, "", acl.Read) {
			t.Error("a global token has not the rights of this datacenter")
		}
		if _, err := s.Resolve(t.Context(), "local", nil, false); err != store.ErrACLNotFound {
			t.Errorf("a local token of another datacenter: %v", err)
		}
		mustResolve(t, s, "own")
	})
}

func BenchmarkResolve(b *testing.B) {
	a := newACLs(b)
	a.policy("p1", acl.GlobalReadOnly)
	a.token("8a1c9f3e-27d7-4e65-9c1b-7c3f5f6f2b11", func(t *store.ACLToken) { t.Policies = links("p1") })
	s := a.resolver(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Resolve(context.Background(), "8a1c9f3e-27d7-4e65-9c1b-7c3f5f6f2b11", nil, false); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	a := answer{accessor: "a", expires: time.Unix(5, 0), digest: "d", policies: []policy{{"k", "t"}}}
	f.Add(a.appendWire(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var x, y answer
		if x.decodeWire(b) != nil {
			return
		}
		if err := y.decodeWire(x.appendWire(nil)); err != nil || y.accessor != x.accessor || y.digest != x.digest || len(y.policies) != len(x.policies) {
			t.Fatalf("%v: %v, %v", err, x, y)
		}
	})
}
