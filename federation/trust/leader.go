package trust

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// errChanged says that the record moved on under a decision.
var errChanged = &store.Error{Kind: store.KindConflict, Message: "the trust record changed meanwhile; try again"}

// attempts bounds how often a compare-and-set is tried anew.
const attempts = 4

// EstablishLeadership makes the root and the intermediate if this datacenter has
// none. A new leader calls it once its barrier is applied.
func (a *Authority) EstablishLeadership(ctx context.Context) error {
	a.confirmMu.Lock()
	clear(a.confirmed) // what was told to an earlier term may be out of date
	a.confirmMu.Unlock()
	defer a.wake()
	for range attempts {
		rec := a.cfg.State.Trust()
		next := rec
		switch {
		case rec == nil || len(rec.Roots) == 0:
			var err error
			if next, err = a.firstRecord(rec); err != nil {
				return err
			}
		case a.cfg.PrimaryDatacenter == a.cfg.Datacenter && rec.Primary == "" && rec.RootKey != nil:
			next = rec.Clone()
			next.Primary = a.cfg.Datacenter
		default:
			if want := a.configured(rec); want != "" && rec.Primary != "" && want != rec.Primary {
				a.log.Error("primary_datacenter does not match the federation this datacenter is part of",
					"configured", want, "primary", rec.Primary)
			}
			return nil
		}
		if err := a.replace(ctx, next); err == nil {
			if rec == nil {
				a.log.Info("certificate authority created", "root", next.Roots[0].ID, "federation", next.FederationID)
			}
			return nil
		} else if store.KindOf(err) != store.KindConflict {
			return store.Errorf(store.KindOf(err), "certificate authority of %s: %w", a.cfg.Datacenter, err)
		}
	}
	return errChanged
}

// firstRecord makes a new root and intermediate.
func (a *Authority) firstRecord(old *store.Trust) (*store.Trust, error) {
	clusterID := a.cfg.State.ClusterID()
	if clusterID == "" {
		return nil, store.Errorf(store.KindInternal, "datacenter %s has no cluster id yet", a.cfg.Datacenter)
	}
	rec := &store.Trust{FederationID: a.cfg.FederationID}
	if rec.FederationID == "" {
		rec.FederationID = clusterID
	}
	if old != nil {
		rec.ModifyIndex = old.ModifyIndex
	}
	if a.cfg.PrimaryDatacenter == a.cfg.Datacenter {
		rec.Primary = a.cfg.Datacenter
	}
	now := time.Now()
	rootDER, rootKey, err := newRoot(now, rec.FederationID+trustDomainSuffix)
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "root: %w", err)
	}
	root, err := parseIssuer(rootDER, rootKey)
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "root: %w", err)
	}
	rec.Roots = []store.TrustRoot{newTrustRoot(root.cert, rec.FederationID, true)}
	rec.RootKey = rootKey
	if err := a.newIntermediate(rec, root, now); err != nil {
		return nil, err
	}
	a.metrics.issued.WithLabelValues("root").Inc()
	return rec, nil
}

// nextKey is the key and the name of the next intermediate: new ones, but the present
// ones while chains below several roots are shown (uncrossed).
func nextKey(rec *store.Trust) (key *ecdsa.PrivateKey, keyDER, subject []byte, err error) {
	if rec.Intermediate == nil || !uncrossed(rec) {
		key, keyDER, err = newKey()
		return key, keyDER, nil, err
	}
	cert, err := x509.ParseCertificate(rec.Intermediate)
	if err != nil {
		return nil, nil, nil, err
	}
	key, err = parseKey(rec.IntermediateKey)
	return key, rec.IntermediateKey, cert.RawSubject, err
}

// newIntermediate gives rec an intermediate below its own root.
func (a *Authority) newIntermediate(rec *store.Trust, root issuer, now time.Time) error {
	key, keyDER, subject, err := nextKey(rec)
	if err != nil {
		return store.Errorf(store.KindInternal, "intermediate: %w", err)
	}
	der, err := signIntermediate(now, root, key.Public(), a.cfg.Datacenter, a.cfg.Domain, subject)
	if err != nil {
		return store.Errorf(store.KindInternal, "intermediate: %w", err)
	}
	keepAlternate(rec, rec.Intermediate)
	rec.Intermediate, rec.IntermediateKey = der, keyDER
	setDatacenter(rec, store.TrustDatacenter{Name: a.cfg.Datacenter, ClusterID: a.cfg.State.ClusterID(), KeyHash: keyHash(key.Public())})
	a.metrics.issued.WithLabelValues("intermediate").Inc()
	return nil
}

