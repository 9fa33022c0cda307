package config

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// over returns b with what it leaves open taken from defaults.
func (b TLSBlock) over(defaults TLSBlock) TLSBlock {
	b.CAFile = cmp.Or(b.CAFile, defaults.CAFile)
	b.CAPath = cmp.Or(b.CAPath, defaults.CAPath)
	b.CertFile = cmp.Or(b.CertFile, defaults.CertFile)
	b.KeyFile = cmp.Or(b.KeyFile, defaults.KeyFile)
	b.MinVersion = cmp.Or(b.MinVersion, defaults.MinVersion)
	if b.CipherSuites == nil {
		b.CipherSuites = defaults.CipherSuites
	}
	b.VerifyIncoming = cmp.Or(b.VerifyIncoming, defaults.VerifyIncoming)
	b.VerifyOutgoing = cmp.Or(b.VerifyOutgoing, defaults.VerifyOutgoing)
	return b
}

// TLSFiles makes TLS configurations from files, and makes them anew when the
// files have changed. Safe for concurrent use.
//
// A pair of files is replaced in two steps, so a moment between them may not
// load: then the last good configuration goes on.
type TLSFiles struct {
	mu     sync.Mutex // guards all
	block  TLSBlock
	rules  TLSRules
	stamp  []stamp
	server *tls.Config // nil without a certificate
	client *tls.Config
}

// TLSRules are verify_incoming, verify_outgoing and verify_server_hostname.
type TLSRules struct{ Incoming, Outgoing, Hostname bool }

// Rules are those in force.
func (f *TLSFiles) Rules() TLSRules {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rules
}

// Files names the authority, certificate and key.
func (f *TLSFiles) Files() struct{ CAFile, CAPath, CertFile, KeyFile string } {
	f.mu.Lock()
	defer f.mu.Unlock()
	return struct{ CAFile, CAPath, CertFile, KeyFile string }{f.block.CAFile, f.block.CAPath, f.block.CertFile, f.block.KeyFile}
}

// Use takes over the files and the rules of next, which was loaded without
// complaint; versions and cipher suites stay. It says whether it did: having a
// certificate or an authority is not begun or ended while connections are made by it.
func (f *TLSFiles) Use(next *TLSFiles) bool {
	if f == nil || next == nil {
		return f == next
	}
	now, rules := next.Files(), next.Rules()
	f.mu.Lock()
	defer f.mu.Unlock()
	b := &f.block
	if (b.CertFile == "") != (now.CertFile == "") || (b.CAFile == "" && b.CAPath == "") != (now.CAFile == "" && now.CAPath == "") {
		return false
	}
	b.CAFile, b.CAPath, b.CertFile, b.KeyFile = now.CAFile, now.CAPath, now.CertFile, now.KeyFile
	f.rules = rules
	f.stamp = nil // loads on the next question
	return true
}

// stamp identifies a version of a file.
type stamp struct {
	path string
	time time.Time
	size int64
}

// LANTLS is what tls.internal_rpc asks for, or nil when nothing is configured.
func (c *Config) LANTLS() *TLSFiles {
	f := newTLSFiles(c.TLS.InternalRPC.TLSBlock.over(c.TLS.Defaults))
	f.rules.Hostname = c.TLS.InternalRPC.VerifyServerHostname
	if !f.configured() && !f.rules.Hostname {
		return nil
	}
	return f
}

// HTTPSTLS is what tls.https asks for, or nil when nothing is configured.
func (c *Config) HTTPSTLS() *TLSFiles {
	if f := newTLSFiles(c.TLS.HTTPS.over(c.TLS.Defaults)); f.configured() {
		return f
	}
	return nil
}

// DockerTLS is the client's side of a Docker Engine's TLS: the files that Docker's
// own tools keep in the folder that DOCKER_CERT_PATH names.
func DockerTLS(dir string) *TLSFiles {
	return newTLSFiles(TLSBlock{CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")})
}

func newTLSFiles(b TLSBlock) *TLSFiles {
	return &TLSFiles{block: b, rules: TLSRules{
		Incoming: b.VerifyIncoming != nil && *b.VerifyIncoming,
		Outgoing: b.VerifyOutgoing != nil && *b.VerifyOutgoing}}
}

func (f *TLSFiles) configured() bool {
	b := f.block
	return b.CAFile != "" || b.CAPath != "" || b.CertFile != "" || b.KeyFile != "" || f.rules.Incoming || f.rules.Outgoing
}

// Server returns what a listener uses. The result is shared: clone before
// changing it.
func (f *TLSFiles) Server() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refresh(); err != nil {
		return nil, err
	}
	if f.server == nil {
		return nil, errors.New("no certificate: cert_file and key_file are not set")
	}
	return f.server, nil
}

// Listener returns what an HTTPS listener uses that asks only once: certificates,
// authorities and rules are looked up anew for each connection.
func (f *TLSFiles) Listener() (*tls.Config, error) {
	if _, err := f.Server(); err != nil {
		return nil, err
	}
	protocols := []string{"h2", "http/1.1"}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now, err := f.Server()
		if err != nil {
			return nil, err
		}
		cfg := now.Clone()
		cfg.NextProtos = protocols
		if cfg.ClientAuth != tls.NoClientCert {
			cfg.VerifyConnection = f.verifyClient // resumed sessions too, by the authorities of now
		}
		return cfg, nil
	}}, nil
}

