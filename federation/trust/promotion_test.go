package trust

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
)

const (
	operatorAccessor = "11111111-0000-4000-8000-000000000000"
	operatorSecret   = "22222222-0000-4000-8000-000000000000"
)

// knowsOperator is a datacenter that knows the operator's token.
func knowsOperator(c *Config) {
	c.Consents = func(_ context.Context, accessor string, proves func(string) bool) error {
		if accessor != operatorAccessor || !proves(operatorSecret) {
			return errors.New("no such token here")
		}
		return nil
	}
}

// ignorant is one that knows no tokens.
func ignorant(c *Config) {
	c.Consents = func(context.Context, string, func(string) bool) error { return errors.New("no such token here") }
}

func (s *server) command(id rpc.MethodID, body []byte, secret string) error {
	all, err := acl.Parse(acl.GlobalManagement)
	if err != nil {
		return err
	}
	req := &rpc.Request{Method: id, Body: body, Token: secret,
		Bearer: &acl.Bearer{AccessorID: operatorAccessor, Authorizer: acl.Compile(acl.Defaults{}, all)}}
	_, err = s.route(context.Background(), req)
	return err
}

func (d *dc) promote(force bool) error {
	return d.lead().command(rpc.TrustPromote, PromoteBody(force), operatorSecret)
}

// gone takes a datacenter off the network; back brings it back.
func (d *dc) gone() {
	d.leader.Store(-1)
	d.w.set(d.name, nil)
}

func (d *dc) back() {
	d.w.set(d.name, d)
	d.leader.Store(0)
	_ = d.lead().EstablishLeadership(context.Background())
}

func federated(t *testing.T, edits map[string]func(*Config)) *world {
	w := newWorld(t)
	w.add("dc1", 2, edits["dc1"])
	for _, name := range []string{"dc2", "dc3"} {
		if err := w.add(name, 2, edits[name]).lead().Join(t.Context(), "s1.dc1"); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * confirmEvery) // provisional roots are gone
	w.announce()
	return w
}

// wantTerm checks who a datacenter takes for the primary.
func (d *dc) wantTerm(term uint64, primary string) {
	d.w.t.Helper()
	if rec := d.trust(); TermOf(rec) != term || rec.Primary != primary {
		d.w.t.Errorf("%s: primary %s in term %d, want %s in term %d", d.name, rec.Primary, TermOf(rec), primary, term)
	}
}

