package trust

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

func (w *world) rotate(dc, what string) error {
	_, err := w.dcs[dc].lead().ask(rpc.TrustRotate, "", (&rotateRequest{what}).append)
	return err
}

// TestRotateRoot replaces the root while one datacenter is cut off. At each moment
// every server can call every other one that it can reach; the old root stays until
// the one that was away is done.
func TestRotateRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d1 := w.add("dc1", 2, nil)
		for _, name := range []string{"dc2", "dc3"} {
			if err := w.add(name, 2, nil).lead().Join(t.Context(), "s1.dc1"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * confirmEvery) // provisional roots are gone
		d2, d3 := w.dcs["dc2"], w.dcs["dc3"]
		first := d1.trust().Roots[0].ID
		d3.leader.Store(-1) // its servers live, and hear of nothing new
		if err := w.rotate("dc2", RotateRoot); err != nil {
			t.Fatal(err)
		}
		second := d1.trust().Roots[0].ID
		if second == first || rotating(d1.trust()) != 1 {
			t.Fatalf("root %s after %s, %d replaced", second, first, rotating(d1.trust()))
		}
		// Before anybody has heard of it, and in each step after.
		for range 20 {
			w.canAllTalk()
			time.Sleep(50 * time.Millisecond)
		}
		w.announce()
		if got := d2.trust().Roots[0].ID; got != second {
			t.Fatalf("dc2 has root %s, want %s", got, second)
		}
		time.Sleep(confirmEvery)
		w.canAllTalk()
		if s := d2.servers[1]; !s.view.Load().below(second) {
			t.Errorf("%s has no certificate below the new root", s.self())
		}
		if s := d3.servers[1]; s.view.Load().below(second) || len(d3.trust().Roots) != 1 {
			t.Error("dc3 has heard of the new root without a leader")
		}
		time.Sleep(2 * time.Hour)
		if got := waitingFor(d1.trust()); len(got) != 1 || got[0] != "dc3" {
			t.Errorf("the old root waits for %v, want dc3", got)
		}

		d3.leader.Store(1)
		if err := d3.lead().EstablishLeadership(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.announce()
		w.canAllTalk()
		time.Sleep(2 * confirmEvery)
		w.announce()
		for _, d := range w.dcs {
			if rec := d.trust(); len(rec.Roots) != 1 || rec.Roots[0].ID != second || rec.Roots[0].Cross != nil {
				t.Errorf("%s: %d roots, the current one %s, want %s alone", d.name, len(rec.Roots), rec.Roots[0].ID, second)
			}
		}
		w.canAllTalk()
	})
}

// canAllTalk checks all pairs, as they are.
func (w *world) canAllTalk() {
	w.t.Helper()
	for _, d := range w.dcs {
		for _, s := range d.servers {
			for _, e := range w.dcs {
				for _, to := range e.servers {
					if s.certificate() == nil || to.certificate() == nil {
						continue
					}
					if err := s.canTalk(to); err != nil {
						w.t.Errorf("%s -> %s: %v", s.self(), to.self(), err)
					}
				}
			}
		}
	}
}

// TestRotateByItself replaces a root at two thirds of its life.
func TestRotateByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d1 := w.add("dc1", 1, nil)
		if err := w.add("dc2", 1, nil).lead().Join(t.Context(), "s1.dc1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * confirmEvery)
		old := d1.trust()
		der, key, err := newRoot(time.Now().Add(-rootLife*2/3+time.Hour), old.FederationID+trustDomainSuffix)
		if err != nil {
			t.Fatal(err)
		}
		aged, err := parseIssuer(der, key)
		if err != nil {
			t.Fatal(err)
		}
		next := old.Clone()
		prev, err := parseIssuer(old.Roots[0].DER, old.RootKey)
		if err != nil {
			t.Fatal(err)
		}
		r := newTrustRoot(aged.cert, old.FederationID, true)
		if r.Cross, err = crossSign(time.Now(), prev, aged.cert); err != nil {
			t.Fatal(err)
		}
		next.Roots, next.RootKey = append([]store.TrustRoot{r}, next.Roots...), key
		if err := d1.lead().replace(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		w.announce()
		time.Sleep(2 * time.Hour)
		w.announce()
		time.Sleep(3 * confirmEvery)
		for name, id := range w.activeRoots() {
			if id == r.ID || id == old.Roots[0].ID {
				t.Errorf("%s: the root was not replaced at two thirds of its life", name)
			}
		}
		w.allTalk()
	})
}