func newTrustRoot(c *x509.Certificate, federationID string, active bool) store.TrustRoot {
	return store.TrustRoot{ID: fingerprint(c.Raw), DER: c.Raw, FederationID: federationID, CreatedUnix: createdAt(c), Active: active}
}

// setDatacenter inserts or replaces dc in the list, which is kept in order, and
// reports whether that changed anything.
func setDatacenter(rec *store.Trust, dc store.TrustDatacenter) bool {
	i, found := slices.BinarySearchFunc(rec.Datacenters, dc.Name, func(d store.TrustDatacenter, n string) int { return strings.Compare(d.Name, n) })
	if found {
		if rec.Datacenters[i] == dc {
			return false
		}
		rec.Datacenters[i] = dc
		return true
	}
	rec.Datacenters = slices.Insert(rec.Datacenters, i, dc)
	return true
}

// replace writes rec if the record is still the one it was made from.
func (a *Authority) replace(ctx context.Context, rec *store.Trust) error {
	return a.propose(ctx, rec, nil)
}

// propose is replace. With replica, this datacenter owns the shared ACLs from then on,
// if their replication has written nothing since that version.
func (a *Authority) propose(ctx context.Context, rec *store.Trust, replica *uint64) error {
	if old := a.cfg.State.Trust(); rec.RootKey != nil && (old == nil || !sharedEqual(old, rec)) {
		// Whoever holds the root counts what changes for all. If old is not what rec
		// was made from, nothing is written below.
		if old != nil {
			rec.Revision = old.Revision
		}
		rec.Revision++
	}
	var cmd store.Command
	if rec.Promotion == nil && rec.Claim == nil {
		c := store.TrustCommand{Trust: *rec}
		cmd = store.Command{Kind: store.CmdTrust, Payload: c.AppendWire(nil)}
	} else {
		c := store.PromotionCommand{Trust: *rec, Owns: rec.Promotion != nil && rec.Promotion.Primary == a.cfg.Datacenter}
		if replica != nil {
			c.Begins, c.ReplicaVersion = true, *replica
		}
		cmd = store.Command{Kind: store.CmdPromotion, Payload: c.AppendWire(nil)}
	}
	res, err := a.cfg.Apply(ctx, cmd)
	switch {
	case err != nil:
		return err
	case res.Err != nil:
		return res.Err
	case !res.OK:
		return errChanged
	}
	return nil
}

// maintain is the leader's share of Run: it renews the intermediate at two
// thirds of its life or when the root has changed, the root likewise in the
// primary, and drops what was replaced. It returns when to look again.
func (a *Authority) maintain(ctx context.Context, rec *store.Trust) (time.Duration, error) {
	now := time.Now()
	next := longestSleep
	cert, err := x509.ParseCertificate(rec.Intermediate)
	if err != nil {
		return next, store.Errorf(store.KindInternal, "own intermediate: %w", err)
	}
	root, err := x509.ParseCertificate(rec.Roots[0].DER)
	if err != nil {
		return next, store.Errorf(store.KindInternal, "own root: %w", err)
	}
	if due := dueAt(root); rec.RootKey != nil && !a.operator.on() {
		if !now.Before(due) && rotating(rec) < maxRotations {
			if err := a.rotateRoot(ctx, rec); err != nil {
				a.metrics.failures.WithLabelValues("root").Inc()
				return next, err
			}
			return 0, nil // the record changed: Run comes again with it
		}
		next = min(next, max(due.Sub(now), 0))
	}
	due := dueAt(cert)
	if !now.Before(due) || !bytes.Equal(cert.AuthorityKeyId, root.SubjectKeyId) {
		if err := a.renewIntermediate(ctx, rec); err != nil {
			a.metrics.failures.WithLabelValues("intermediate").Inc()
			return next, err
		}
		return 0, nil
	}
	next = min(next, due.Sub(now))
	// Nothing below a replaced root was signed here after the current intermediate
	// was made.
	last := time.Unix(createdAt(cert), 0).Add(leafLife + slack)
	done := now.After(last) || a.allConfirmed(rec.Roots[0].ID)
	if !done && len(rec.Roots) > 1 {
		next = min(next, last.Sub(now)+time.Second)
	}
	if changed, wait := a.tidy(rec, done, now); changed != nil {
		return 0, a.replace(ctx, changed)
	} else if wait > 0 {
		next = min(next, wait)
	}
	return next, nil
}

// dueAt is when two thirds of a certificate's life are over.
func dueAt(c *x509.Certificate) time.Time {
	made := c.NotBefore.Add(slack)
	return made.Add(c.NotAfter.Sub(made) * 2 / 3)
}

