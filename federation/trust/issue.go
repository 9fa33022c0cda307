package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"
)

// Lives of certificates. Each starts slack before it was made, for clocks that
// run behind ours.
const (
	rootLife         = 10 * 365 * 24 * time.Hour
	intermediateLife = 365 * 24 * time.Hour
	leafLife         = 72 * time.Hour
	slack            = 6 * time.Hour
)

var errBadCSR = errors.New("certificate request")

// issuer is a certificate with its key.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return key, der, err
}

func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("malformed private key") // the cause might quote the key
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("private key is not ECDSA")
	}
	return key, nil
}

func parseIssuer(certDER, keyDER []byte) (issuer, error) {
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return issuer{}, err
	}
	key, err := parseKey(keyDER)
	if err != nil {
		return issuer{}, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return issuer{}, fmt.Errorf("key and certificate of %s do not belong together", cert.Subject.CommonName)
	}
	return issuer{cert, key}, nil
}

// serial returns a random number of n bits, not 0.
func serial(n uint) (*big.Int, error) {
	limit := new(big.Int).Lsh(big.NewInt(1), n)
	i, err := rand.Int(rand.Reader, limit.Sub(limit, big.NewInt(1)))
	if err != nil {
		return nil, err
	}
	return i.Add(i, big.NewInt(1)), nil
}

// newRoot makes the self-signed root of a federation.
func newRoot(now time.Time, trustDomain string) (certDER, keyDER []byte, err error) {
	key, keyDER, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	// 52 bits: the number is also given out as a JSON number.
	n, err := serial(52)
	if err != nil {
		return nil, nil, err
	}
	id, _, _ := strings.Cut(trustDomain, "-")
	tmpl := &x509.Certificate{
		SerialNumber:          n,
		Subject:               pkix.Name{CommonName: fmt.Sprintf("landbridge root %s %x", id, n)},
		NotBefore:             now.Add(-slack),
		NotAfter:              now.Add(rootLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
	}
	certDER, err = x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	return certDER, keyDER, err
}

// crossSign certifies the key of a new root by the root it replaces: who trusts
// only the old one accepts what is signed below the new one.
func crossSign(now time.Time, old issuer, root *x509.Certificate) ([]byte, error) {
	n, err := serial(127)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber:          n,
		Subject:               root.Subject,
		NotBefore:             now.Add(-slack),
		NotAfter:              earlier(root.NotAfter, old.cert.NotAfter),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		SubjectKeyId:          root.SubjectKeyId,
		URIs:                  root.URIs,
	}
	return x509.CreateCertificate(rand.Reader, tmpl, old.cert, root.PublicKey, old.key)
}

// signIntermediate signs a datacenter's issuing certificate: path length 0, and
// DNS names below .<dc>.<domain> only. subject is that of an earlier one with the same
// key, nil for a new name.
func signIntermediate(now time.Time, root issuer, pub crypto.PublicKey, dc, domain string, subject []byte) ([]byte, error) {
	n, err := serial(127)
	if err != nil {
		return nil, err
	}
	trustDomain, err := trustDomainOf(root.cert)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber:                n,
		Subject:                     pkix.Name{CommonName: fmt.Sprintf("landbridge %s %x", dc, new(big.Int).Rsh(n, 95))},
		RawSubject:                  subject,
		NotBefore:                   now.Add(-slack),
		NotAfter:                    earlier(now.Add(intermediateLife), root.cert.NotAfter),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLen:                  0,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{"." + dc + "." + domain},
		URIs:                        []*url.URL{datacenterURI(trustDomain, dc)},
	}
	return x509.CreateCertificate(rand.Reader, tmpl, root.cert, pub, root.key)
}

