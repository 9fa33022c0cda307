package trust

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// maxRotations bounds the replaced roots that are still trusted: each makes the
// chains that servers show longer.
const maxRotations = 2

// rotating is how many replaced roots of the federation are still trusted.
func rotating(rec *store.Trust) int {
	n := 0
	for i := range rec.Roots {
		if !rec.Roots[i].Provisional {
			n++
		}
	}
	return n - 1
}

// waitingFor lists the datacenters that may still have certificates below a
// replaced root.
func waitingFor(rec *store.Trust) []string {
	var names []string
	for i := range rec.Datacenters {
		if rec.Datacenters[i].Root != rec.Roots[0].ID {
			names = append(names, rec.Datacenters[i].Name)
		}
	}
	return names
}

// dropReplaced keeps the current root, and those of before a join.
func dropReplaced(roots []store.TrustRoot) []store.TrustRoot {
	kept := []store.TrustRoot{roots[0]}
	kept[0].Cross = nil // it certifies below what is gone
	for _, r := range roots[1:] {
		if r.Provisional {
			kept = append(kept, r)
		}
	}
	return kept
}

// rotateRoot gives the federation a new root, certified by the one it replaces,
// and this datacenter an intermediate below it, in one write. From then on
// servers show the cross-signed root too, so that datacenters which have not
// heard of the new one accept them; and all trust the old one, so that those
// datacenters are accepted, until each has said that it is done.
func (a *Authority) rotateRoot(ctx context.Context, rec *store.Trust) error {
	now := time.Now()
	old, err := parseIssuer(rec.Roots[0].DER, rec.RootKey)
	if err != nil {
		return store.Errorf(store.KindInternal, "root: %w", err)
	}
	der, key, err := newRoot(now, rec.FederationID+trustDomainSuffix)
	if err != nil {
		return store.Errorf(store.KindInternal, "new root: %w", err)
	}
	root, err := parseIssuer(der, key)
	if err != nil {
		return store.Errorf(store.KindInternal, "new root: %w", err)
	}
	next := rec.Clone()
	current := newTrustRoot(root.cert, rec.FederationID, true)
	if current.Cross, err = crossSign(now, old, root.cert); err != nil {
		return store.Errorf(store.KindInternal, "new root: %w", err)
	}
	next.Roots[0].Active = false
	next.Roots = append([]store.TrustRoot{current}, next.Roots...)
	next.RootKey = key
	if err := a.newIntermediate(next, root, now); err != nil {
		return err
	}
	if err := a.replace(ctx, next); err != nil {
		return err
	}
	a.metrics.issued.WithLabelValues("root").Inc()
	a.log.Info("new root of the federation", "root", current.ID, "replaces", rec.Roots[0].ID, "datacenters", len(rec.Datacenters))
	return nil
}

// readRoots checks the roots of a federation, the current one first, and gives
// each the certificate of its key that another of them signed.
func readRoots(federationID string, ders, crosses [][]byte, now time.Time) ([]store.TrustRoot, error) {
	if len(ders) == 0 || federationID == "" {
		return nil, fmt.Errorf("not complete")
	}
	var list []store.TrustRoot
	for i, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("root: %w", err)
		}
		// One that has expired meanwhile vouches for nothing, and does no harm.
		if !c.IsCA || c.CheckSignatureFrom(c) != nil || (i == 0 && (now.After(c.NotAfter) || now.Before(c.NotBefore))) {
			return nil, fmt.Errorf("root %s is not a valid root", fingerprint(der))
		}
		domain, err := trustDomainOf(c)
		if err != nil {
			return nil, err
		}
		federation, ok := strings.CutSuffix(domain, trustDomainSuffix)
		if !ok || federation != federationID {
			return nil, fmt.Errorf("root %s is not of federation %s", fingerprint(der), federationID)
		}
		r := newTrustRoot(c, federation, i == 0)
		for _, cross := range crosses {
			x, err := x509.ParseCertificate(cross)
			if err != nil {
				return nil, fmt.Errorf("cross-signed root: %w", err)
			}
			if bytes.Equal(x.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo) {
				r.Cross = cross
			}
		}
		list = append(list, r)
	}
	return list, nil
}

