package stream_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"landbridge/lan/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority signs test certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, pool: x509.NewCertPool()}
	c := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.cert, a.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(tmpl *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	tmpl.SerialNumber, tmpl.NotBefore, tmpl.NotAfter = serial, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// leaf makes a certificate for name, good for both sides.
func (a *authority) leaf(name string, dns ...string) tls.Certificate {
	return a.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		DNSNames:    dns,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// config returns functions that hand out cert and trust a.
func (a *authority) config(cert *tls.Certificate) func() (*tls.Config, error) {
	return func() (*tls.Config, error) {
		c := &tls.Config{RootCAs: a.pool, ClientCAs: a.pool, MinVersion: tls.VersionTLS12}
		if cert != nil {
			c.Certificates = []tls.Certificate{*cert}
		}
		return c, nil
	}
}

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// listen starts a port whose sessions arrive on the channel.
func listen(t testing.TB, cfg stream.Config) (*stream.Port, <-chan *stream.Session) {
	t.Helper()
	cfg.Bind = loopback
	p, err := stream.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	sessions := make(chan *stream.Session, 256)
	p.OnSession(func(s *stream.Session) { sessions <- s })
	if err := p.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return p, sessions
}

func receive[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(5 * time.Second):
		t.Fatalf("%s: nothing came", what)
		panic("not reached")
	}
}

func dialer(t testing.TB, cfg stream.Config) *stream.Dialer {
	t.Helper()
	d, err := stream.NewDialer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