// TestRotateLower replaces intermediates and server certificates at a command.
func TestRotateLower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, d2 := joined(t, 2)
		time.Sleep(2 * confirmEvery)
		serials := func() string {
			var list []string
			for _, s := range d2.servers {
				c := s.view.Load().creds
				list = append(list, c.leaf.SerialNumber.String()+" below "+c.intermediate.SerialNumber.String())
			}
			return strings.Join(list, "\n")
		}
		for _, what := range []string{RotateServers, RotateServers, RotateIntermediate} {
			before, inter := serials(), string(d2.trust().Intermediate)
			if err := w.rotate("dc2", what); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			after := serials()
			for i, line := range strings.Split(after, "\n") {
				if strings.Contains(before, line) {
					t.Errorf("%s: server %d has its old certificate", what, i+1)
				}
			}
			if changed := string(d2.trust().Intermediate) != inter; changed != (what == RotateIntermediate) {
				t.Errorf("%s: the intermediate changed: %v", what, changed)
			}
			time.Sleep(time.Minute)
			if serials() != after {
				t.Errorf("%s: certificates were replaced twice", what)
			}
			w.allTalk()
		}
		if err := w.rotate("dc2", "everything"); store.KindOf(err) != store.KindInvalid {
			t.Errorf("nonsense: %v", err)
		}
	})
}

// TestTooManyRotations refuses a third root while two replaced ones are needed, and
// lets an operator end it.
func TestTooManyRotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d1, d2 := joined(t, 1)
		time.Sleep(2 * confirmEvery)
		d2.leader.Store(-1)
		for range maxRotations {
			if err := w.rotate("dc1", RotateRoot); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			w.canAllTalk() // over a chain of cross-signed roots
		}
		if err := w.rotate("dc1", RotateRoot); store.KindOf(err) != store.KindConflict || !strings.Contains(err.Error(), "dc2") {
			t.Errorf("a third: %v", err)
		}
		if err := w.rotate("dc1", RotatePrune); err != nil {
			t.Fatal(err)
		}
		if err := w.rotate("dc1", RotatePrune); store.KindOf(err) != store.KindNotFound {
			t.Errorf("again: %v", err)
		}
		time.Sleep(time.Second)
		if err := d2.servers[0].canTalk(d1.lead()); err == nil {
			t.Error("dc2 is accepted below a root that was dropped")
		}
	})
}

// TestForeignRoot refuses roots that no trusted one certified.
func TestForeignRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d1, d2 := joined(t, 1)
		g := shared(d1.trust())
		der, _, err := newRoot(time.Now(), g.federationID+trustDomainSuffix)
		if err != nil {
			t.Fatal(err)
		}
		g.revision++
		g.roots = append([][]byte{der}, g.roots...)
		if _, err := follows(d2.trust(), g, time.Now()); store.KindOf(err) != store.KindPermissionDenied {
			t.Errorf("a root of nobody's: %v", err)
		}
		other, key, err := newRoot(time.Now(), g.federationID+trustDomainSuffix)
		if err != nil {
			t.Fatal(err)
		}
		by, err := parseIssuer(other, key)
		if err != nil {
			t.Fatal(err)
		}
		root, err := parseIssuer(d1.trust().Roots[0].DER, d1.trust().RootKey)
		if err != nil {
			t.Fatal(err)
		}
		forged, err := crossSign(time.Now(), by, root.cert)
		if err != nil {
			t.Fatal(err)
		}
		g.crosses = [][]byte{forged}
		if _, err := follows(d2.trust(), g, time.Now()); store.KindOf(err) != store.KindPermissionDenied {
			t.Errorf("certified by a stranger: %v", err)
		}
	})
}

