package trust

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

func certsOf(t *testing.T, c *tls.Certificate) []*x509.Certificate {
	t.Helper()
	var list []*x509.Certificate
	for _, der := range c.Certificate {
		x, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, x)
	}
	return list
}

func (d *dc) token(m tokenRequest) (NewToken, error) {
	var tok NewToken
	body, err := d.lead().ask(rpc.TrustToken, "", m.append)
	if err != nil {
		return tok, err
	}
	return tok, json.Unmarshal(body, &tok)
}

func noKey(c *Config) { c.GossipKey = nil }

// TestToken joins datacenters that share no key by tokens of the primary: once
// each, in time, and with that federation only.
func TestToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.source = addrPort("192.0.2.1:8302")
		at := func(addrs ...string) func(*Config) {
			return func(c *Config) { c.Addresses = func() []string { return addrs } }
		}
		d1 := w.add("dc1", 2, at("s9.dc1", "s2.dc1")) // the first address answers nobody
		d2, d3, d4 := w.add("dc2", 1, noKey), w.add("dc3", 1, noKey), w.add("dc4", 1, at("s1.dc4"))
		tok, err := d1.token(tokenRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(tok.Expires); left < defaultTokenLife-time.Second || left > defaultTokenLife {
			t.Errorf("good for %s", left)
		}
		refused := func(d *dc, token, want string) {
			t.Helper()
			before := d.trust().Roots[0].ID
			addr, err := d.lead().JoinByToken(t.Context(), token)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s joins at %s: %v, want %q", d.name, addr, err, want)
			}
			if d.trust().Roots[0].ID != before {
				t.Errorf("%s has another root after a refusal", d.name)
			}
		}
		// Nobody without the secret.
		fake, err := parseToken(tok.Token)
		if err != nil {
			t.Fatal(err)
		}
		fake.secret[0] ^= 1
		refused(d2, fake.String(), "secret of the join token "+tok.ID+" is wrong")
		// Nor with a federation other than the one that made it.
		other, err := d4.token(tokenRequest{addresses: []string{"s1.dc1"}})
		if err != nil {
			t.Fatal(err)
		}
		refused(d2, other.Token, "is not known here")
		pin, err := parseToken(tok.Token)
		if err != nil {
			t.Fatal(err)
		}
		pin.fingerprint = d4.trust().Roots[0].ID
		refused(d2, pin.String(), "belongs to another federation than the join token")

		addr, err := d3.lead().JoinByToken(t.Context(), other.Token)
		if err == nil {
			t.Errorf("a token of dc4 that names addresses of dc1 was taken at %s", addr)
		}

		tok, err = d1.token(tokenRequest{})
		if err != nil {
			t.Fatal(err)
		}
		addr, err = d2.lead().JoinByToken(t.Context(), " "+tok.Token+"\n")
		if err != nil || addr != "s2.dc1" {
			t.Fatalf("joined at %q: %v", addr, err)
		}
		w.delete("dc3").delete("dc4")
		w.allTalk()
		if _, err := d2.lead().JoinByToken(t.Context(), tok.Token); err != nil {
			t.Errorf("again by the same datacenter: %v", err)
		}
		refused(d3, tok.Token, "was used, by datacenter dc2")
		if strings.Contains(d1.lead().logs.String()+d2.lead().logs.String(), tok.Token) {
			t.Error("the token is in a log")
		}

		bound, err := d2.token(tokenRequest{datacenter: "dc4", seconds: 60}) // asked of a secondary
		if err != nil {
			t.Fatal(err)
		}
		refused(d3, bound.Token, "is for datacenter dc4, not for dc3")
		time.Sleep(time.Minute)
		refused(d4, bound.Token, "join token "+bound.ID)
		for _, broken := range []string{"", TokenPrefix, tok.Token[:len(tok.Token)-3], strings.Replace(tok.Token, "b", "c", 3), TokenPrefix + "AAAA"} {
			refused(d3, broken, "copy it whole")
		}
		for name, m := range map[string]tokenRequest{
			"too long":       {seconds: uint64(maxTokenLife/time.Second) + 1},
			"a bad name":     {datacenter: "DC5"},
			"a member's":     {datacenter: "dc2"},
			"without bounds": {seconds: 1 << 62},
		} {
			if _, err := d1.token(m); err == nil {
				t.Errorf("a token that is %s was made", name)
			}
		}
	})
}

// delete takes a datacenter out of what allTalk looks at; its servers go on.
func (w *world) delete(name string) *world {
	d := w.dcs[name]
	w.set(name, nil)
	w.t.Cleanup(func() { _ = d })
	for _, s := range d.servers {
		w.t.Cleanup(func() { s.cancel(); <-s.done })
	}
	return w
}

// TestTokenBindsPrimary refuses a datacenter that names another primary.
func TestTokenBindsPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.source = addrPort("192.0.2.1:8302")
		d1 := w.add("dc1", 1, func(c *Config) { c.Addresses = func() []string { return []string{"s1.dc1"} } })
		d2 := w.add("dc2", 1, func(c *Config) { c.PrimaryDatacenter = "dc2"; c.GossipKey = nil })
		tok, err := d1.token(tokenRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d2.lead().JoinByToken(t.Context(), tok.Token); store.KindOf(err) != store.KindConflict {
			t.Errorf("joined: %v", err)
		}
	})
}