// tidy returns the record without what is over, nil if there is no such thing, and
// when to look again. done says that all our servers have certificates below the
// current root.
func (a *Authority) tidy(rec *store.Trust, done bool, now time.Time) (*store.Trust, time.Duration) {
	next := rec.Clone()
	changed := false
	if done && len(rec.Roots) > 1 {
		// A root from before we joined is ours alone to drop.
		n := len(next.Roots)
		next.Roots = slices.DeleteFunc(next.Roots, func(r store.TrustRoot) bool { return r.Provisional })
		changed = len(next.Roots) < n
	}
	var wait time.Duration
	if rec.RootKey != nil {
		own := slices.IndexFunc(next.Datacenters, func(d store.TrustDatacenter) bool { return d.Name == a.cfg.Datacenter })
		if done && own >= 0 && rotating(rec) > 0 && next.Datacenters[own].Root != rec.Roots[0].ID {
			next.Datacenters[own].Root, changed = rec.Roots[0].ID, true
		}
		if rotating(next) > 0 && len(waitingFor(next)) == 0 {
			next.Roots, next.Alternates = dropReplaced(next.Roots), nil
			changed = true
			a.log.Info("rotation of the root is complete: the replaced root is dropped", "root", next.Roots[0].ID)
		}
		over := func(at int64, keep time.Duration) bool {
			left := time.Unix(at, 0).Add(keep).Sub(now)
			if left > 0 && (wait == 0 || left < wait) {
				wait = left + time.Second
			}
			return left <= 0
		}
		n := len(next.Revoked) + len(next.Tokens)
		next.Revoked = slices.DeleteFunc(next.Revoked, func(r store.TrustRevocation) bool {
			return r.LiftedUnix != 0 && over(r.LiftedUnix, keepLifted(&r))
		})
		next.Tokens = slices.DeleteFunc(next.Tokens, func(t store.TrustToken) bool { return over(t.ExpiresUnix, 0) })
		changed = changed || len(next.Revoked)+len(next.Tokens) < n
	}
	if !changed {
		return nil, wait
	}
	return next, 0
}

// renewIntermediate replaces the intermediate: signed here in the primary, by
// the primary elsewhere.
func (a *Authority) renewIntermediate(ctx context.Context, rec *store.Trust) error {
	next := rec.Clone()
	if rec.RootKey != nil {
		root, err := parseIssuer(rec.Roots[0].DER, rec.RootKey)
		if err != nil {
			return store.Errorf(store.KindInternal, "root: %w", err)
		}
		if err := a.newIntermediate(next, root, time.Now()); err != nil {
			return err
		}
	} else {
		key, keyDER, subject, err := nextKey(rec)
		if err != nil {
			return store.Errorf(store.KindInternal, "intermediate: %w", err)
		}
		csr, err := newCSR(key, "", a.cfg.Datacenter, a.cfg.Domain, subject)
		if err != nil {
			return store.Errorf(store.KindInternal, "intermediate: %w", err)
		}
		msg := signIntermediateRequest{csr: csr, subject: a.facts(rec, ""), renewal: true}
		var rep signIntermediateReply
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		if err := a.call(ctx, rpc.TrustSignIntermediate, rec.Primary, msg.append, rep.decode, a.SignIntermediate); err != nil {
			return store.Errorf(store.KindOf(err), "intermediate from primary datacenter %s: %w", rec.Primary, err)
		}
		next.IntermediateKey = keyDER
		if err := a.take(next, &rep.grant); err != nil {
			return err
		}
	}
	if err := a.replace(ctx, next); err != nil {
		return err
	}
	a.log.Info("intermediate certificate renewed", "primary", rec.Primary)
	return nil
}

// allConfirmed reports whether every server told this leader that its
// certificate is below root.
func (a *Authority) allConfirmed(root string) bool {
	if a.cfg.Servers == nil {
		return false
	}
	servers := a.cfg.Servers()
	a.confirmMu.Lock()
	defer a.confirmMu.Unlock()
	for _, s := range servers {
		if a.confirmed[strings.ToLower(s)] != root {
			return false
		}
	}
	return len(servers) > 0
}

// facts says of this datacenter what a decision with other needs.
func (a *Authority) facts(rec *store.Trust, other string) facts {
	f := facts{
		datacenter: a.cfg.Datacenter,
		node:       a.cfg.Node,
		clusterID:  a.cfg.State.ClusterID(),
		configured: a.configured(rec),
	}
	if rec == nil || len(rec.Roots) == 0 {
		return f
	}
	f.primary, f.root = rec.Primary, rec.Roots[0].DER
	for _, dc := range rec.Datacenters {
		if dc.Name != f.datacenter && dc.Name != other {
			f.others++
		}
	}
	return f
}

