package trust

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store"
)

func TestJoinTwoDatacenters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.delay = 40 * time.Millisecond
		d1, d2 := w.add("dc1", 3, nil), w.add("dc2", 3, nil)
		winner, old := d1.trust().Roots[0].ID, d2.trust().Roots[0].ID
		if err := d2.servers[0].canTalk(d1.servers[0]); err == nil {
			t.Fatal("datacenters that never joined talk to each other")
		}
		start := time.Now()
		// A follower is told, a follower answers.
		if err := d2.servers[2].Join(t.Context(), "s2.dc1"); err != nil {
			t.Fatal(err)
		}
		// One round trip for TLS, one for the enrolment.
		if took := time.Since(start); took > 200*time.Millisecond {
			t.Errorf("join took %v at 80 ms round trip", took)
		}
		if err := d2.servers[2].canTalk(d1.servers[1]); err != nil {
			t.Errorf("right after the join: %v", err)
		}
		w.allTalk()
		if took := time.Since(start); took > 200*time.Millisecond {
			t.Errorf("all servers had new certificates after %v", took)
		}
		rec := d2.trust()
		if rec.Roots[0].ID != winner || !rec.Roots[0].Active || rec.Primary != "dc1" || rec.RootKey != nil {
			t.Errorf("dc2: root %s, primary %q, root key held: %v; want dc1's root %s", rec.Roots[0].ID, rec.Primary, rec.RootKey != nil, winner)
		}
		if rec := d1.trust(); rec.Primary != "dc1" || len(rec.Roots) != 1 || len(rec.Datacenters) != 2 {
			t.Errorf("dc1: primary %q, %d roots, datacenters %v", rec.Primary, len(rec.Roots), rec.Datacenters)
		}
		// The provisional root goes as soon as no certificate below it is in use.
		time.Sleep(time.Second)
		if rec := d2.trust(); len(rec.Roots) != 1 {
			t.Errorf("provisional root %s still trusted after all servers replaced their certificates", old)
		}
		w.allTalk()

		// Again, from both sides: nothing to do.
		before1, before2 := d1.trust().ModifyIndex, d2.trust().ModifyIndex
		for _, err := range []error{d2.lead().Join(t.Context(), "s1.dc1"), d1.lead().Join(t.Context(), "s3.dc2"), d1.lead().Join(t.Context(), "s2.dc1")} {
			if err != nil {
				t.Errorf("join again: %v", err)
			}
		}
		if d1.trust().ModifyIndex != before1 || d2.trust().ModifyIndex != before2 {
			t.Error("joining again changed a record")
		}
	})
}

// TestJoinOrder joins three datacenters in every order and direction.
func TestJoinOrder(t *testing.T) {
	type step struct{ from, to string }
	for _, tc := range []struct {
		name    string
		steps   []step
		primary string
	}{
		{"star", []step{{"dc2", "dc1"}, {"dc3", "dc1"}}, "dc1"},
		{"chain through a secondary", []step{{"dc2", "dc1"}, {"dc3", "dc2"}}, "dc1"},
		{"primary reaches out", []step{{"dc2", "dc1"}, {"dc1", "dc3"}}, "dc1"},
		{"secondary reaches out", []step{{"dc2", "dc1"}, {"dc2", "dc3"}}, "dc1"},
		{"twice dialed by the same", []step{{"dc1", "dc2"}, {"dc1", "dc3"}}, "dc2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				for _, n := range []string{"dc1", "dc2", "dc3"} {
					w.add(n, 2, nil)
				}
				for _, s := range tc.steps {
					if err := w.dcs[s.from].servers[1].Join(t.Context(), "s2."+s.to); err != nil {
						t.Fatalf("%s joins %s: %v", s.from, s.to, err)
					}
				}
				for n, d := range w.dcs {
					if got := d.trust().Primary; got != tc.primary {
						t.Errorf("%s: primary %q, want %q", n, got, tc.primary)
					}
				}
				w.allTalk()
				if got := len(w.dcs[tc.primary].trust().Datacenters); got != 3 {
					t.Errorf("primary knows %d datacenters, want 3", got)
				}
			})
		})
	}
}

