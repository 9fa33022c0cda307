package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b)[:20] }

func mustCSRSmallKey(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"server.dc1.consul"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestRoles shows a server every wrong certificate, in both directions.
func TestRoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d1 := w.add("dc1", 1, nil)
		d2 := w.add("dc2", 1, nil)
		d3 := w.add("dc3", 1, nil) // never joins
		if err := d2.lead().Join(t.Context(), "s1.dc1"); err != nil {
			t.Fatal(err)
		}
		w.evict("evicted", "dc2")
		rec := d2.trust()
		inter, err := parseIssuer(rec.Intermediate, rec.IntermediateKey)
		if err != nil {
			t.Fatal(err)
		}
		root, err := parseIssuer(d1.trust().Roots[0].DER, d1.trust().RootKey)
		if err != nil {
			t.Fatal(err)
		}
		key, _, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		td := rec.FederationID + trustDomainSuffix
		good := func() *x509.Certificate {
			return &x509.Certificate{
				SerialNumber: big.NewInt(7),
				NotBefore:    time.Now().Add(-time.Hour),
				NotAfter:     time.Now().Add(time.Hour),
				KeyUsage:     x509.KeyUsageDigitalSignature,
				ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
				DNSNames:     []string{"server.dc2.consul"},
				URIs:         []*url.URL{name{roleServer, "s1", "dc2", td}.uri()},
			}
		}
		uri := func(s string) []*url.URL {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			return []*url.URL{u}
		}
		chain := func(by issuer, edit func(*x509.Certificate), more ...[]byte) *tls.Certificate {
			c := good()
			edit(c)
			der, err := x509.CreateCertificate(rand.Reader, c, by.cert, key.Public(), by.key)
			if err != nil {
				t.Fatal(err)
			}
			return &tls.Certificate{Certificate: append([][]byte{der, by.cert.Raw}, more...), PrivateKey: key}
		}
		// A CA that the intermediate made, against its path length.
		subKey, _, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		subTmpl := &x509.Certificate{SerialNumber: big.NewInt(8), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, URIs: []*url.URL{datacenterURI(td, "dc1")}}
		subDER, err := x509.CreateCertificate(rand.Reader, subTmpl, inter.cert, subKey.Public(), inter.key)
		if err != nil {
			t.Fatal(err)
		}
		subCert, err := x509.ParseCertificate(subDER)
		if err != nil {
			t.Fatal(err)
		}
		asIs := func(*x509.Certificate) {}
		for _, tc := range []struct {
			name string
			cert *tls.Certificate
			want string // "" is accepted
		}{
			{"good", chain(inter, asIs), ""},
			{"none", nil, "certificate"},
			{"other root", &d3.lead().view.Load().creds.tls, "root that this datacenter does not trust"},
			{"expired", chain(inter, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), "expired or not valid yet"},
			{"not valid yet", chain(inter, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), "expired or not valid yet"},
			{"client agent", chain(inter, func(c *x509.Certificate) { c.URIs = uri("spiffe://" + td + "/agent/client/dc/dc2/id/s1") }), "certificate is of a client agent, only servers may use this channel"},
			{"service", chain(inter, func(c *x509.Certificate) { c.URIs = uri("spiffe://" + td + "/ns/default/dc/dc2/svc/web") }), "certificate is of a service"},
			{"unknown role", chain(inter, func(c *x509.Certificate) { c.URIs = uri("spiffe://" + td + "/x") }), "certificate is of a unknown"},
			{"no id", chain(inter, func(c *x509.Certificate) { c.URIs = nil }), "certificate has no SPIFFE id"},
			{"two ids", chain(inter, func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }), "certificate has no SPIFFE id"},
			{"another datacenter's name", chain(inter, func(c *x509.Certificate) { c.URIs = []*url.URL{name{roleServer, "s1", "dc1", td}.uri()} }), "certificate of s1.dc1 was issued by datacenter dc2"},
			{"another datacenter's DNS name", chain(inter, func(c *x509.Certificate) { c.DNSNames = []string{"server.dc1.consul"} }), "not permitted"},
			{"other trust domain", chain(inter, func(c *x509.Certificate) { c.URIs = []*url.URL{name{roleServer, "s1", "dc2", "x.consul"}.uri()} }), "is of another trust domain"},
			{"by the root itself", chain(root, asIs), "was not issued by a datacenter"},
			{"by a CA below the intermediate", chain(issuer{subCert, subKey}, func(c *x509.Certificate) { c.URIs = []*url.URL{name{roleServer, "s1", "dc1", td}.uri()} }, inter.cert.Raw), "too many intermediates"},
			{"another server", chain(inter, func(c *x509.Certificate) { c.URIs = []*url.URL{name{roleServer, "s2", "dc2", td}.uri()} }), "certificate is of s2.dc2, not of s1.dc2"},
			{"revoked", chain(inter, func(c *x509.Certificate) { c.URIs = []*url.URL{name{roleServer, "evicted", "dc2", td}.uri()} }), "evicted.dc2 was evicted"},
			{"wrong key usage", chain(inter, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }), "incompatible key usage"},
			{"long chain", chain(inter, asIs, inter.cert.Raw, inter.cert.Raw, inter.cert.Raw), "chain of 5 certificates"},
		} {
			s := d1.lead()
			// Dialing us. A name is not expected there: "another server" is as good. Who
			// enrols may show anything, and is judged by what it proves.
			for _, alpn := range []string{RPCALPN, GossipALPN, RelayALPN, EnrollALPN} {
				server, err := s.ServerTLS(alpn)
				if err != nil {
					t.Fatal(err)
				}
				conf := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}, MinVersion: tls.VersionTLS13}
				if tc.cert != nil {
					conf.Certificates = []tls.Certificate{*tc.cert}
				}
				_, cerr, serr := handshake(conf, server)
				if ok := tc.want == "" || tc.name == "another server" || alpn == EnrollALPN; ok != (serr == nil) || (!ok && !strings.Contains(serr.Error(), tc.want)) {
					t.Errorf("%s dials %s: got %v, want %q", tc.name, alpn, serr, tc.want)
				} else if !ok && cerr == nil {
					t.Errorf("%s dials %s: refused, but the dialing side did not hear of it", tc.name, alpn)
				}
			}
			// Dialed by us.
			if tc.cert == nil {
				continue
			}
			for _, alpn := range []string{RPCALPN, GossipALPN, RelayALPN} {
				client, err := s.ClientTLS(alpn, "s1.dc2")
				if tc.name == "revoked" {
					client, err = s.ClientTLS(alpn, "evicted.dc2")
				}
				if err != nil {
					t.Fatal(err)
				}
				_, cerr, _ := handshake(client, &tls.Config{Certificates: []tls.Certificate{*tc.cert}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{alpn}})
				if ok := tc.want == ""; ok != (cerr == nil) || (!ok && !strings.Contains(cerr.Error(), tc.want)) {
					t.Errorf("%s answers %s: got %v, want %q", tc.name, alpn, cerr, tc.want)
				}
			}
		}
	})
}