// The primary is lost, another datacenter is promoted, and all of them can call each
// other at each moment: those that have followed, the one that has not, and the old
// primary when it is back. In the end nobody trusts the old root.
func TestPromote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := federated(t, map[string]func(*Config){"dc1": knowsOperator, "dc2": knowsOperator, "dc3": ignorant})
		d1, d2, d3 := w.dcs["dc1"], w.dcs["dc2"], w.dcs["dc3"]
		old := d1.trust().Roots[0].ID
		if err := d2.promote(false); err == nil || !strings.Contains(err.Error(), "dc1 answers") {
			t.Fatalf("promoted beside a primary that answers: %v", err)
		}
		if err := d1.promote(false); err == nil || !strings.Contains(err.Error(), "primary already") {
			t.Fatalf("the primary was promoted: %v", err)
		}
		d1.gone()
		if err := d2.promote(false); err != nil {
			t.Fatal(err)
		}
		d2.wantTerm(1, "dc2")
		root := d2.trust().Roots[0].ID
		for range 20 {
			w.canAllTalk()
			time.Sleep(50 * time.Millisecond)
		}
		w.announce()
		// dc3 does not know the token: it keeps the claim, and says so.
		d3.wantTerm(0, "dc1")
		if c := d3.trust().Claim; c == nil || c.Primary != "dc2" || c.Accessor != operatorAccessor {
			t.Fatalf("dc3 keeps the claim %+v", c)
		}
		if d3.lead().Fenced() != nil {
			t.Error("dc3 is fenced, and never was the primary")
		}
		w.canAllTalk()
		if err := d3.lead().command(rpc.TrustFollow, FollowBody("dc2"), operatorSecret); err != nil {
			t.Fatal(err)
		}
		d3.wantTerm(1, "dc2")
		time.Sleep(confirmEvery)
		w.announce()
		w.canAllTalk()
		if got := waitingFor(d2.trust()); len(got) != 1 || got[0] != "dc1" {
			t.Errorf("the old root waits for %v, want dc1", got)
		}
		if d3.trust().Roots[0].ID != root || !d3.servers[1].view.Load().below(root) {
			t.Error("dc3 has no certificates below the new root")
		}
		// The old primary is back, and hears of nothing yet.
		d1.back()
		w.canAllTalk()
		for from, to := range map[*dc]string{d1: "s1.dc2", d2: "s1.dc1", d3: "s1.dc1"} {
			if err := from.lead().Join(t.Context(), to); err != nil {
				t.Errorf("%s cannot join %s again: %v", from.name, to, err)
			}
		}
		d1.gone()
		// New datacenters come in by the new primary: the old one knows no root of theirs.
		if err := w.add("dc4", 1, nil).lead().Join(t.Context(), "s1.dc3"); err != nil {
			t.Fatal(err)
		}
		w.dcs["dc4"].wantTerm(1, "dc2")

		// The old primary changed its record meanwhile, and comes back.
		d1.back()
		if err := d1.lead().command(rpc.TrustEvict, EvictBody("s9", "dc3", false), ""); err != nil {
			t.Fatal(err)
		}
		if d1.lead().Fenced() != nil {
			t.Error("dc1 is fenced before it has heard of anything")
		}
		w.announce()
		d1.wantTerm(1, "dc2")
		if rec := d1.trust(); rec.RootKey != nil || rec.Claim != nil || rec.Roots[0].ID != root {
			t.Errorf("dc1 still has a root's key, or not the root: %s", rec.Roots[0].ID)
		}
		if d3.lead().Revoked("s9", "dc3") {
			t.Error("dc3 followed the old primary")
		}
		time.Sleep(2 * confirmEvery)
		w.announce()
		time.Sleep(2 * confirmEvery)
		w.announce()
		for _, d := range w.dcs {
			if rec := d.trust(); len(rec.Roots) != 1 || rec.Roots[0].ID == old || len(rec.Alternates) != 0 {
				t.Errorf("%s: %d roots, %d alternates", d.name, len(rec.Roots), len(rec.Alternates))
			}
		}
		w.canAllTalk()
		// And back again, in a higher term.
		d2.gone()
		if err := d1.promote(false); err != nil {
			t.Fatal(err)
		}
		d1.wantTerm(2, "dc1")
		d2.back()
		w.canAllTalk()
		for range 3 {
			w.announce()
		}
		d2.wantTerm(2, "dc1")
		w.canAllTalk()
	})
}

// A record of an earlier term is never taken again, whoever shows it.
func TestTermNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := federated(t, nil)
		d1, d2, d3 := w.dcs["dc1"], w.dcs["dc2"], w.dcs["dc3"]
		before := d3.trust().Clone()
		d1.gone()
		if err := d2.promote(false); err != nil {
			t.Fatal(err)
		}
		w.announce()
		d3.wantTerm(1, "dc2")
		// The old primary is back, and reaches dc3 alone.
		d2.gone()
		d1.back()
		time.Sleep(time.Minute)
		d3.lead().Announced("dc1", 1000)
		time.Sleep(time.Minute)
		d3.wantTerm(1, "dc2")
		// It hears from dc3, and is fenced although dc2 is away.
		w.announce()
		d1.wantTerm(0, "dc1")
		if p := d1.lead().Fenced(); p == nil || p.Primary != "dc2" {
			t.Fatalf("fenced by %+v", p)
		}
		if _, err := d1.lead().ask(rpc.TrustToken, "", (&tokenRequest{addresses: []string{"a:1"}}).append); err == nil || !strings.Contains(err.Error(), "dc2 was promoted") {
			t.Errorf("a fenced primary lets datacenters join: %v", err)
		}
		if err := d3.lead().command(rpc.TrustFollow, FollowBody("dc1"), operatorSecret); err == nil {
			t.Error("dc3 follows dc1 again")
		}
		next := before
		next.ModifyIndex = d3.trust().ModifyIndex
		if err := d3.lead().replace(t.Context(), next); err == nil || !strings.Contains(err.Error(), "comes too late") {
			t.Errorf("a record of before was written: %v", err)
		}
		d2.back()
		w.announce()
		time.Sleep(claimEvery)
		d1.wantTerm(1, "dc2")
	})
}

