package trust

import (
	"context"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
)

// A datacenter becomes the primary in the place of one that is gone by a promotion:
// one write of its own record, with a root of its own and a term that is higher than
// all before. Nobody can certify that root by the old one, whose key is gone with the
// old primary. So the promotion is signed by the datacenter's intermediate, which
// others know, and while the old root is trusted by anybody, intermediates keep their
// key and name: a certificate of the old root for them is shown beside the current one
// (Trust.Alternates), and who trusts only one of the roots finds a chain.
//
// That a member signed it proves who claims to be the primary, not that it shall be.
// What proves that is the token of the operator who asked for it, which every
// datacenter looks up in its own copy (Consent); without that, its own operators say
// so (Trust.Follow). Until then the claim is kept, told, and stops the old primary from
// writing what others would not see.

const (
	promotionLabel = "landbridge promotion 1"
	consentLabel   = "landbridge promotion consent 1"
)

// TermOf is the term that a record is of, 0 before any promotion.
func TermOf(rec *store.Trust) uint64 {
	if rec == nil || rec.Promotion == nil {
		return 0
	}
	return rec.Promotion.Term
}

// highest is the highest term that is known here, accepted or not.
func highest(rec *store.Trust) uint64 {
	t := TermOf(rec)
	if rec.Claim != nil {
		t = max(t, rec.Claim.Term)
	}
	return t
}

// Fenced returns the promotion that took the place of this datacenter and is not
// accepted here yet; nil if there is none.
func (a *Authority) Fenced() *store.Promotion {
	rec := a.cfg.State.Trust()
	if rec == nil || rec.Claim == nil || rec.Claim.Primary == a.cfg.Datacenter || (rec.Primary != a.cfg.Datacenter && rec.Claim.Former != a.cfg.Datacenter) {
		return nil
	}
	return rec.Claim
}

// fencedError refuses what only the primary does.
func (a *Authority) fencedError() error {
	p := a.Fenced()
	if p == nil {
		return nil
	}
	return FencedError(a.cfg.Datacenter, p)
}

// FencedError says that dc is not the primary any more.
func FencedError(dc string, p *store.Promotion) error {
	return store.Errorf(store.KindConflict, "datacenter %s is not the primary any more: %s was promoted in its place at %s (term %d); accept that here with landbridge federation follow %s",
		dc, p.Primary, time.Unix(p.Unix, 0).UTC().Format(time.RFC3339), p.Term, p.Primary)
}

// configured is primary_datacenter, unless a promotion has overruled it.
func (a *Authority) configured(rec *store.Trust) string {
	if rec != nil && rec.Promotion != nil {
		return rec.Primary
	}
	return a.cfg.PrimaryDatacenter
}

func consentOf(p *store.Promotion, secret string) []byte {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(consentLabel))
	m.Write(p.AppendClaim(nil))
	return m.Sum(nil)
}

func signedHash(p *store.Promotion) []byte {
	h := sha256.New()
	h.Write([]byte(promotionLabel))
	h.Write(p.AppendSigned(nil))
	return h.Sum(nil)
}

// signPromotion signs with the intermediate that rec has.
func signPromotion(rec *store.Trust, p *store.Promotion) error {
	key, err := parseKey(rec.IntermediateKey)
	if err != nil {
		return store.Errorf(store.KindInternal, "own intermediate: %w", err)
	}
	p.Chain = append([][]byte{rec.Intermediate}, crossOf(rec)...)
	p.Signature, err = ecdsa.SignASN1(rand.Reader, key, signedHash(p))
	return err
}

