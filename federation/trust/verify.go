package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"landbridge/store"
)

// maxChain bounds what a stranger can make us parse and check: leaf,
// intermediate, and a little for cross-signed issuers.
const maxChain = 4

// verifyChain checks a presented chain against the roots and returns whose it
// is. The chain must be leaf, the datacenter's intermediate, root, and the
// datacenter in the leaf must be the intermediate's: the DNS constraint that
// x509 enforces does not cover the URI, which is what we go by.
func verifyChain(certs []*x509.Certificate, pool *x509.CertPool, usage x509.ExtKeyUsage, now time.Time) (name, error) {
	if len(certs) == 0 {
		return name{}, errors.New("no certificate presented")
	}
	if len(certs) > maxChain {
		return name{}, fmt.Errorf("chain of %d certificates", len(certs))
	}
	leaf := certs[0]
	who, err := nameOf(leaf)
	if err != nil {
		return name{}, err
	}
	if who.role != roleServer {
		return name{}, fmt.Errorf("certificate is of a %s, only servers may use this channel", who.role)
	}
	others := x509.NewCertPool()
	for _, c := range certs[1:] {
		others.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         pool,
		Intermediates: others,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return name{}, fmt.Errorf("certificate of %s: %w", who, explain(err))
	}
	for _, chain := range chains {
		if len(chain) != 3 {
			err = fmt.Errorf("certificate of %s was not issued by a datacenter", who)
			continue
		}
		dc, trustDomain, derr := datacenterOf(chain[1])
		if derr != nil {
			err = fmt.Errorf("certificate of %s: %w", who, derr)
			continue
		}
		if dc != who.datacenter {
			err = fmt.Errorf("certificate of %s was issued by datacenter %s", who, dc)
			continue
		}
		rootDomain, derr := trustDomainOf(chain[2])
		if derr != nil || trustDomain != rootDomain || who.trustDomain != rootDomain {
			err = fmt.Errorf("certificate of %s is of another trust domain than its issuers", who)
			continue
		}
		return who, nil
	}
	return name{}, err
}

// explain puts x509's refusals into words an operator can act on.
func explain(err error) error {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("issued below a root that this datacenter does not trust (has it joined this federation?): %w", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("expired or not valid yet: %w", err)
	}
	return err
}

// verifyPeer checks the other side of a gossip or RPC handshake, full or
// resumed. peer is the name it must have, "" for any server of the federation.
func (a *Authority) verifyPeer(cs tls.ConnectionState, peer string, usage x509.ExtKeyUsage) error {
	who, err := a.identify(cs.PeerCertificates, usage)
	if err == nil && peer != "" && !samePeer(who.String(), peer) {
		err = fmt.Errorf("certificate is of %s, not of %s", who, peer)
	}
	if err == nil && a.cfg.Revoked != nil && a.cfg.Revoked(who.node, who.datacenter, cs.PeerCertificates[0]) {
		err = fmt.Errorf("certificate of %s was revoked", who)
	}
	if err != nil {
		a.metrics.refusedPeers.Inc()
		return store.Errorf(store.KindPermissionDenied, "peer refused: %w", err)
	}
	return nil
}

// identify checks a chain by the authority in force.
func (a *Authority) identify(certs []*x509.Certificate, usage x509.ExtKeyUsage) (name, error) {
	if a.operator.on() {
		return a.operator.verify(certs, usage, time.Now())
	}
	v := a.view.Load()
	if v.roots == nil {
		return name{}, errors.New("this datacenter has no roots yet")
	}
	return verifyChain(certs, v.roots.pool, usage, time.Now())
}