func TestExplicitPrimary(t *testing.T) {
	primary := func(dc string) func(*Config) { return func(c *Config) { c.PrimaryDatacenter = dc } }
	for _, tc := range []struct {
		name           string
		one, two       func(*Config)
		from, to, want string
		err            string
	}{
		{"the contacted one", nil, nil, "dc2", "dc1", "dc1", ""},
		{"dialer is primary", primary("dc1"), nil, "dc1", "dc2", "dc1", ""},
		{"both agree", primary("dc1"), primary("dc1"), "dc1", "dc2", "dc1", ""},
		{"contacted names dialer", nil, primary("dc1"), "dc1", "dc2", "dc1", ""},
		{"different", primary("dc1"), primary("dc2"), "dc2", "dc1", "",
			`no common primary datacenter: dc1 has "dc1", dc2 has "dc2"; set the same primary_datacenter on both sides`},
		{"a third", primary("dc9"), nil, "dc2", "dc1", "",
			`primary datacenter dc9 is neither dc1 nor dc2, and neither has joined it yet; join it first`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.add("dc1", 1, tc.one)
				w.add("dc2", 1, tc.two)
				before := w.activeRoots()
				err := w.dcs[tc.from].lead().Join(t.Context(), "s1."+tc.to)
				if tc.err != "" {
					if err == nil || err.Error() != tc.err || store.KindOf(err) != store.KindConflict {
						t.Errorf("got %v, want %s", err, tc.err)
					}
					if !maps.Equal(before, w.activeRoots()) {
						t.Error("a refused join changed a root")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				for n, d := range w.dcs {
					if d.trust().Primary != tc.want {
						t.Errorf("%s: primary %q, want %q", n, d.trust().Primary, tc.want)
					}
				}
				w.allTalk()
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	key := func(k string) func(*Config) {
		return func(c *Config) { c.GossipKey = func() []byte { return []byte(k) } }
	}
	with := func(edits ...func(*Config)) func(*Config) {
		return func(c *Config) {
			for _, e := range edits {
				e(c)
			}
		}
	}
	open := func(c *Config) { c.AllowUnauthenticated = true }
	loopback := func(c *Config) { c.LoopbackSocket = true }
	for _, tc := range []struct {
		name     string
		source   string
		one, two func(*Config)
		err      string
		kind     store.Kind
	}{
		{"same key", "192.0.2.1:1", nil, nil, "", 0},
		{"another key", "127.0.0.1:1", nil, key("fedcba9876543210"),
			"datacenter dc1 refused the join: its gossip key (encrypt) is not that of datacenter dc2; " + threeWays, store.KindPermissionDenied},
		{"no key on our side", "192.0.2.1:1", nil, key(""),
			"join of 192.0.2.1:1 refused here: without a proof nobody knows who answers: " + threeWays, store.KindPermissionDenied},
		{"no key on our side, which is open", "192.0.2.1:1", nil, with(key(""), open),
			"datacenter dc1 refused the join: datacenter dc2 offered no proof that it belongs: " + threeWays, store.KindPermissionDenied},
		{"no key on our side, loopback", "127.0.0.1:1", loopback, with(key(""), loopback),
			"datacenter dc1 refused the join: datacenter dc2 offered no proof that it belongs: " + threeWays, store.KindPermissionDenied},
		{"no key there", "192.0.2.1:1", key(""), nil,
			"datacenter dc1 refused the join: it has no gossip key to check a proof with: " + threeWays, store.KindPermissionDenied},
		{"no key there, which is open", "192.0.2.1:1", with(key(""), open), nil,
			"datacenter dc1 has no gossip key (encrypt), datacenter dc2 requires a proof of its own: " + threeWays, store.KindPermissionDenied},
		{"no keys", "192.0.2.1:1", with(key(""), loopback), with(key(""), loopback),
			"join of 192.0.2.1:1 refused here: without a proof nobody knows who answers: " + threeWays, store.KindPermissionDenied},
		{"no keys, loopback", "127.0.0.1:1", with(key(""), loopback), with(key(""), loopback), "", 0},
		{"no keys, loopback packets to a public socket", "127.0.0.1:1", key(""), with(key(""), loopback),
			"datacenter dc1 refused the join: it has no gossip key to check a proof with: " + threeWays, store.KindPermissionDenied},
		{"no keys, open", "192.0.2.1:1", with(key(""), open), with(key(""), open), "", 0},
		{"not by key", "192.0.2.1:1", func(c *Config) { c.EnrollByKey = false }, nil,
			"datacenter dc1 does not accept joins by the gossip key (federation.enroll_by_key, which acl.enabled turns off unless it is set): " + threeWays, store.KindPermissionDenied},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d1, d2 := w.add("dc1", 1, tc.one), w.add("dc2", 1, tc.two)
				w.source = addrPort(tc.source)
				one, two := d1.trust(), d2.trust()
				err := d2.lead().Join(t.Context(), "s1.dc1")
				if tc.err == "" {
					if err != nil {
						t.Fatal(err)
					}
					w.allTalk()
					insecure := tc.name != "same key"
					for _, d := range w.dcs {
						if got := d.lead().Status().Unauthenticated; got != insecure {
							t.Errorf("%s: unauthenticated %v, want %v", d.name, got, insecure)
						}
					}
					return
				}
				if err == nil || err.Error() != tc.err || store.KindOf(err) != tc.kind {
					t.Errorf("got (%d) %v\nwant (%d) %s", store.KindOf(err), err, tc.kind, tc.err)
				}
				if d1.trust() != one || d2.trust() != two {
					t.Error("a refused join changed a record")
				}
			})
		})
	}
}

