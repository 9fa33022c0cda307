package trust

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store"
)

// operatorCA issues certificates as an operator does, into files.
type operatorCA struct {
	t   *testing.T
	ca  issuer
	dir string
}

func newOperatorCA(t *testing.T) *operatorCA {
	t.Helper()
	key, _, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-slack), NotAfter: time.Now().Add(rootLife), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	o := &operatorCA{t, issuer{cert, key}, t.TempDir()}
	o.write("ca.pem", "CERTIFICATE", der)
	return o
}

func (o *operatorCA) write(file, typ string, der []byte) string {
	o.t.Helper()
	path := filepath.Join(o.dir, file)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}), 0o600); err != nil {
		o.t.Fatal(err)
	}
	return path
}

func (o *operatorCA) issue(names ...string) Operator {
	o.t.Helper()
	key, keyDER, err := newKey()
	if err != nil {
		o.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-slack), NotAfter: time.Now().Add(rootLife), DNSNames: names,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, o.ca.cert, key.Public(), o.ca.key)
	if err != nil {
		o.t.Fatal(err)
	}
	return Operator{
		CAFile:   filepath.Join(o.dir, "ca.pem"),
		CertFile: o.write(names[0]+".pem", "CERTIFICATE", der),
		KeyFile:  o.write(names[0]+"-key.pem", "PRIVATE KEY", keyDER),
	}
}

func TestOperatorCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, other := newOperatorCA(t), newOperatorCA(t)
		use := func(op Operator) func(*Config) {
			return func(c *Config) {
				c.Operator = op
				c.GossipKey = nil
			}
		}
		w := newWorld(t)
		d1 := w.add("dc1", 1, use(ca.issue("s1.server.dc1.consul", "server.dc1.consul")))
		d2 := w.add("dc2", 1, use(ca.issue("server.dc2.consul", "s1.server.dc2.consul")))
		d3 := w.add("dc3", 1, use(other.issue("s1.server.dc3.consul")))
		d4 := w.add("dc4", 1, nil)
		if err := d2.lead().Join(t.Context(), "s1.dc1"); err != nil {
			t.Fatal(err)
		}
		if err := d2.lead().canTalk(d1.lead()); err != nil {
			t.Error(err)
		}
		if d1.trust().Roots[0].ID == d2.trust().Roots[0].ID {
			t.Error("the built-in roots were joined")
		}
		if s := d1.lead().Status(); s.Mode != "operator" {
			t.Errorf("status %+v", s)
		}
		client, err := d1.lead().ClientTLS(RPCALPN, "s1.dc2")
		if err != nil {
			t.Fatal(err)
		}
		server, err := d2.lead().ServerTLS(RPCALPN)
		if err != nil {
			t.Fatal(err)
		}
		state, _, _ := handshake(client, server)
		if name, err := d1.lead().PeerName(state); err != nil || name != "s1.dc2" {
			t.Errorf("peer is %q, %v", name, err)
		}
		for _, tc := range []struct {
			name, want string
			err        error
		}{
			{"other authority", "is not trusted by datacenter dc1 (tls.internal_rpc)", d3.lead().Join(t.Context(), "s1.dc1")},
			{"without", "datacenter dc1 uses certificates of an operator (tls.internal_rpc) and datacenter dc4 does not", d4.lead().Join(t.Context(), "s1.dc1")},
			{"the other way", "datacenter dc1 uses certificates of an operator (tls.internal_rpc) and datacenter dc4 does not", d1.lead().Join(t.Context(), "s1.dc4")},
			{"call to another authority", "root that this datacenter does not trust", func() error {
				client, err := d1.lead().ClientTLS(RPCALPN, "s1.dc3")
				if err != nil {
					return err
				}
				server, err := d3.lead().ServerTLS(RPCALPN)
				if err != nil {
					return err
				}
				_, cerr, _ := handshake(client, server)
				return cerr
			}()},
			{"call to another server", "certificate is of s1.dc2, not of s1.dc1", func() error {
				client, err := d1.lead().ClientTLS(RPCALPN, "s1.dc1")
				if err != nil {
					return err
				}
				_, cerr, _ := handshake(client, server)
				return cerr
			}()},
		} {
			if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
				t.Errorf("%s: got %v, want %q", tc.name, tc.err, tc.want)
			}
		}
	})
}

func TestOperatorFiles(t *testing.T) {
	ca := newOperatorCA(t)
	start := func(op Operator) (*Authority, error) {
		cfg := Config{
			Node: "s1", Datacenter: "dc1", Operator: op, State: StateOf(newEmptyState()), IsLeader: func() bool { return false },
			Apply: noApply, Call: noCall, Dial: noDial,
		}
		return New(cfg)
	}
	if _, err := start(Operator{CAFile: "none", CertFile: "none"}); err == nil {
		t.Error("missing files accepted")
	}
	if _, err := start(ca.issue("s2.server.dc1.consul")); err == nil || !strings.Contains(err.Error(), "certificate is for s2.dc1, this server is s1.dc1") {
		t.Errorf("certificate of another server: %v", err)
	}
	// Certificates for the LAN only: the WAN keeps the built-in authority.
	a, err := start(ca.issue("server.dc1.consul"))
	if err != nil || a.Status().Mode != "built-in" {
		t.Errorf("certificate without a node: %v", err)
	}
	op := ca.issue("s1.server.dc1.consul")
	op.CAFile, op.CAPath = "", filepath.Dir(op.CAFile)
	a, err = start(op)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-a.Ready():
	default:
		t.Error("not ready")
	}
	before := a.certificate()
	if err := os.WriteFile(op.CertFile, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.ReloadOperator(op); err == nil || a.certificate() != before {
		t.Errorf("broken file reloaded: %v", err)
	}
	ca.issue("s1.server.dc1.consul")
	if err := a.ReloadOperator(op); err != nil || a.certificate() == before {
		t.Errorf("reload: %v", err)
	}
	if store.KindOf(a.Join(t.Context(), "x")) != store.KindNoLeader {
		t.Error("joined without a leader")
	}
}
