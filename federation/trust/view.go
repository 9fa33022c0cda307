package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"landbridge/store"
)

// view is what TLS handshakes use: this server's certificate and the roots it
// trusts. It is immutable once installed.
type view struct {
	creds   *creds
	roots   *roots
	revoked revocations
	pruned  uint64 // of the record
	keyDER  []byte // of creds, for keeping it on disk
	server  map[string]*tls.Config
}

// creds is this server's certificate.
type creds struct {
	tls                tls.Certificate
	leaf, intermediate *x509.Certificate
	renewAt            time.Time
}

// roots are the certificates all verification starts from.
type roots struct {
	list   []*x509.Certificate // the current one first
	cross  [][]byte            // shown with our certificate, for those who trust only a replaced root
	pool   *x509.CertPool
	active string // fingerprint of the current one
}

func newRoots(rec *store.Trust) (*roots, error) {
	ders := make([][]byte, len(rec.Roots))
	for i := range rec.Roots {
		ders[i] = rec.Roots[i].DER
	}
	r, err := rootsOf(ders)
	if err != nil {
		return nil, err
	}
	r.cross = crossOf(rec)
	return r, nil
}

// crossOf is what is shown with our certificates: roots certified by those they
// replaced, and the intermediate below a root that could certify none.
func crossOf(rec *store.Trust) (list [][]byte) {
	for i := range rec.Roots {
		if rec.Roots[i].Cross != nil {
			list = append(list, rec.Roots[i].Cross)
		}
	}
	list = append(list, rec.Alternates...)
	return list[:min(len(list), maxRotations)] // others refuse longer chains
}

func rootsOf(ders [][]byte) (*roots, error) {
	r := &roots{pool: x509.NewCertPool()}
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("root certificate: %w", err)
		}
		r.list = append(r.list, c)
		r.pool.AddCert(c)
	}
	if len(r.list) == 0 {
		return nil, errors.New("no root certificate")
	}
	r.active = fingerprint(r.list[0].Raw)
	return r, nil
}

// equal reports whether these are the record's roots, in its order.
func (r *roots) equal(rec *store.Trust) bool {
	if len(r.list) != len(rec.Roots) || !slices.EqualFunc(r.cross, crossOf(rec), bytes.Equal) {
		return false
	}
	for i := range r.list {
		if !bytes.Equal(r.list[i].Raw, rec.Roots[i].DER) {
			return false
		}
	}
	return true
}

// has reports whether root is among these, which is so for a provisional one
// until it is dropped.
func (r *roots) has(root string) bool {
	return slices.ContainsFunc(r.list, func(c *x509.Certificate) bool { return fingerprint(c.Raw) == root })
}

// below reports whether the certificate was issued under root, one of ours.
func (v *view) below(root string) bool {
	for _, r := range v.roots.list {
		if fingerprint(r.Raw) == root {
			return v.creds.intermediate.CheckSignatureFrom(r) == nil
		}
	}
	return false
}

// due reports whether a new certificate is needed: there is none, it was signed
// by another intermediate than the record's, two thirds of its life are over, or
// it is from before an operator asked for new ones, or before an eviction of this
// server that was taken back. While it is evicted, there is nothing to ask for.
func (v *view) due(rec *store.Trust, node, dc string, now time.Time) bool {
	rs := revocations(rec.Revoked)
	if rs.now(node, dc) {
		return false
	}
	return v.creds == nil || !bytes.Equal(v.creds.intermediate.Raw, rec.Intermediate) || !now.Before(v.creds.renewAt) ||
		createdAt(v.creds.leaf) < renewedAt(rec, node, dc)
}

// renewedAt is the moment from which a server's certificate counts, however valid
// earlier ones are.
func renewedAt(rec *store.Trust, node, dc string) int64 {
	return max(rec.RenewedUnix, revocations(rec.Revoked).madeAfter(node, dc))
}

// notBefore dates a certificate: now, or at the later moment that is asked for,
// where clocks of two leaders differ.
func notBefore(unix int64) time.Time {
	now := time.Now()
	if t := time.Unix(unix, 0); t.After(now) {
		return t
	}
	return now
}