// signLeaf signs a server's certificate.
func signLeaf(now time.Time, by issuer, pub crypto.PublicKey, node, dc, domain string) ([]byte, error) {
	n, err := serial(127)
	if err != nil {
		return nil, err
	}
	_, trustDomain, err := datacenterOf(by.cert)
	if err != nil {
		return nil, err
	}
	who := name{role: roleServer, node: node, datacenter: dc, trustDomain: trustDomain}
	tmpl := &x509.Certificate{
		SerialNumber:          n,
		NotBefore:             now.Add(-slack),
		NotAfter:              earlier(now.Add(leafLife), by.cert.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		DNSNames:              serverDNSNames(node, dc, domain),
		URIs:                  []*url.URL{who.uri()},
	}
	return x509.CreateCertificate(rand.Reader, tmpl, by.cert, pub, by.key)
}

// selfSigned makes what a server shows on the enrolment channel before it has
// any certificate: it says the name and proves nothing.
func selfSigned(now time.Time, node, dc string) (certDER []byte, key *ecdsa.PrivateKey, err error) {
	key, _, err = newKey()
	if err != nil {
		return nil, nil, err
	}
	n, err := serial(127)
	if err != nil {
		return nil, nil, err
	}
	who := name{role: roleServer, node: node, datacenter: dc, trustDomain: "unenrolled"}
	tmpl := &x509.Certificate{
		SerialNumber: n,
		NotBefore:    now.Add(-slack),
		NotAfter:     now.Add(rootLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:         []*url.URL{who.uri()},
	}
	certDER, err = x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	return certDER, key, err
}

// newCSR asks for a certificate for key; the DNS name carries datacenter and
// domain, the URI (of a server) the node, and subject the name that an intermediate
// shall keep, if any.
func newCSR(key crypto.Signer, node, dc, domain string, subject []byte) ([]byte, error) {
	tmpl := &x509.CertificateRequest{DNSNames: []string{"server." + dc + "." + domain}, RawSubject: subject}
	if node != "" {
		tmpl.URIs = []*url.URL{name{role: roleServer, node: node, datacenter: dc, trustDomain: "csr"}.uri()}
	}
	return x509.CreateCertificateRequest(rand.Reader, tmpl, key)
}

// request is a checked CSR.
type request struct {
	pub    *ecdsa.PublicKey
	node   string // "" for an intermediate
	domain string
	// subject is the name that an intermediate shall keep, nil for a new one.
	subject []byte
}

// readCSR checks that the sender holds the key, and that the request is for dc.
func readCSR(der []byte, dc string) (request, error) {
	if len(der) > maxCSR {
		return request{}, fmt.Errorf("%w: over %d bytes", errBadCSR, maxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return request{}, fmt.Errorf("%w: %w", errBadCSR, err)
	}
	// The curve first: checking a signature of an odd key can be made expensive.
	pub, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return request{}, fmt.Errorf("%w: key is not ECDSA P-256", errBadCSR)
	}
	if err := csr.CheckSignature(); err != nil {
		return request{}, fmt.Errorf("%w: %w", errBadCSR, err)
	}
	r := request{pub: pub}
	if len(csr.DNSNames) != 1 {
		return request{}, fmt.Errorf("%w: want one DNS name", errBadCSR)
	}
	r.domain, ok = strings.CutPrefix(csr.DNSNames[0], "server."+dc+".")
	if !ok || !dnsLabels(r.domain) {
		return request{}, fmt.Errorf("%w: DNS name %q is not of datacenter %s", errBadCSR, csr.DNSNames[0], dc)
	}
	if name := csr.Subject.CommonName; name != "" {
		if len(csr.Subject.Names) != 1 || len(name) > 128 || !strings.HasPrefix(name, "landbridge "+dc+" ") {
			return request{}, fmt.Errorf("%w: subject %q is not of datacenter %s", errBadCSR, printable(name), dc)
		}
		r.subject = csr.RawSubject
	}
	if len(csr.URIs) > 0 {
		who, err := nameOf(&x509.Certificate{URIs: csr.URIs})
		if err != nil {
			return request{}, fmt.Errorf("%w: %w", errBadCSR, err)
		}
		if who.role != roleServer || who.datacenter != dc {
			return request{}, fmt.Errorf("%w: not for a server of datacenter %s", errBadCSR, dc)
		}
		r.node = who.node
	}
	return r, nil
}

// serverDNSNames are the names other tools know servers by. Both lie below the
// intermediate's constraint.
func serverDNSNames(node, dc, domain string) []string {
	names := []string{"server." + dc + "." + domain}
	if full := node + "." + names[0]; dnsLabels(node) && len(full) <= 253 {
		names = append(names, full)
	}
	return names
}

func trustDomainOf(root *x509.Certificate) (string, error) {
	if len(root.URIs) != 1 || root.URIs[0].Scheme != "spiffe" || root.URIs[0].Host == "" || root.URIs[0].Path != "" {
		return "", fmt.Errorf("root %s names no trust domain", root.Subject.CommonName)
	}
	return root.URIs[0].Host, nil
}

// fingerprint is a root's id in store.Trust.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// keyHash identifies a public key in store.TrustDatacenter.
func keyHash(pub crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// createdAt is when a certificate of ours was made, as it says itself.
func createdAt(c *x509.Certificate) int64 { return c.NotBefore.Add(slack).Unix() }

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
