package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"strings"
	"time"
)

func tlsCACreate() *command {
	return &command{
		name:     "tls ca create",
		synopsis: "Make a certificate authority",
		help: `
Makes a certificate authority for a datacenter's agents, in the current
directory: DOMAIN-agent-ca.pem, which every agent gets, and
DOMAIN-agent-ca-key.pem, which signs certificates and stays with you.

    $ landbridge tls ca create
    ==> Saved consul-agent-ca.pem
    ==> Saved consul-agent-ca-key.pem`,
		setup: func(fs *flag.FlagSet) run {
			domain := fs.String("domain", "consul", "Domain of the cluster's names. `NAME`")
			days := fs.Int("days", 1825, "Days the authority is valid. `N`")
			clusterID := fs.String("cluster-id", "", "ID of the cluster, for its name in the certificate (default: a random one). `ID`")
			commonName := fs.String("common-name", "", "Common name of the authority. `NAME`")
			constrain := fs.Bool("name-constraint", false, "Let the authority sign only names of the domain, localhost, and those added.")
			var more lines
			fs.Var(&more, "additional-name-constraint", "A further domain for -name-constraint; may be repeated. `NAME`")
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if len(more) > 0 && !*constrain {
					return failf("-additional-name-constraint needs -name-constraint")
				}
				if err := checkDays(*days); err != nil {
					return err
				}
				certFile, keyFile := caFiles(*domain)
				for _, f := range []string{certFile, keyFile} {
					if _, err := os.Lstat(f); err == nil {
						return failf("%s already exists.", f)
					}
				}
				key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				if err != nil {
					return err
				}
				serial, err := serialNumber()
				if err != nil {
					return err
				}
				id := *clusterID
				if id == "" {
					id = randomUUID()
				}
				name := *commonName
				if name == "" {
					name = "Landbridge Agent CA " + serial.String()
				}
				now := time.Now()
				tmpl := &x509.Certificate{
					SerialNumber:          serial,
					Subject:               pkix.Name{CommonName: name, Organization: []string{"landbridge"}},
					NotBefore:             now.Add(-time.Minute), // clocks of other machines may be a little behind
					NotAfter:              now.AddDate(0, 0, *days),
					KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
					BasicConstraintsValid: true,
					IsCA:                  true,
					URIs:                  []*url.URL{{Scheme: "spiffe", Host: id + "." + *domain}},
				}
				if tmpl.SubjectKeyId, err = keyID(key); err != nil {
					return err
				}
				tmpl.AuthorityKeyId = tmpl.SubjectKeyId
				if *constrain {
					tmpl.PermittedDNSDomainsCritical = true
					tmpl.PermittedDNSDomains = append([]string{*domain, "localhost"}, more...)
				}
				return c.saveCertificate(certFile, keyFile, tmpl, tmpl, key, key)
			}
		},
	}
}

func caFiles(domain string) (cert, key string) {
	return domain + "-agent-ca.pem", domain + "-agent-ca-key.pem"
}

func checkDays(days int) error {
	if days < 1 || days > 36500 {
		return failf("-days must be between 1 and 36500, is %d", days)
	}
	return nil
}

// saveCertificate signs a certificate for key and writes both files, the key
// first: a certificate without its key would only be in the way.
func (c *call) saveCertificate(certFile, keyFile string, tmpl, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		return failf("Error creating the certificate: %w", err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := writeNew(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return err
	}
	if err := writeNew(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	c.printf("==> Saved %s\n==> Saved %s\n", certFile, keyFile)
	return nil
}

// writeNew writes a file that must not exist.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if errors.Is(err, fs.ErrExist) {
		return failf("%s already exists.", path)
	}
	if err != nil {
		return failf("Error: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return failf("Error: %w", err)
	}
	return nil
}

func serialNumber() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

func keyID(key *ecdsa.PrivateKey) ([]byte, error) {
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(pub)
	return sum[:20], nil
}

func randomUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: it would crash the process instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// forDomain fills the place for the domain in the default names of files.
func forDomain(file, domain string) string { return strings.ReplaceAll(file, "#DOMAIN#", domain) }
