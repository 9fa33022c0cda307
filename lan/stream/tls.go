package stream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// incomingTLS returns the configuration of one accepted connection.
func (c *Config) incomingTLS() (*tls.Config, error) {
	base, err := c.TLS.Incoming()
	if err != nil {
		return nil, err
	}
	t := base.Clone()
	if c.TLS.rules().Incoming {
		if t.ClientCAs == nil {
			// The system's authorities would let in anybody with a web certificate.
			return nil, errors.New("verify_incoming without an authority")
		}
		t.ClientAuth = tls.RequireAndVerifyClientCert
	}
	t.DynamicRecordSizingDisabled = true
	return t, nil
}

// outgoingTLS returns the configuration of one dialed connection.
func (c *Config) outgoingTLS() (*tls.Config, error) {
	base, err := c.TLS.Outgoing()
	if err != nil {
		return nil, err
	}
	t := base.Clone()
	if t.RootCAs == nil {
		return nil, errors.New("verify_outgoing without an authority")
	}
	t.DynamicRecordSizingDisabled = true
	t.ServerName = c.serverName()
	if c.TLS.rules().ServerHostname {
		t.InsecureSkipVerify = false
		return t, nil
	}
	// Without verify_server_hostname any certificate of the authorities will do,
	// whatever its names: crypto/tls cannot say that but by checking ourselves.
	t.InsecureSkipVerify = true
	roots, verify := t.RootCAs, t.VerifyConnection
	t.VerifyConnection = func(s tls.ConnectionState) error {
		opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		if t.Time != nil {
			opts.CurrentTime = t.Time()
		}
		for _, cert := range s.PeerCertificates[1:] {
			opts.Intermediates.AddCert(cert)
		}
		if _, err := s.PeerCertificates[0].Verify(opts); err != nil {
			return err
		}
		if verify != nil {
			return verify(s)
		}
		return nil
	}
	return t, nil
}

// identity is what the other side of a connection has proved; zero without TLS.
type identity struct {
	name   string
	server bool // its certificate is one of a server of ours
}

// identify reads the identity out of a finished handshake. dialed says that
// outgoingTLS has checked the certificate, else crypto/tls must have.
func (c *Config) identify(s tls.ConnectionState, dialed bool) identity {
	if len(s.PeerCertificates) == 0 || !dialed && len(s.VerifiedChains) == 0 {
		return identity{}
	}
	cert := s.PeerCertificates[0]
	id := identity{server: cert.VerifyHostname(c.serverName()) == nil}
	switch {
	case cert.Subject.CommonName != "":
		id.name = cert.Subject.CommonName
	case len(cert.DNSNames) > 0:
		id.name = cert.DNSNames[0]
	default:
		id.name = fmt.Sprintf("certificate %x", cert.SerialNumber)
	}
	return id
}