// with returns a view with another certificate, once it is checked that it is
// ours.
func (v *view) with(key *ecdsa.PrivateKey, leafDER, intermediateDER []byte, node, dc string, now time.Time) (*view, error) {
	if v.roots == nil {
		return nil, errors.New("certificate without a root")
	}
	leaf, err := x509.ParseCertificate(leafDER)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	intermediate, err := x509.ParseCertificate(intermediateDER)
	if err != nil {
		return nil, fmt.Errorf("issuing certificate: %w", err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("certificate is for another key")
	}
	chain := []*x509.Certificate{leaf, intermediate}
	who, err := verifyChain(chain, v.roots.pool, x509.ExtKeyUsageServerAuth, now)
	if err != nil {
		return nil, err
	}
	if who.node != node || who.datacenter != dc {
		return nil, fmt.Errorf("certificate is for %s, not %s.%s", who, node, dc)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	// Two thirds of the life from now on, and up to a tenth of it later: servers
	// that got theirs together do not ask together.
	life := leaf.NotAfter.Sub(leaf.NotBefore.Add(slack))
	renewAt := leaf.NotBefore.Add(slack).Add(life * 2 / 3).Add(mrand.N(life/10 + 1))
	return &view{
		roots:   v.roots,
		revoked: v.revoked,
		pruned:  v.pruned,
		keyDER:  keyDER,
		creds: &creds{
			tls:          tls.Certificate{Certificate: append([][]byte{leafDER, intermediateDER}, v.roots.cross...), PrivateKey: key, Leaf: leaf},
			leaf:         leaf,
			intermediate: intermediate,
			renewAt:      renewAt,
		},
	}, nil
}

// showing returns the certificate with the cross-signed roots of other roots.
func (c *creds) showing(r *roots) *creds {
	if c == nil {
		return nil
	}
	next := *c
	next.tls.Certificate = append([][]byte{c.leaf.Raw, c.intermediate.Raw}, r.cross...)
	return &next
}

// build makes the TLS configurations of the accepting side. They are shared by
// all handshakes under this view, so that sessions can be resumed, and end with
// it: a ticket from before a change of trust costs a full handshake.
func (v *view) build(a *Authority) {
	v.server = make(map[string]*tls.Config, 4)
	var ticket [32]byte
	_, _ = rand.Read(ticket[:])
	for _, alpn := range []string{GossipALPN, RPCALPN, EnrollALPN, RelayALPN} {
		conf := a.serverConfig(alpn)
		conf.SetSessionTicketKeys([][32]byte{ticket})
		v.server[alpn] = conf
	}
}

func identityPath(dataDir string) string {
	return filepath.Join(dataDir, "federation", "server.pem")
}

// Blocks of the kept file that are not what other programs know.
const (
	pemCross   = "LANDBRIDGE CROSS-SIGNED ROOT"
	pemRevoked = "LANDBRIDGE REVOCATIONS"
)

// save keeps key, certificate, issuer and roots in one file (mode 0600), so that
// a restarted server can show itself and check others before it has a leader.
// The file is replaced as a whole or not at all.
func (v *view) save(path string, keyDER []byte) error {
	var b bytes.Buffer
	block := func(typ string, der []byte) { _ = pem.Encode(&b, &pem.Block{Type: typ, Bytes: der}) }
	block("PRIVATE KEY", keyDER)
	block("CERTIFICATE", v.creds.leaf.Raw)
	block("CERTIFICATE", v.creds.intermediate.Raw)
	for _, r := range v.roots.list {
		block("CERTIFICATE", r.Raw)
	}
	for _, c := range v.roots.cross {
		block(pemCross, c)
	}
	if len(v.revoked) > 0 {
		block(pemRevoked, v.revoked.append(nil))
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "server-*.tmp") // CreateTemp makes it 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when the rename below succeeded
	_, err = f.Write(b.Bytes())
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// load reads what save wrote. A missing file is no error.
func (v *view) load(path, node, dc string, now time.Time) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var keyDER []byte
	var certs, cross [][]byte
	var revoked revocations
	for {
		var p *pem.Block
		if p, b = pem.Decode(b); p == nil {
			break
		}
		switch p.Type {
		case "PRIVATE KEY":
			keyDER = p.Bytes
		case "CERTIFICATE":
			certs = append(certs, p.Bytes)
		case pemCross:
			cross = append(cross, p.Bytes)
		case pemRevoked:
			if revoked, err = decodeRevocations(p.Bytes); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	if len(certs) < 3 {
		return fmt.Errorf("%s is not complete", path)
	}
	key, err := parseKey(keyDER)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r, err := rootsOf(certs[2:])
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.cross = cross
	loaded, err := (&view{roots: r, revoked: revoked}).with(key, certs[0], certs[1], node, dc, now)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	*v = *loaded
	return nil
}