func (f *TLSFiles) verifyClient(s tls.ConnectionState) error {
	now, err := f.Server()
	if err != nil {
		return err
	}
	if len(s.PeerCertificates) == 0 || now.ClientCAs == nil {
		return errors.New("no client certificate that could be verified")
	}
	opts := x509.VerifyOptions{Roots: now.ClientCAs, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, c := range s.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err = s.PeerCertificates[0].Verify(opts)
	return err
}

// HasCertificate says whether Server has something to show.
func (f *TLSFiles) HasCertificate() bool { return f.Files().CertFile != "" }

// Client returns what a dialer uses. The result is shared: clone before
// changing it. It verifies against the configured authorities and lacks the
// name to verify, which the dialer knows.
func (f *TLSFiles) Client() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refresh(); err != nil {
		return nil, err
	}
	return f.client, nil
}

// refresh loads the files unless they are those that are loaded. mu is held.
func (f *TLSFiles) refresh() error {
	now, err := f.stamps()
	if err == nil && f.client != nil && slices.Equal(now, f.stamp) {
		return nil
	}
	var server, client *tls.Config
	if err == nil {
		server, client, err = f.load()
	}
	if err != nil {
		if f.client != nil {
			return nil
		}
		return err
	}
	f.server, f.client, f.stamp = server, client, now
	return nil
}

func (f *TLSFiles) stamps() ([]stamp, error) {
	var out []stamp
	for _, path := range []string{f.block.CAFile, f.block.CAPath, f.block.CertFile, f.block.KeyFile} {
		if path == "" {
			continue
		}
		fi, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		out = append(out, stamp{path, fi.ModTime(), fi.Size()})
	}
	return out, nil
}

func (f *TLSFiles) load() (server, client *tls.Config, err error) {
	version, err := tlsVersion(f.block.MinVersion)
	if err != nil {
		return nil, nil, err
	}
	suites, err := cipherSuites(f.block.CipherSuites)
	if err != nil {
		return nil, nil, err
	}
	pool, err := f.authorities()
	if err != nil {
		return nil, nil, err
	}
	base := tls.Config{MinVersion: version, CipherSuites: suites}
	client = base.Clone()
	client.RootCAs = pool
	if f.block.CertFile == "" && f.block.KeyFile == "" {
		return nil, client, nil
	}
	cert, err := tls.LoadX509KeyPair(f.block.CertFile, f.block.KeyFile)
	if err != nil {
		return nil, nil, err
	}
	base.Certificates = []tls.Certificate{cert}
	client.Certificates = base.Certificates
	server = base.Clone()
	server.ClientCAs = pool
	if f.rules.Incoming {
		server.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return server, client, nil
}

// authorities reads ca_file or, without one, the files of ca_path.
func (f *TLSFiles) authorities() (*x509.CertPool, error) {
	paths := []string{f.block.CAFile}
	switch {
	case f.block.CAFile == "" && f.block.CAPath == "":
		return nil, nil
	case f.block.CAFile == "":
		entries, err := os.ReadDir(f.block.CAPath)
		if err != nil {
			return nil, err
		}
		paths = nil
		for _, e := range entries {
			path := filepath.Join(f.block.CAPath, e.Name())
			if fi, err := os.Stat(path); err == nil && !fi.IsDir() {
				paths = append(paths, path)
			}
		}
	}
	pool := x509.NewCertPool()
	for _, path := range paths {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate in PEM form", path)
		}
	}
	return pool, nil
}

func tlsVersion(s string) (uint16, error) {
	switch strings.ToLower(s) {
	case "", "tlsv1_2", "tls12":
		return tls.VersionTLS12, nil
	case "tlsv1_0", "tls10":
		return tls.VersionTLS10, nil
	case "tlsv1_1", "tls11":
		return tls.VersionTLS11, nil
	case "tlsv1_3", "tls13":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("tls_min_version: %q is none of TLSv1_0, TLSv1_1, TLSv1_2, TLSv1_3", s)
}

func cipherSuites(names []string) ([]uint16, error) {
	var out []uint16
	for _, name := range names {
		i := slices.IndexFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("tls_cipher_suites: %q is not a secure cipher suite that is known", name)
		}
		out = append(out, tls.CipherSuites()[i].ID)
	}
	return out, nil
}

func (k *checker) checkTLS(c *Config) {
	for _, t := range []struct {
		key string
		*TLSFiles
	}{{"tls.internal_rpc", c.LANTLS()}, {"tls.https", c.HTTPSTLS()}} {
		if t.TLSFiles == nil {
			continue
		}
		b, rules, before := t.block, t.rules, len(k.errs)
		noCA, noCert := b.CAFile == "" && b.CAPath == "", b.CertFile == "" || b.KeyFile == ""
		if rules.Incoming && noCA {
			k.bad("%s.verify_incoming is set, and there is no ca_file or ca_path", t.key)
		}
		if rules.Incoming && noCert {
			k.bad("%s.verify_incoming is set, and there is no cert_file with its key_file", t.key)
		}
		if rules.Outgoing && noCA {
			k.bad("%s.verify_outgoing is set, and there is no ca_file or ca_path", t.key)
		}
		if rules.Hostname && !rules.Outgoing {
			k.bad("%s.verify_server_hostname needs verify_outgoing, which is not set", t.key)
		}
		if (b.CertFile == "") != (b.KeyFile == "") {
			k.bad("%s: cert_file and key_file belong together, and one is missing", t.key)
		}
		if len(k.errs) > before {
			continue
		}
		if _, err := t.Client(); err != nil { // loads all files
			k.bad("%s: %w", t.key, err)
		}
	}
	if c.Ports.HTTPS >= 0 && (c.HTTPSTLS() == nil || !c.HTTPSTLS().HasCertificate()) {
		k.bad("ports.https is %d, and tls.https has no cert_file and key_file", c.Ports.HTTPS)
	}
}