// continues checks that each of the next roots is trusted already, or certified by
// one that is: a server of the primary alone, without the root's key, cannot give
// the federation another root.
func continues(have, next []store.TrustRoot) error {
	trusted := map[string]*x509.Certificate{}
	for i := range have {
		if have[i].Provisional {
			continue
		}
		c, err := x509.ParseCertificate(have[i].DER)
		if err != nil {
			return err
		}
		trusted[have[i].ID] = c
	}
	for i := len(next) - 1; i >= 0; i-- { // older ones first
		r := &next[i]
		if trusted[r.ID] != nil {
			continue
		}
		c, err := x509.ParseCertificate(r.DER)
		if err != nil {
			return err
		}
		x, err := x509.ParseCertificate(r.Cross)
		if err != nil {
			return fmt.Errorf("root %s is not certified by one that is trusted here", r.ID)
		}
		ok := bytes.Equal(x.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo)
		vouched := false
		for _, t := range trusted {
			vouched = vouched || x.CheckSignatureFrom(t) == nil
		}
		if !ok || !vouched {
			return fmt.Errorf("root %s is not certified by one that is trusted here", r.ID)
		}
		trusted[r.ID] = c
	}
	return nil
}

// withProvisional appends those of the old roots that only this datacenter still
// trusts: all of them when it joined another federation, else those it had left
// from that.
func withProvisional(list, old []store.TrustRoot, foreign bool) []store.TrustRoot {
	for _, r := range old {
		if (r.Provisional || foreign) && len(list) < maxRoots && !slices.ContainsFunc(list, func(n store.TrustRoot) bool { return n.ID == r.ID }) {
			r.Active, r.Provisional, r.Cross = false, true, nil
			list = append(list, r)
		}
	}
	return list
}

// What Trust.Rotate renews.
const (
	RotateRoot         = "root"         // of the federation, and with it everything
	RotateIntermediate = "intermediate" // of one datacenter, and with it its servers' certificates
	RotateServers      = "servers"      // the certificates of one datacenter's servers
	// RotatePrune ends a rotation of the root: the replaced one is dropped although
	// some datacenters have certificates below it.
	RotatePrune = "prune"
)

// RotateHandler answers Trust.Rotate on the leader: of the primary for a root, of
// the datacenter asked otherwise.
func (a *Authority) RotateHandler(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var m rotateRequest
	if err := m.decode(req.Body); err != nil {
		return nil, invalid(err)
	}
	rec, err := a.lead()
	if err != nil {
		return nil, err
	}
	if a.operator.on() {
		return nil, store.Errorf(store.KindConflict, "datacenter %s uses certificates of an operator (tls.internal_rpc): replace those files and reload", a.cfg.Datacenter)
	}
	if m.what == RotateRoot || m.what == RotatePrune {
		if dc, err := a.homeOf(rec); err != nil {
			return nil, err
		} else if dc != "" {
			if req.Origin == rpc.FromWAN {
				return nil, store.Errorf(store.KindConflict, "datacenter %s is not the primary, %s is", a.cfg.Datacenter, dc)
			}
			return a.pass(ctx, req, dc)
		}
	}
	switch m.what {
	case RotateRoot:
		if rotating(rec) >= maxRotations {
			return nil, store.Errorf(store.KindConflict,
				"%d replaced roots are still trusted, because these datacenters have certificates below them: %s; bring them back, evict them (landbridge wan evict -whole-datacenter), or drop the roots (landbridge wan ca prune)",
				rotating(rec), strings.Join(waitingFor(rec), ", "))
		}
		err = a.rotateRoot(ctx, rec)
	case RotateIntermediate:
		if uncrossed(rec) {
			return nil, store.Errorf(store.KindConflict, "the intermediate of datacenter %s keeps its key while the root from before a promotion is trusted; landbridge wan ca status in %s says whom that waits for", a.cfg.Datacenter, rec.Primary)
		}
		err = a.renewIntermediate(ctx, rec)
	case RotateServers:
		next := rec.Clone()
		next.RenewedUnix = max(time.Now().Unix(), rec.RenewedUnix) + 1 // what was made in this second is from before
		err = a.replace(ctx, next)
	case RotatePrune:
		if rotating(rec) == 0 {
			return nil, store.Errorf(store.KindNotFound, "no replaced root is trusted any more")
		}
		next := rec.Clone()
		next.Roots, next.Alternates = dropReplaced(next.Roots), nil
		next.Pruned++
		if err = a.replace(ctx, next); err == nil {
			a.log.Warn("replaced root dropped by an operator", "root", rec.Roots[0].ID, "not_done", strings.Join(waitingFor(rec), ","))
		}
	default:
		return nil, store.Errorf(store.KindInvalid, "cannot rotate %q", m.what)
	}
	if err != nil {
		return nil, err
	}
	a.wake()
	if rec = a.cfg.State.Trust(); rec == nil || len(rec.Roots) == 0 {
		return nil, store.ErrNoLeader
	}
	body, err := json.Marshal(struct{ Root, Datacenter string }{rec.Roots[0].ID, a.cfg.Datacenter})
	return &rpc.Response{KnownLeader: true, Body: body}, err
}
