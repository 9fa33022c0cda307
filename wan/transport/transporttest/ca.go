package transporttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"
)

// CA issues certificates whose common name is a server's "<node>.<dc>". They are
// valid from 1990 on, so that they hold on the clock of a synctest bubble.
type CA struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

// NewCA makes an authority.
func NewCA(t testing.TB) *CA {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"},
		NotBefore: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &CA{t: t, cert: cert, key: key, pool: pool}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Issue returns a certificate for a name.
func (ca *CA) Issue(name string) tls.Certificate {
	ca.t.Helper()
	key := newKey(ca.t)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		ca.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: ca.cert.NotBefore, NotAfter: ca.cert.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: key}
}

// Identity is one server's certificate, and the functions a transport's Config
// wants.
type Identity struct {
	ca   *CA
	cert tls.Certificate
}

// Identity issues a certificate for name.
func (ca *CA) Identity(name string) *Identity { return &Identity{ca, ca.Issue(name)} }

const enroll = "landbridge-enroll/1"

// ServerTLS requires a certificate of the authority, except for enrolment.
func (id *Identity) ServerTLS(alpn string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{id.cert}}
	if alpn != enroll {
		conf.ClientAuth = tls.RequireAnyClientCert
		conf.VerifyConnection = func(cs tls.ConnectionState) error { return id.ca.verify(cs, "") }
	}
	return conf, nil
}

// ClientTLS requires the certificate of peer; any of the authority for "".
func (id *Identity) ClientTLS(alpn, peer string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: "test", InsecureSkipVerify: true}
	if alpn != enroll {
		conf.Certificates = []tls.Certificate{id.cert}
		conf.VerifyConnection = func(cs tls.ConnectionState) error { return id.ca.verify(cs, peer) }
	}
	return conf, nil
}

func (ca *CA) verify(cs tls.ConnectionState, peer string) error {
	name, err := PeerName(cs)
	if err != nil {
		return err
	}
	if peer != "" && peer != name {
		return fmt.Errorf("certificate is of %s, not of %s", name, peer)
	}
	_, err = cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: ca.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// PeerName is the common name of the peer's certificate.
func PeerName(cs tls.ConnectionState) (string, error) {
	if len(cs.PeerCertificates) == 0 {
		return "", errors.New("no certificate")
	}
	return cs.PeerCertificates[0].Subject.CommonName, nil
}