// What a promotion says cannot be changed, made up, or made by who is no member.
func TestForgedPromotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := federated(t, nil)
		stranger := w.add("dc9", 1, nil)
		d1, d2, d3 := w.dcs["dc1"], w.dcs["dc2"], w.dcs["dc3"]
		d1.gone()
		if err := d2.promote(false); err != nil {
			t.Fatal(err)
		}
		good := d2.trust().Promotion
		rec := d3.trust()
		if err := verifyPromotion(rec, good, time.Now()); err != nil {
			t.Fatalf("a good one is refused: %v", err)
		}
		if err := verifyPromotion(rec, good, time.Now().Add(3*intermediateLife)); err != nil {
			t.Errorf("a good one is refused years later: %v", err)
		}
		evicted := rec.Clone()
		evicted.Revoked = []store.TrustRevocation{{Datacenter: "dc2", Unix: 1}}
		if err := verifyPromotion(evicted, good, time.Now()); err == nil {
			t.Error("that of an evicted datacenter is good")
		}
		for name, change := range map[string]func(p *store.Promotion){
			"term":            func(p *store.Promotion) { p.Term++ },
			"primary":         func(p *store.Promotion) { p.Primary = "dc3" },
			"former":          func(p *store.Promotion) { p.Former = "dc3" },
			"position":        func(p *store.Promotion) { p.SourcePosition++ },
			"base":            func(p *store.Promotion) { p.Base++ },
			"consent":         func(p *store.Promotion) { p.Consent = []byte("x") },
			"accessor":        func(p *store.Promotion) { p.Accessor = "x" },
			"root":            func(p *store.Promotion) { p.Root = d1.trust().Roots[0].DER },
			"federation":      func(p *store.Promotion) { p.FederationID = "x" },
			"no certificates": func(p *store.Promotion) { p.Chain = nil },
			"a stranger's": func(p *store.Promotion) {
				if err := signPromotion(stranger.trust(), p); err != nil {
					t.Fatal(err)
				}
			},
			"another member's": func(p *store.Promotion) {
				if err := signPromotion(d3.trust(), p); err != nil {
					t.Fatal(err)
				}
			},
		} {
			p := *good
			change(&p)
			if err := verifyPromotion(rec, &p, time.Now()); err == nil {
				t.Errorf("%s changed, and still good", name)
			}
		}
		var again store.Promotion
		if err := again.DecodeWire(good.AppendWire(nil)); err != nil || !bytes.Equal(again.AppendWire(nil), good.AppendWire(nil)) {
			t.Errorf("not the same after decoding: %v", err)
		}
	})
}

// The leader is lost before its write is decided, and the next one promotes: one term,
// one root.
func TestPromoteLeaderLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := federated(t, nil)
		d1, d2 := w.dcs["dc1"], w.dcs["dc2"]
		d1.gone()
		for _, written := range []bool{false, true} {
			refuse := func(cmd *store.Command) error {
				d2.refuseWrite.Store(nil)
				d2.leader.Store(1)
				if written {
					_, _ = d2.apply(*cmd) // it is in the log, and nobody was told
				}
				return store.ErrNoLeader
			}
			d2.refuseWrite.Store(&refuse)
			err := d2.promote(false)
			if err == nil {
				t.Fatal("a leader that was lost says that it is done")
			}
			if err := d2.lead().EstablishLeadership(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !written {
				d2.wantTerm(0, "dc1")
				d2.leader.Store(0)
			}
		}
		d2.wantTerm(1, "dc2")
		if err := d2.promote(false); err == nil || !strings.Contains(err.Error(), "primary already") {
			t.Errorf("promoted once more: %v", err)
		}
		w.announce()
		w.dcs["dc3"].wantTerm(1, "dc2")
		w.canAllTalk()
	})
}

// Two datacenters are promoted apart: neither follows the other before one of them is
// promoted once more.
func TestRivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := federated(t, nil)
		d1, d2, d3 := w.dcs["dc1"], w.dcs["dc2"], w.dcs["dc3"]
		d1.gone()
		d3.gone()
		if err := d2.promote(false); err != nil {
			t.Fatal(err)
		}
		d2.gone()
		d3.back()
		before := d3.trust()
		if err := d3.promote(false); err != nil {
			t.Fatal(err)
		}
		d2.back()
		w.announce()
		d3.lead().complain(before, new(keeper), time.Now()) // begun with the record of before
		time.Sleep(time.Minute)
		d2.wantTerm(1, "dc2")
		d3.wantTerm(1, "dc3")
		if log := d2.lead().logs.tail(); !strings.Contains(log, "promoted in the same term") {
			t.Errorf("nobody says so: %s", log)
		}
		w.canAllTalk()
		if err := d3.promote(true); err == nil {
			t.Log("promoted again")
		} else {
			t.Fatal(err)
		}
		w.announce()
		time.Sleep(time.Minute)
		d2.wantTerm(2, "dc3")
		w.canAllTalk()
	})
}