// verifyPromotion checks that a member of our federation made a promotion, by what is
// trusted here. It does not say that anybody shall follow it.
func verifyPromotion(rec *store.Trust, p *store.Promotion, now time.Time) error {
	bad := func(format string, args ...any) error {
		return store.Errorf(store.KindPermissionDenied, "promotion of datacenter %q: %w", printable(p.Primary), fmt.Errorf(format, args...))
	}
	if err := validDatacenter(p.Primary); err != nil {
		return bad("%w", err)
	}
	if err := validDatacenter(p.Former); err != nil {
		return bad("former primary: %w", err)
	}
	if p.FederationID != rec.FederationID || p.Term == 0 {
		return bad("it is of federation %s, term %d; ours is %s", printable(p.FederationID), p.Term, rec.FederationID)
	}
	if revocations(rec.Revoked).now("", p.Primary) {
		return bad("it was evicted")
	}
	if _, err := readRoots(p.FederationID, [][]byte{p.Root}, nil, now); err != nil {
		return bad("%w", err)
	}
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	for i := range rec.Roots {
		if c, err := x509.ParseCertificate(rec.Roots[i].DER); err == nil && !rec.Roots[i].Provisional {
			roots.AddCert(c)
		}
	}
	var list []*x509.Certificate
	for _, der := range p.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return bad("%w", err)
		}
		list = append(list, c)
		others.AddCert(c)
	}
	err := bad("none of its %d certificates is of that datacenter, below a root that is trusted here", len(list))
	for _, c := range list {
		dc, domain, derr := datacenterOf(c)
		key, ok := c.PublicKey.(*ecdsa.PublicKey)
		if derr != nil || dc != p.Primary || domain != rec.FederationID+trustDomainSuffix || !ok || createdAt(c) < lifted(rec, dc) {
			continue
		}
		// It may be read long after it was made.
		at := earlier(now, c.NotAfter)
		if _, verr := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: others, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); verr != nil {
			err = bad("%w", explain(verr))
			continue
		}
		if !ecdsa.VerifyASN1(key, signedHash(p), p.Signature) {
			err = bad("its signature is not good")
			continue
		}
		return nil
	}
	return err
}

// Promotion is what a promotion did, for operators.
type Promotion struct {
	Primary, Former string
	Term            uint64
	At              time.Time
	Root            string // id
	Accessor        string `json:",omitempty"` // of the token that asked for it
	Accepted        bool   // here
}

func shownPromotion(p *store.Promotion, accepted bool) *Promotion {
	if p == nil {
		return nil
	}
	return &Promotion{p.Primary, p.Former, p.Term, time.Unix(p.Unix, 0).UTC(), fingerprint(p.Root), p.Accessor, accepted}
}

// mayChangePrimary is the right that changes of the primary need beyond the method's,
// operator:write.
func mayChangePrimary(req *rpc.Request) error {
	if req.Bearer != nil && !req.Bearer.May(acl.ACL, "", acl.Write) {
		return store.Errorf(store.KindPermissionDenied, "Permission denied: token with AccessorID '%s' lacks permission 'acl:write'", req.Bearer.AccessorID)
	}
	return nil
}

// PrimaryAnswers asks the leader of the primary for a sign of life, nil if it gives
// one.
func (a *Authority) PrimaryAnswers(ctx context.Context, dc string) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, err := a.cfg.Call.Do(ctx, &rpc.Request{Method: rpc.TrustSync, Datacenter: dc, SourceDC: a.cfg.Datacenter, NoHold: true})
	return err
}

// Promotable says why this datacenter cannot be promoted, whatever its primary does.
func (a *Authority) Promotable(rec *store.Trust) error {
	switch {
	case rec.Primary == "":
		return store.Errorf(store.KindConflict, "datacenter %s is not part of a federation: there is no primary to take the place of", a.cfg.Datacenter)
	case rec.Primary == a.cfg.Datacenter && a.Fenced() == nil && a.rival.Load() == nil:
		return store.Errorf(store.KindConflict, "datacenter %s is the primary already", a.cfg.Datacenter)
	}
	return nil
}

