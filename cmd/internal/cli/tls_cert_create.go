package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

func tlsCertCreate() *command {
	return &command{
		name:     "tls cert create",
		synopsis: "Make a certificate for a server, a client agent or a command line",
		help: `
Makes a certificate signed by the authority that "tls ca create" made, in the
current directory: DC-server-DOMAIN-0.pem with its key, or 1, 2, ... if there
are some already.

A server's certificate holds the name server.DC.DOMAIN, by which agents know
that they speak to a server. Whoever has one can act as a server: guard its key.

    $ landbridge tls cert create -server -dc=dc1
    $ landbridge tls cert create -client -dc=dc1
    $ landbridge tls cert create -server -node=s1 -additional-ipaddress=10.0.1.10`,
		setup: func(fs *flag.FlagSet) run {
			p := certPlan{}
			fs.BoolVar(&p.server, "server", false, "Make a server's certificate.")
			fs.BoolVar(&p.client, "client", false, "Make a client agent's certificate.")
			fs.BoolVar(&p.cli, "cli", false, "Make a certificate for a command line.")
			fs.StringVar(&p.dc, "dc", "dc1", "Datacenter. `NAME`")
			fs.StringVar(&p.domain, "domain", "consul", "Domain of the cluster's names. `NAME`")
			fs.StringVar(&p.node, "node", "", "With -server: name of the node, which becomes a name in the certificate, too. `NAME`")
			fs.IntVar(&p.days, "days", 365, "Days the certificate is valid. `N`")
			ca := fs.String("ca", "#DOMAIN#-agent-ca.pem", "The authority's certificate. `FILE`")
			key := fs.String("key", "#DOMAIN#-agent-ca-key.pem", "The authority's key. `FILE`")
			fs.Var(&p.names, "additional-dnsname", "A further name in the certificate; may be repeated. `NAME`")
			var ips lines
			fs.Var(&ips, "additional-ipaddress", "A further address in the certificate; may be repeated. `IP`")
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if err := p.check(ips); err != nil {
					return err
				}
				caCert, caKey, err := readCA(forDomain(*ca, p.domain), forDomain(*key, p.domain))
				if err != nil {
					return err
				}
				tmpl, err := p.template()
				if err != nil {
					return err
				}
				certKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				if err != nil {
					return err
				}
				if tmpl.SubjectKeyId, err = keyID(certKey); err != nil {
					return err
				}
				tmpl.AuthorityKeyId = caCert.SubjectKeyId
				if tmpl.NotAfter.After(caCert.NotAfter) {
					fmt.Fprintf(c.Stderr, "==> WARNING: the authority expires before the certificate, on %s.\n", caCert.NotAfter.Format(time.DateOnly))
				}
				if p.server {
					c.println("==> WARNING: with a server's certificate one can act as a server and read\n    everything in the cluster. Keep its key on the server, and nowhere else.")
				}
				c.printf("==> Using %s and %s\n", forDomain(*ca, p.domain), forDomain(*key, p.domain))
				certFile, keyFile := p.freeFiles()
				return c.saveCertificate(certFile, keyFile, tmpl, caCert, certKey, caKey)
			}
		},
	}
}

// certPlan is what certificate to make.
type certPlan struct {
	server, client, cli bool
	dc, domain, node    string
	days                int
	names               lines
	ips                 []net.IP
}

func (p *certPlan) check(ips []string) error {
	n := 0
	for _, b := range []bool{p.server, p.client, p.cli} {
		if b {
			n++
		}
	}
	switch {
	case n == 0:
		return failf("Please provide either -server, -client, or -cli")
	case n > 1:
		return failf("Please provide only one of -server, -client, or -cli")
	case p.node != "" && !p.server:
		return failf("-node requires -server")
	}
	for _, s := range ips {
		ip := net.ParseIP(strings.TrimSpace(s))
		if ip == nil {
			return failf("-additional-ipaddress: %q is not an IP address", s)
		}
		p.ips = append(p.ips, ip)
	}
	return checkDays(p.days)
}

func (p *certPlan) kind() string {
	switch {
	case p.server:
		return "server"
	case p.client:
		return "client"
	}
	return "cli"
}

func (p *certPlan) template() (*x509.Certificate, error) {
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s.%s.%s", p.kind(), p.dc, p.domain)
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-time.Minute),
		NotAfter:              now.AddDate(0, 0, p.days),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		BasicConstraintsValid: true,
	}
	switch {
	case p.server:
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	case p.client:
		// Client agents serve HTTPS, too.
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	default:
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if p.node != "" {
		tmpl.DNSNames = append(tmpl.DNSNames, p.node+"."+name)
	}
	tmpl.DNSNames = append(tmpl.DNSNames, p.names...)
	tmpl.DNSNames = append(tmpl.DNSNames, name, "localhost")
	tmpl.IPAddresses = append(p.ips, net.IPv4(127, 0, 0, 1))
	return tmpl, nil
}

// freeFiles finds the first number whose files do not exist.
func (p *certPlan) freeFiles() (cert, key string) {
	for n := 0; ; n++ {
		base := fmt.Sprintf("%s-%s-%s-%d", p.dc, p.kind(), p.domain, n)
		cert, key = base+".pem", base+"-key.pem"
		if _, err := os.Lstat(cert); err == nil {
			continue
		}
		if _, err := os.Lstat(key); err != nil {
			return cert, key
		}
	}
}

func readCA(certFile, keyFile string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	block, err := readPEM(certFile)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, failf("Error reading %s: %w", certFile, err)
	}
	if !cert.IsCA {
		return nil, nil, failf("%s is no certificate authority", certFile)
	}
	if block, err = readPEM(keyFile); err != nil {
		return nil, nil, err
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		var other any
		if other, err = x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			var ok bool
			if key, ok = other.(*ecdsa.PrivateKey); !ok {
				err = errors.New("not an ECDSA key")
			}
		}
	}
	if err != nil {
		return nil, nil, failf("Error reading %s: %w", keyFile, err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, failf("%s is not the key of %s", keyFile, certFile)
	}
	return cert, key, nil
}

func readPEM(file string) (*pem.Block, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, failf("Error reading the authority: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, failf("Error reading %s: nothing in PEM form", file)
	}
	return block, nil
}