func TestNamesAndFederations(t *testing.T) {
	t.Run("same datacenter name", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			d1 := w.add("dc1", 1, func(c *Config) { c.Node = "first" })
			w.set("other", d1)
			twin := w.add("dc1", 1, nil)
			before := d1.trust()
			err := twin.lead().Join(t.Context(), "first.dc1")
			want := `datacenter name "dc1" is taken: both sides use it for different clusters; give one of them another name`
			if err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if d1.trust() != before {
				t.Error("record changed")
			}
		})
	})
	t.Run("name of a member", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			d1 := w.add("dc1", 1, nil)
			w.add("dc2", 1, nil)
			if err := w.dcs["dc2"].lead().Join(t.Context(), "s1.dc1"); err != nil {
				t.Fatal(err)
			}
			w.set("first", w.dcs["dc2"])
			twin := w.add("dc2", 1, nil)
			before := d1.trust()
			for _, err := range []error{twin.lead().Join(t.Context(), "s1.dc1")} {
				want := `datacenter name "dc2" is taken: this federation knows it as another cluster; give the new one another name`
				if err == nil || err.Error() != want {
					t.Errorf("got %v, want %s", err, want)
				}
			}
			if d1.trust() != before {
				t.Error("record changed")
			}
		})
	})
	t.Run("two federations", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			for _, n := range []string{"dc1", "dc2", "dc3", "dc4"} {
				w.add(n, 1, nil)
			}
			join := func(from, to string) error { return w.dcs[from].lead().Join(t.Context(), "s1."+to) }
			if err := errors.Join(join("dc2", "dc1"), join("dc4", "dc3")); err != nil {
				t.Fatal(err)
			}
			before := w.activeRoots()
			for _, s := range [][2]string{{"dc1", "dc3"}, {"dc2", "dc4"}, {"dc4", "dc1"}} {
				err := join(s[0], s[1])
				l, r := map[string]string{"dc1": "dc1", "dc2": "dc1", "dc3": "dc3", "dc4": "dc3"}[s[1]], map[string]string{"dc1": "dc1", "dc2": "dc1", "dc3": "dc3", "dc4": "dc3"}[s[0]]
				want := "two federations of more than one datacenter cannot be joined: " + s[1] + " belongs to that of primary " + l + ", " + s[0] + " to that of primary " + r
				if err == nil || err.Error() != want {
					t.Errorf("%s joins %s: got %v, want %s", s[0], s[1], err, want)
				}
			}
			if !maps.Equal(before, w.activeRoots()) {
				t.Error("roots changed")
			}
		})
	})
}

// TestJoinsAtOnce lets datacenters join each other at the same moment, from
// leaders and followers, at several distances.
func TestJoinsAtOnce(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Millisecond, 40 * time.Millisecond} {
		for _, apart := range []time.Duration{0, time.Millisecond, 30 * time.Millisecond, 70 * time.Millisecond, 100 * time.Millisecond, 130 * time.Millisecond, 170 * time.Millisecond} {
			for _, target := range []string{"s1.", "s2."} {
				t.Run(delay.String()+" "+apart.String()+" "+target, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						older := w.add("dc2", 2, nil) // added first: its root is older
						time.Sleep(2 * time.Second)
						w.add("dc1", 2, nil)
						w.delay = delay
						errc := make(chan error, 2)
						go func() { errc <- w.dcs["dc1"].lead().Join(t.Context(), target+"dc2") }()
						time.Sleep(apart)
						go func() { errc <- w.dcs["dc2"].lead().Join(t.Context(), target+"dc1") }()
						if err := errors.Join(<-errc, <-errc); err != nil {
							t.Fatal(err)
						}
						roots := slices.Collect(maps.Values(w.activeRoots()))
						if roots[0] != roots[1] {
							t.Fatalf("different roots after two joins: %v", w.activeRoots())
						}
						if apart == 0 && roots[0] != older.trust().Roots[0].ID {
							t.Error("the younger root won")
						}
						w.allTalk()
					})
				})
			}
		}
	}
}

// TestRingAtOnce lets three join each other in a ring at once; they retry as
// retry_join_wan does.
func TestRingAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		names := []string{"dc1", "dc2", "dc3"}
		for _, n := range names {
			w.add(n, 2, nil)
			time.Sleep(time.Second)
		}
		w.delay = 5 * time.Millisecond
		errc := make(chan error, len(names))
		for i, n := range names {
			go func() {
				var err error
				for range 5 {
					if err = w.dcs[n].lead().Join(t.Context(), "s2."+names[(i+1)%3]); err == nil {
						break
					}
					time.Sleep(time.Second)
				}
				errc <- err
			}()
		}
		if err := errors.Join(<-errc, <-errc, <-errc); err != nil {
			t.Error(err)
		}
		roots := w.activeRoots()
		if roots["dc1"] != roots["dc2"] || roots["dc2"] != roots["dc3"] {
			t.Fatalf("roots %v", roots)
		}
		w.allTalk()
	})
}
