package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

// issue writes NAME.pem, NAME-key.pem and ca.pem into dir.
func (a *authority) issue(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: a.cert.Raw}, name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// shake runs a handshake and returns the client's view of it. TCP and not a
// pipe: both sides may want to write their refusal at once.
func shake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if srv := tls.Server(conn, server); srv.Handshake() == nil {
			_, _ = srv.Write([]byte("x"))
		}
	}()
	defer func() { <-done }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	cl := tls.Client(conn, client)
	err = cl.Handshake()
	if err == nil { // a server's refusal of our certificate comes after our handshake
		_, err = cl.Read(make([]byte, 1))
	}
	return cl.ConnectionState(), err
}

func tlsConfig(t *testing.T, dir, text string) *Config {
	t.Helper()
	c, _, err := load(t, "-data-dir=x", "-hcl", `tls { defaults { ca_file = "`+dir+`/ca.pem" cert_file = "`+dir+`/s1.pem" key_file = "`+dir+`/s1-key.pem" `+text+` } }`)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTLSFilesFollowTheFiles(t *testing.T) {
	dir, clientDir := t.TempDir(), t.TempDir()
	first := newAuthority(t, "first")
	first.issue(t, dir, "s1")
	first.issue(t, clientDir, "c1")
	files := tlsConfig(t, dir, "verify_incoming = true").HTTPSTLS()
	listener, err := files.Listener()
	if err != nil {
		t.Fatal(err)
	}
	client := func(dir string) *tls.Config {
		t.Helper()
		f := newTLSFiles(TLSBlock{CAFile: dir + "/ca.pem", CertFile: dir + "/c1.pem", KeyFile: dir + "/c1-key.pem"})
		cfg, err := f.Client()
		if err != nil {
			t.Fatal(err)
		}
		cfg = cfg.Clone()
		cfg.ServerName = "s1"
		return cfg
	}
	before, err := shake(t, listener, client(clientDir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shake(t, listener, &tls.Config{RootCAs: client(clientDir).RootCAs, ServerName: "s1"}); err == nil {
		t.Error("a client without a certificate was let in")
	}

	// Another authority takes over; the listener stays.
	second, otherDir := newAuthority(t, "second"), t.TempDir()
	second.issue(t, otherDir, "c1")
	if _, err := shake(t, listener, client(otherDir)); err == nil {
		t.Error("a client of an authority that is not ours was let in")
	}
	second.issue(t, dir, "s1")
	later := time.Now().Add(time.Minute)
	for _, f := range []string{"ca.pem", "s1.pem", "s1-key.pem"} {
		if err := os.Chtimes(filepath.Join(dir, f), later, later); err != nil {
			t.Fatal(err)
		}
	}
	after, err := shake(t, listener, client(otherDir))
	if err != nil {
		t.Fatalf("after the files changed: %v", err)
	}
	if after.PeerCertificates[0].Equal(before.PeerCertificates[0]) {
		t.Error("the listener shows the old certificate")
	}
	if _, err := shake(t, listener, client(clientDir)); err == nil {
		t.Error("a client of the old authority is still let in")
	}

	// A file that is half written does not take the listener down.
	if err := os.WriteFile(filepath.Join(dir, "s1.pem"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := shake(t, listener, client(otherDir)); err != nil {
		t.Errorf("with a broken file: %v", err)
	}
}

// A reload may name other files and turn verify_incoming off and on; the listener
// stays.
func TestTLSFilesAreReplaced(t *testing.T) {
	dir, next := t.TempDir(), t.TempDir()
	newAuthority(t, "first").issue(t, dir, "s1")
	second := newAuthority(t, "second")
	second.issue(t, next, "s1")
	files := tlsConfig(t, dir, "").HTTPSTLS()
	listener, err := files.Listener()
	if err != nil {
		t.Fatal(err)
	}
	client := func(dir string, cert bool) *tls.Config {
		t.Helper()
		f := newTLSFiles(TLSBlock{CAFile: dir + "/ca.pem"})
		if cert {
			f = newTLSFiles(TLSBlock{CAFile: dir + "/ca.pem", CertFile: dir + "/s1.pem", KeyFile: dir + "/s1-key.pem"})
		}
		cfg, err := f.Client()
		if err != nil {
			t.Fatal(err)
		}
		cfg = cfg.Clone()
		cfg.ServerName = "s1"
		return cfg
	}
	if _, err := shake(t, listener, client(dir, false)); err != nil {
		t.Fatal(err)
	}
	if !files.Use(tlsConfig(t, next, "verify_incoming = true").HTTPSTLS()) {
		t.Fatal("other files are not taken over")
	}
	if _, err := shake(t, listener, client(next, true)); err != nil {
		t.Errorf("after the change: %v", err)
	}
	if _, err := shake(t, listener, client(next, false)); err == nil {
		t.Error("a client without a certificate was let in after verify_incoming was set")
	}
	if _, err := shake(t, listener, client(dir, true)); err == nil {
		t.Error("the listener still shows the old certificate")
	}
	if files.Use(newTLSFiles(TLSBlock{CAFile: next + "/ca.pem"})) || files.Use(nil) || (*TLSFiles)(nil).Use(files) {
		t.Error("TLS is switched by a reload")
	}
	if !(*TLSFiles)(nil).Use(nil) {
		t.Error("no TLS before and after is a change")
	}
	if _, err := shake(t, listener, client(next, true)); err != nil {
		t.Errorf("after a change that was refused: %v", err)
	}
}

func TestTLSBlocks(t *testing.T) {
	dir := t.TempDir()
	newAuthority(t, "ca").issue(t, dir, "s1")
	c := tlsConfig(t, dir, `verify_outgoing = true tls_min_version = "TLSv1_3" } internal_rpc { verify_server_hostname = true verify_incoming = true } https { verify_outgoing = false `)
	lan, https := c.LANTLS(), c.HTTPSTLS()
	if got, want := lan.Rules(), (TLSRules{true, true, true}); got != want || https.Rules() != (TLSRules{}) {
		t.Errorf("internal_rpc %+v, https %+v", got, https.Rules())
	}
	srv, err := lan.Server()
	if err != nil {
		t.Fatal(err)
	}
	if srv.MinVersion != tls.VersionTLS13 || srv.ClientAuth != tls.RequireAndVerifyClientCert || srv.ClientCAs == nil {
		t.Errorf("min version %x, client auth %v", srv.MinVersion, srv.ClientAuth)
	}
	for _, bad := range []string{`tls_min_version = "SSLv3"`, `tls_cipher_suites = "TLS_NULL"`, `key_file = "` + dir + `/none.pem"`, `ca_file = "` + dir + `/s1-key.pem"`} {
		if _, _, err := load(t, "-data-dir=x", "-hcl", `tls { internal_rpc { cert_file = "`+dir+`/s1.pem" key_file = "`+dir+`/s1-key.pem" } }`, "-hcl", "tls { internal_rpc { "+bad+" } }"); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
	if plain, _, err := load(t, "-data-dir=x"); err != nil || plain.LANTLS() != nil || plain.HTTPSTLS() != nil {
		t.Errorf("TLS without being asked for: %v", err)
	}
}

func TestDockerTLS(t *testing.T) {
	dir := t.TempDir()
	newAuthority(t, "ca").issue(t, dir, "docker")
	f := DockerTLS(dir)
	if _, err := f.Client(); err == nil {
		t.Error("no error without cert.pem and key.pem")
	}
	for from, to := range map[string]string{"docker.pem": "cert.pem", "docker-key.pem": "key.pem"} {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := f.Client(); err != nil || len(got.Certificates) != 1 || got.RootCAs == nil {
		t.Errorf("%v %v, want a certificate and an authority", got, err)
	}
}