// TestResumption checks that a resumed session is verified again.
func TestResumption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d1 := w.add("dc1", 1, nil)
		d2 := w.add("dc2", 1, nil)
		if err := d2.lead().Join(t.Context(), "s1.dc1"); err != nil {
			t.Fatal(err)
		}
		cache := tls.NewLRUClientSessionCache(4)
		try := func() (bool, error) {
			client, err := d2.lead().ClientTLS(RPCALPN, "s1.dc1")
			if err != nil {
				t.Fatal(err)
			}
			server, err := d1.lead().ServerTLS(RPCALPN)
			if err != nil {
				t.Fatal(err)
			}
			client.ClientSessionCache = cache
			state, _, serr := handshake(client, server.Clone())
			return state.DidResume, serr
		}
		if resumed, err := try(); err != nil || resumed {
			t.Fatal(err, resumed)
		}
		if resumed, err := try(); err != nil || !resumed {
			t.Fatalf("second handshake: %v, resumed %v", err, resumed)
		}
		w.evict("s1", "dc2")
		if _, err := try(); err == nil || !strings.Contains(err.Error(), "s1.dc2 was evicted") {
			t.Errorf("resumed after revocation: %v", err)
		}
	})
}

func TestNames(t *testing.T) {
	for _, node := range []string{"n1", "a b", "a/b", "n.1", "Größe", "%2F", "x_y", "a?b#c"} {
		n := name{roleServer, node, "dc-1_x", "id.consul"}
		u, err := url.Parse(n.uri().String())
		if err != nil {
			t.Fatal(err)
		}
		got, err := nameOf(&x509.Certificate{URIs: []*url.URL{u}})
		if err != nil || got != n {
			t.Errorf("%q: got %+v, %v from %s", node, got, err, u)
		}
		if gn, gdc, ok := splitPeer(n.String()); !ok || gn != node || gdc != n.datacenter {
			t.Errorf("split %q: %q %q", n, gn, gdc)
		}
	}
	for _, bad := range []string{"", "x", ".dc1", "x."} {
		if _, _, ok := splitPeer(bad); ok {
			t.Errorf("%q is a peer's name", bad)
		}
	}
	for _, bad := range []string{"", "DC1", "a b", "a.b", strings.Repeat("x", 65)} {
		if validDatacenter(bad) == nil {
			t.Errorf("%q is a datacenter's name", bad)
		}
	}
}

// TestOddNodeNames takes servers with any name into the federation.
func TestOddNodeNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.add("dc1", 1, func(c *Config) { c.Node = "Größe 1/2" })
		d2 := w.add("dc2", 1, func(c *Config) { c.Node = strings.Repeat("n", 200) })
		if err := d2.lead().Join(t.Context(), "Größe 1/2.dc1"); err != nil {
			t.Fatal(err)
		}
		w.allTalk()
	})
}