func (a *Authority) party(rec *store.Trust, other string) *party {
	return &party{facts: a.facts(rec, other), known: rec.Datacenters, promotion: rec.Promotion}
}

// take puts a grant into a copy of our record, if it is one: a root that signed
// an intermediate for our key and our datacenter only.
func (a *Authority) take(next *store.Trust, g *grant) error {
	bad := func(format string, args ...any) error {
		return store.Errorf(store.KindInvalid, "grant of a federation: "+format, args...)
	}
	if len(g.roots) == 0 || g.federationID == "" {
		return bad("not complete")
	}
	if want := a.configured(next); want != "" && want != g.primary {
		return store.Errorf(store.KindConflict, "primary_datacenter of %s is %q, the federation's is %q%s", a.cfg.Datacenter, want, g.primary, since(g.promotion))
	}
	if term(g.promotion) < TermOf(next) && next.FederationID == g.federationID {
		return bad("its primary is of term %d, and ours of term %d", term(g.promotion), TermOf(next))
	}
	if err := validDatacenter(g.primary); err != nil {
		return bad("%w", err)
	}
	now := time.Now()
	list, err := readRoots(g.federationID, g.roots, g.crosses, now)
	if err != nil {
		return bad("%w", err)
	}
	root, err := x509.ParseCertificate(list[0].DER)
	if err != nil {
		return bad("root: %w", err)
	}
	if next.FederationID == g.federationID && next.Primary == g.primary {
		// Ours already: its roots follow from those we know.
		if err := continues(next.Roots, list); err != nil {
			return bad("%w", err)
		}
	}
	inter, err := x509.ParseCertificate(g.intermediate)
	if err != nil {
		return bad("intermediate: %w", err)
	}
	if err := inter.CheckSignatureFrom(root); err != nil {
		return bad("intermediate: %w", err)
	}
	dc, domain, err := datacenterOf(inter)
	if err != nil {
		return bad("%w", err)
	}
	if dc != a.cfg.Datacenter || domain != g.federationID+trustDomainSuffix {
		return bad("intermediate is for datacenter %s of %s", dc, domain)
	}
	if _, err := parseIssuer(g.intermediate, next.IntermediateKey); err != nil {
		return bad("%w", err)
	}
	if err := nameFree(g.datacenters, a.cfg.Datacenter, a.cfg.State.ClusterID()); err != nil {
		return err
	}
	next.FederationID, next.Primary, next.Roots = g.federationID, g.primary, withProvisional(list, next.Roots, next.FederationID != g.federationID)
	next.Revoked, next.Revision, next.Pruned, next.Tokens, next.Promotion = g.revoked, g.revision, g.pruned, nil, g.promotion
	if was, err := x509.ParseCertificate(next.Intermediate); err == nil && bytes.Equal(was.RawSubjectPublicKeyInfo, inter.RawSubjectPublicKeyInfo) && bytes.Equal(was.RawSubject, inter.RawSubject) {
		keepAlternate(next, next.Intermediate)
	} else {
		next.Alternates = nil
	}
	next.Intermediate = bytes.Clone(g.intermediate)
	next.Datacenters = g.datacenters
	if next.Primary != a.cfg.Datacenter {
		next.RootKey = nil
	}
	return nil
}

// watchExpiry warns once per certificate and limit: 30, 7 and 1 days before the
// end of a root or an intermediate, and when a server's is well past the time at
// which it should have been replaced.
func (a *Authority) watchExpiry(rec *store.Trust, k *keeper, now time.Time) {
	if k.warned == nil {
		k.warned = make(map[string]time.Duration)
	}
	const day = 24 * time.Hour
	check := func(kind string, c *x509.Certificate, limits ...time.Duration) {
		a.metrics.expires.WithLabelValues(kind).Set(float64(c.NotAfter.Unix()))
		left := c.NotAfter.Sub(now)
		for _, limit := range limits {
			if left > limit {
				continue
			}
			id := kind + c.SerialNumber.Text(16)
			if w, ok := k.warned[id]; !ok || w > limit {
				k.warned[id] = limit
				a.log.Warn("certificate expires soon", "certificate", kind, "expires", c.NotAfter, "left", left.Round(time.Hour))
			}
			return
		}
	}
	if c, err := x509.ParseCertificate(rec.Roots[0].DER); err == nil {
		check("root", c, day, 7*day, 30*day)
	}
	if c, err := x509.ParseCertificate(rec.Intermediate); err == nil {
		check("intermediate", c, day, 7*day, 30*day)
	}
	switch c := a.certificate(); {
	case c == nil || c.Leaf == nil:
	case a.operator.on():
		check("server", c.Leaf, day, 7*day, 30*day)
	default:
		check("server", c.Leaf, leafLife/5)
	}
}
