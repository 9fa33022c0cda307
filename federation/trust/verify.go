package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"landbridge/store"
)

// maxChain bounds what a stranger can make us parse and check: leaf,
// intermediate, and a cross-signed root for each rotation under way.
const maxChain = 2 + maxRotations

// verifyChain checks a presented chain against the roots and returns whose it
// is. The chain must be leaf, the datacenter's intermediate, root, with roots that
// replaced that one in between during a rotation. The datacenter in the leaf must
// be the intermediate's: the DNS constraint that x509 enforces does not cover the
// URI, which is what we go by.
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
		if len(chain) < 3 {
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
		if !slices.ContainsFunc(chain[2:], func(root *x509.Certificate) bool {
			domain, err := trustDomainOf(root)
			return err != nil || domain != trustDomain || domain != who.trustDomain
		}) {
			return who, nil
		}
		err = fmt.Errorf("certificate of %s is of another trust domain than its issuers", who)
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
	who, err := a.identify(cs.PeerCertificates, usage, time.Now())
	if err == nil && peer != "" && !samePeer(who.String(), peer) {
		err = fmt.Errorf("certificate is of %s, not of %s", who, peer)
	}
	if err != nil {
		a.metrics.refusedPeers.Inc()
		return store.Errorf(store.KindPermissionDenied, "peer refused: %w", err)
	}
	return nil
}

// Recheck returns what says why the peer of an open connection is accepted no
// more, after a call of Changed: it was evicted, or its root was dropped by an
// operator. That its certificate has expired, or that a root was dropped after its
// last certificate was replaced, is no reason: connections may outlive them.
func (a *Authority) Recheck() func(tls.ConnectionState) error {
	roots := a.prune.Swap(false)
	v := a.view.Load()
	return func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("no certificate presented")
		}
		if roots {
			return a.recheckRoots(cs.PeerCertificates)
		}
		if a.operator.on() {
			who, err := a.operator.nameOf(cs.PeerCertificates[0])
			if err == nil && v.revoked.now(who.node, who.datacenter) {
				err = fmt.Errorf("%s was evicted", who)
			}
			return err
		}
		who, err := nameOf(cs.PeerCertificates[0])
		if err == nil {
			err = v.revoked.check(who, cs.PeerCertificates)
		}
		return err
	}
}

func (a *Authority) recheckRoots(certs []*x509.Certificate) error {
	now := time.Now()
	if end := certs[0].NotAfter; now.After(end) {
		now = end
	}
	// Both sides' certificates have both usages.
	_, err := a.identify(certs, x509.ExtKeyUsageClientAuth, now)
	return err
}

// identify checks a chain by the authority in force, and that its holder was not
// evicted.
func (a *Authority) identify(certs []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (name, error) {
	v := a.view.Load()
	if a.operator.on() {
		who, err := a.operator.verify(certs, usage, now)
		if err == nil && v.revoked.now(who.node, who.datacenter) {
			err = fmt.Errorf("%s was evicted", who)
		}
		return who, err
	}
	if v.roots == nil {
		return name{}, errors.New("this datacenter has no roots yet")
	}
	who, err := verifyChain(certs, v.roots.pool, usage, now)
	if err == nil {
		err = v.revoked.check(who, certs)
	}
	return who, err
}
