package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"landbridge/store"
)

// ServerTLS returns the configuration for accepting a connection of the ALPN
// protocol. Gossip, RPC and relays require a server's certificate; enrolment takes any
// peer, whom ServeEnroll judges. It fails while this server has no certificate,
// except for enrolment.
func (a *Authority) ServerTLS(alpn string) (*tls.Config, error) {
	conf := a.view.Load().server[alpn]
	if conf == nil {
		return nil, fmt.Errorf("trust: no TLS configuration for protocol %q", alpn)
	}
	if alpn != EnrollALPN && a.certificate() == nil {
		return nil, errNoCertificate
	}
	return conf, nil
}

var errNoCertificate = store.Errorf(store.KindNoLeader, "this server has no certificate yet: its datacenter has had no leader")

// ClientTLS returns the configuration for dialing peer ("<node>.<dc>"), whose
// certificate is required. peer "" accepts any server of the federation for
// gossip, and anybody for enrolment.
func (a *Authority) ClientTLS(alpn, peer string) (*tls.Config, error) {
	conf := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpn},
		// Verified in VerifyConnection, which also runs on resumption, against the
		// roots of that moment.
		InsecureSkipVerify: true,
	}
	switch alpn {
	case EnrollALPN:
		conf.ServerName = "enroll." + a.cfg.Domain
		conf.SessionTicketsDisabled = true
		if a.operator.on() {
			conf.GetClientCertificate = a.clientCertificate
		}
		return conf, nil
	case GossipALPN, RPCALPN, RelayALPN:
	default:
		return nil, fmt.Errorf("trust: no TLS configuration for protocol %q", alpn)
	}
	if a.certificate() == nil {
		return nil, errNoCertificate
	}
	conf.ServerName = "server." + a.cfg.Domain
	if peer != "" {
		node, dc, ok := splitPeer(peer)
		if !ok {
			return nil, store.Errorf(store.KindInvalid, "server name %q is not <node>.<datacenter>", peer)
		}
		if dnsLabels(node) && dnsLabels(dc) {
			conf.ServerName = serverDNSNames(node, dc, a.cfg.Domain)[0]
		}
	} else if alpn != GossipALPN {
		return nil, errors.New("trust: a server must be named to call it")
	}
	conf.GetClientCertificate = a.clientCertificate
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		return a.verifyPeer(cs, peer, x509.ExtKeyUsageServerAuth)
	}
	return conf, nil
}

// PeerName returns the "<node>.<dc>" of a connection that ServerTLS or ClientTLS
// verified.
func (a *Authority) PeerName(cs tls.ConnectionState) (string, error) {
	if len(cs.PeerCertificates) == 0 {
		return "", errors.New("peer has no certificate")
	}
	if a.operator.on() {
		who, err := a.operator.nameOf(cs.PeerCertificates[0])
		return who.String(), err
	}
	who, err := nameOf(cs.PeerCertificates[0])
	if err != nil {
		return "", err
	}
	if who.role != roleServer {
		return "", fmt.Errorf("certificate is of a %s", who.role)
	}
	return who.String(), nil
}

// serverConfig makes the accepting side's configuration of a protocol.
func (a *Authority) serverConfig(alpn string) *tls.Config {
	conf := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpn},
	}
	if alpn == EnrollALPN {
		conf.SessionTicketsDisabled = true
		conf.ClientAuth = tls.RequestClientCert
		conf.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := a.certificate(); c != nil {
				return c, nil
			}
			return &a.strangerCert, nil
		}
		return conf
	}
	conf.ClientAuth = tls.RequireAnyClientCert
	conf.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if c := a.certificate(); c != nil {
			return c, nil
		}
		return nil, errNoCertificate
	}
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		return a.verifyPeer(cs, "", x509.ExtKeyUsageClientAuth)
	}
	return conf
}

// certificate is what we show now, nil while there is none or it has expired.
func (a *Authority) certificate() *tls.Certificate {
	if a.operator.on() {
		return a.operator.certificate()
	}
	c := a.view.Load().creds
	if c == nil || time.Now().After(c.leaf.NotAfter) {
		return nil
	}
	return &c.tls
}

func (a *Authority) clientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if c := a.certificate(); c != nil {
		return c, nil
	}
	return nil, errNoCertificate
}