// PromoteHandler answers Trust.Promote on the leader: its datacenter becomes the
// primary, in one write.
func (a *Authority) PromoteHandler(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := mayChangePrimary(req); err != nil {
		return nil, err
	}
	var m promoteRequest
	if err := m.decode(req.Body); err != nil {
		return nil, invalid(err)
	}
	rec, err := a.lead()
	if err != nil {
		return nil, err
	}
	if err := a.Promotable(rec); err != nil {
		return nil, err
	}
	former := rec.Primary
	if rival := a.rival.Load(); former != a.cfg.Datacenter {
	} else if rec.Claim != nil {
		former = rec.Claim.Primary
	} else if rival != nil {
		former = rival.primary
	}
	if !m.force {
		if err := a.PrimaryAnswers(ctx, former); err == nil {
			return nil, store.Errorf(store.KindConflict,
				"datacenter %s answers: with two primaries, what %s writes from now on is seen by nobody else until somebody brings it over by hand (landbridge federation unseen); stop it first, or say -force", former, former)
		}
	}
	for range attempts {
		if rec, err = a.lead(); err != nil {
			return nil, err
		}
		p, err := a.promote(ctx, rec, former, req)
		if store.KindOf(err) == store.KindConflict && isChanged(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		a.wake()
		body, err := json.Marshal(shownPromotion(p, true))
		return &rpc.Response{KnownLeader: true, Body: body}, err
	}
	return nil, errChanged
}

// promote writes the record with which we are the primary.
func (a *Authority) promote(ctx context.Context, rec *store.Trust, former string, req *rpc.Request) (*store.Promotion, error) {
	replica := a.cfg.State.ACLReplica()
	cluster := a.cfg.State.Cluster()
	now := time.Now()
	p := &store.Promotion{
		Term: highest(rec) + 1, FederationID: rec.FederationID, Primary: a.cfg.Datacenter, Former: former, Unix: now.Unix(),
		Cluster: cluster.ID, History: cluster.HistoryID, Base: a.cfg.State.Index(),
	}
	if replica.Datacenter == former {
		p.SourceCluster, p.SourceHistory, p.SourcePosition = replica.ClusterID, replica.HistoryID, replica.Position
	}
	next := rec.Clone()
	next.Primary, next.Promotion, next.Claim, next.Tokens = a.cfg.Datacenter, p, nil, nil
	if rec.RootKey != nil {
		p.Root = rec.Roots[0].DER // ours still: we were the primary of before
	} else {
		der, key, err := newRoot(now, rec.FederationID+trustDomainSuffix)
		if err != nil {
			return nil, store.Errorf(store.KindInternal, "new root: %w", err)
		}
		root, err := parseIssuer(der, key)
		if err != nil {
			return nil, store.Errorf(store.KindInternal, "new root: %w", err)
		}
		p.Root, next.RootKey = der, key
		next.Roots = []store.TrustRoot{newTrustRoot(root.cert, rec.FederationID, true)}
		for _, r := range rec.Roots {
			r.Active = false
			// Each root makes the chains longer that servers show.
			if r.Provisional || rotating(next) < maxRotations {
				next.Roots = append(next.Roots, r)
			} else {
				a.log.Warn("an older root is trusted no longer", "root", r.ID)
			}
		}
		if err := a.newIntermediate(next, root, now); err != nil {
			return nil, err
		}
		a.metrics.issued.WithLabelValues("root").Inc()
	}
	for i := range next.Datacenters {
		next.Datacenters[i].Root = "" // each has to tell us
	}
	if req.Bearer != nil && req.Token != "" {
		p.Accessor, p.Consent = req.Bearer.AccessorID, consentOf(p, req.Token)
	}
	if err := signPromotion(rec, p); err != nil {
		return nil, err
	}
	if err := a.propose(ctx, next, &replica.Version); err != nil {
		return nil, err
	}
	a.log.Warn("this datacenter was promoted: it is the primary from now on", "term", p.Term, "former", former, "root", fingerprint(p.Root), "accessor", p.Accessor)
	return p, nil
}

// PromotionHandler answers Trust.Promotion on any server: the promotion with the
// highest term that is known here.
func (a *Authority) PromotionHandler(context.Context, *rpc.Request) (*rpc.Response, error) {
	rec := a.cfg.State.Trust()
	if rec == nil || highest(rec) == 0 {
		return nil, store.Errorf(store.KindNotFound, "datacenter %s knows of no promotion", a.cfg.Datacenter)
	}
	p := rec.Promotion
	if p == nil || rec.Claim != nil && rec.Claim.Term > p.Term {
		p = rec.Claim
	}
	return &rpc.Response{KnownLeader: true, Body: p.AppendWire(nil)}, nil
}

// uncrossed is whether a root that is still trusted did not certify the one that
// followed it: then chains below both are shown.
func uncrossed(rec *store.Trust) bool {
	var last *store.TrustRoot
	for i := range rec.Roots {
		if rec.Roots[i].Provisional {
			continue
		}
		if last != nil && last.Cross == nil {
			return true
		}
		last = &rec.Roots[i]
	}
	return false
}

// keepAlternate keeps a certificate of the intermediate's key that was replaced, as
// long as somebody may trust only the root it is below.
func keepAlternate(next *store.Trust, old []byte) {
	if !uncrossed(next) {
		next.Alternates = nil
		return
	}
	if len(old) == 0 || slices.ContainsFunc(next.Alternates, func(c []byte) bool { return string(c) == string(old) }) {
		return
	}
	next.Alternates = append([][]byte{old}, next.Alternates...)
	next.Alternates = next.Alternates[:min(len(next.Alternates), maxRotations)]
}