// TestEvict refuses a server everywhere, also after a restart without Raft state,
// and lets it in again with a new certificate only.
func TestEvict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dir := t.TempDir()
		d1 := w.add("dc1", 2, nil)
		d2 := w.add("dc2", 2, nil)
		d3 := w.add("dc3", 1, func(c *Config) { c.DataDir = dir })
		for _, d := range []*dc{d2, d3} {
			if err := d.lead().Join(t.Context(), "s1.dc1"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * confirmEvery)
		evict := func(at *dc, node, dc string, undo bool) error {
			m := evictRequest{node: node, datacenter: dc, undo: undo}
			_, err := at.lead().ask(rpc.TrustEvict, "", m.append)
			w.announce()
			return err
		}
		victim := d2.servers[1]
		stolen := victim.view.Load().creds.tls
		if err := evict(d3, "S2", "dc2", false); err != nil { // asked anywhere, in any case
			t.Fatal(err)
		}
		refused := func(by *server) {
			t.Helper()
			if err := victim.canTalk(by); err == nil || !strings.Contains(err.Error(), "was evicted") {
				t.Errorf("%s -> %s: %v", victim.self(), by.self(), err)
			}
			if err := by.canTalk(victim); err == nil { // the victim hears no more than that
				t.Errorf("%s calls %s, which was evicted", by.self(), victim.self())
			}
		}
		for _, s := range []*server{d1.servers[0], d1.servers[1], d2.servers[0], d3.servers[0]} {
			refused(s)
		}
		if err := d2.servers[0].canTalk(d3.lead()); err != nil {
			t.Errorf("the other server of dc2: %v", err)
		}
		if err := victim.renew(t.Context(), d2.trust()); err == nil || !strings.Contains(err.Error(), "was evicted") {
			t.Errorf("a new certificate: %v", err)
		}
		cfg := d3.lead().cfg
		cfg.State, cfg.IsLeader, cfg.Registerer = StateOf(newEmptyState()), func() bool { return false }, prometheus.NewRegistry()
		a, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		refused(&server{Authority: a, dc: d3})

		if err := evict(d2, "s2", "dc2", true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, s := range []*server{d1.servers[0], d2.servers[0], d3.servers[0]} {
			if err := errors.Join(victim.canTalk(s), s.canTalk(victim)); err != nil {
				t.Errorf("let in again, and %s: %v", s.self(), err)
			}
		}
		old, err := d1.lead().identify(certsOf(t, &stolen), 0, time.Now())
		if err == nil {
			t.Errorf("the certificate from before the eviction is good for %s", old)
		}
		time.Sleep(keepLifted(&store.TrustRevocation{Node: "s2"}) + time.Hour)
		w.announce()
		if n := len(d1.trust().Revoked) + len(d3.trust().Revoked); n != 0 {
			t.Errorf("%d revocations kept for nothing", n)
		}

		// A whole datacenter, which has to join again.
		if err := evict(d1, "", "dc2", false); err != nil {
			t.Fatal(err)
		}
		refused(d3.lead())
		if err := d2.lead().Join(t.Context(), "s1.dc1"); store.KindOf(err) != store.KindPermissionDenied {
			t.Errorf("an evicted datacenter joins: %v", err)
		}
		if err := evict(d1, "", "dc2", true); err != nil {
			t.Fatal(err)
		}
		if err := victim.canTalk(d3.lead()); err == nil {
			t.Errorf("before it joined again: %v", err)
		}
		if err := d2.lead().Join(t.Context(), "s1.dc1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		w.canAllTalk()

		for _, tc := range []struct {
			node, dc string
			undo     bool
			want     store.Kind
		}{
			{"s1", "dc1", false, store.KindConflict}, // it leads the primary
			{"", "dc1", false, store.KindConflict},
			{"s1", "dc9", false, store.KindNotFound},
			{"s1", "dc2", true, store.KindNotFound},
			{"s1", "DC2", false, store.KindInvalid},
		} {
			if err := evict(d2, tc.node, tc.dc, tc.undo); store.KindOf(err) != tc.want {
				t.Errorf("%+v: %v", tc, err)
			}
		}
	})
}
