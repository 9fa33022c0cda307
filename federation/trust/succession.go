package trust

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// heardTerm is what gossip says of promotions: hearsay, which makes us ask.
type heardTerm struct {
	term    uint64
	dc      string // whose server says so
	primary string
	also    []string // others that say so: not all of them may be reached
}

// maxHeard bounds who is asked about one promotion.
const maxHeard = 16

const (
	// claimEvery is how often a claim that is not accepted is looked at again: the
	// token that asked for it may be known here meanwhile.
	claimEvery = 30 * time.Second
	// complainEvery is how often what only an operator can settle is logged.
	complainEvery = time.Hour
)

// Term is what servers announce of promotions: the term that is in force here and who
// the primary is since then; 0 before any.
func (a *Authority) Term() (term uint64, primary string) {
	rec := a.cfg.State.Trust()
	if t := TermOf(rec); t > 0 {
		return t, rec.Primary
	}
	return 0, ""
}

// AnnouncedTerm says that a server of the datacenter has the record of that term.
func (a *Authority) AnnouncedTerm(dc string, term uint64, primary string) {
	rec := a.cfg.State.Trust()
	if rec == nil || term == 0 || dc == a.cfg.Datacenter {
		return
	}
	if own := TermOf(rec); term == own && primary != rec.Primary {
		a.rival.Store(&heardTerm{term: term, dc: dc, primary: primary})
		a.wake()
		return
	}
	if term <= highest(rec) {
		return
	}
	next := &heardTerm{term: term, dc: dc, primary: primary}
	if old := a.heard.Load(); old != nil && old.term > term {
		return
	} else if old != nil && old.term == term {
		if old.dc == dc || slices.Contains(old.also, dc) || len(old.also) >= maxHeard {
			return
		}
		*next = *old
		next.also = append(slices.Clone(old.also), dc)
	}
	a.heard.Store(next) // of two at once the other one comes again
	a.wake()
}

// succession takes note of promotions, and follows those that are accepted here. It
// returns when to look again.
func (a *Authority) succession(ctx context.Context, rec *store.Trust, k *keeper, now time.Time) (time.Duration, error) {
	if h := a.heard.Load(); h != nil {
		if h.term <= highest(rec) {
			a.heard.CompareAndSwap(h, nil)
		} else if !a.cfg.IsLeader() {
			msg := pullRequest{h.dc, h.term, h.primary}
			return a.askLeader(ctx, &k.heardSince, now, msg.append)
		} else if err := a.takeNote(ctx, rec, h); err != nil {
			return claimEvery, err
		} else {
			return 0, nil
		}
	}
	a.complain(rec, k, now)
	c := rec.Claim
	if c == nil || !a.cfg.IsLeader() {
		return longestSleep, nil
	}
	if wait := claimEvery - now.Sub(k.claimAt); k.claimed == c && wait > 0 {
		return wait, nil
	}
	k.claimed, k.claimAt = c, now
	if err := a.consents(ctx, c); err != nil {
		a.log.Error("a datacenter claims to be the primary, and that is not accepted here before an operator says so",
			"claims", c.Primary, "term", c.Term, "since", time.Unix(c.Unix, 0).UTC(), "reason", err, "command", "landbridge federation follow "+c.Primary)
		return claimEvery, nil
	}
	if err := a.succeed(ctx, rec, c); err != nil {
		return claimEvery, err
	}
	return 0, nil
}

// takeNote gets a promotion that was heard of and keeps it as a claim, which fences the
// datacenter whose place was taken.
func (a *Authority) takeNote(ctx context.Context, rec *store.Trust, h *heardTerm) error {
	var p *store.Promotion
	var err error
	for _, dc := range append([]string{h.dc}, h.also...) {
		if p, err = a.askPromotion(ctx, dc); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	if p.Term <= highest(rec) {
		a.heard.CompareAndSwap(h, nil) // a lie, or of a past that was undone
		return store.Errorf(store.KindConflict, "datacenter %s announces term %d and has term %d", h.dc, h.term, p.Term)
	}
	if err := verifyPromotion(rec, p, time.Now()); err != nil {
		a.heard.CompareAndSwap(h, nil) // until somebody says so again
		return err
	}
	next := rec.Clone()
	next.Claim = p
	if err := a.replace(ctx, next); err != nil {
		return err
	}
	a.log.Warn("another datacenter was promoted to be the primary", "primary", p.Primary, "former", p.Former, "term", p.Term, "heard_from", h.dc)
	return nil
}

func (a *Authority) askPromotion(ctx context.Context, dc string) (*store.Promotion, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	resp, err := a.cfg.Call.Do(ctx, &rpc.Request{Method: rpc.TrustPromotion, Datacenter: dc, SourceDC: a.cfg.Datacenter, NoHold: true})
	if err != nil {
		return nil, err
	}
	p := new(store.Promotion)
	return p, p.DecodeWire(resp.Body)
}

// consents is nil if who asked for a promotion may do so by what is known here.
func (a *Authority) consents(ctx context.Context, p *store.Promotion) error {
	if a.cfg.Consents == nil {
		return nil // no rights are checked here at all
	}
	if p.Accessor == "" {
		return fmt.Errorf("it was asked for without a token")
	}
	return a.cfg.Consents(ctx, p.Accessor, func(secret string) bool { return hmac.Equal(p.Consent, consentOf(p, secret)) })
}

// succeed takes over the record of the promoted datacenter. All that is lost is the key
// of a root of ours, which is replaced.
func (a *Authority) succeed(ctx context.Context, rec *store.Trust, p *store.Promotion) error {
	if p.Primary == a.cfg.Datacenter {
		return store.Errorf(store.KindConflict, "the promotion of our own datacenter %s is not in its record", p.Primary)
	}
	g, err := a.askShared(ctx, p.Primary, store.Default)
	if err != nil {
		return err
	}
	if g.federationID != rec.FederationID || g.primary != p.Primary || g.promotion == nil || g.promotion.Term != p.Term || string(g.promotion.Signature) != string(p.Signature) {
		return store.Errorf(store.KindConflict, "the record of datacenter %s is not that of its promotion in term %d", p.Primary, p.Term)
	}
	now := time.Now()
	list, err := readRoots(g.federationID, g.roots, g.crosses, now)
	if err != nil {
		return store.Errorf(store.KindPermissionDenied, "roots from datacenter %s: %w", p.Primary, err)
	}
	// Those that followed the promotion's by certificates of it.
	have := append([]store.TrustRoot{{ID: fingerprint(p.Root), DER: p.Root}}, rec.Roots...)
	if err := continues(have, list); err != nil {
		return store.Errorf(store.KindPermissionDenied, "roots from datacenter %s: %w", p.Primary, err)
	}
	next := rec.Clone()
	next.Primary, next.Promotion, next.Claim, next.RootKey, next.Tokens = p.Primary, g.promotion, nil, nil, nil
	next.Roots = withProvisional(list, rec.Roots, false)
	next.Revoked, next.Datacenters, next.Revision, next.Pruned = g.revoked, g.datacenters, g.revision, g.pruned
	if !uncrossed(next) {
		next.Alternates = nil
	}
	if err := a.replace(ctx, next); err != nil {
		return err
	}
	a.announced.Store(g.revision)
	a.log.Warn("the primary datacenter is another one from now on", "primary", p.Primary, "former", p.Former, "term", p.Term)
	a.wake()
	return nil
}

// FollowHandler answers Trust.Follow on the leader: an operator of this datacenter
// accepts the promotion of another one.
func (a *Authority) FollowHandler(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := mayChangePrimary(req); err != nil {
		return nil, err
	}
	var m followRequest
	if err := m.decode(req.Body); err != nil {
		return nil, invalid(err)
	}
	if err := validDatacenter(m.datacenter); err != nil {
		return nil, err
	}
	rec, err := a.lead()
	if err != nil {
		return nil, err
	}
	if TermOf(rec) > 0 && rec.Primary == m.datacenter {
		body, err := json.Marshal(shownPromotion(rec.Promotion, true))
		return &rpc.Response{KnownLeader: true, Body: body}, err
	}
	p := rec.Claim
	if p == nil || p.Primary != m.datacenter {
		if p, err = a.askPromotion(ctx, m.datacenter); err != nil {
			return nil, err
		}
		switch {
		case p.Primary != m.datacenter:
			return nil, store.Errorf(store.KindConflict, "datacenter %s was not promoted, %s was: landbridge federation follow %s", m.datacenter, p.Primary, p.Primary)
		case p.Term <= TermOf(rec):
			return nil, store.Errorf(store.KindConflict, "datacenter %s was promoted in term %d, and %s in term %d: a lower term is never followed (landbridge federation promote in %s makes a higher one)", m.datacenter, p.Term, rec.Primary, TermOf(rec), m.datacenter)
		}
	}
	if err := verifyPromotion(rec, p, time.Now()); err != nil {
		return nil, err
	}
	if err := a.succeed(ctx, rec, p); err != nil {
		return nil, err
	}
	body, err := json.Marshal(shownPromotion(p, true))
	return &rpc.Response{KnownLeader: true, Body: body}, err
}

// complain says, now and then, what only an operator can settle.
func (a *Authority) complain(rec *store.Trust, k *keeper, now time.Time) {
	differs := rec.Promotion != nil && a.cfg.PrimaryDatacenter != "" && a.cfg.PrimaryDatacenter != rec.Primary
	rival := a.rival.Load()
	if rival != nil && rival.term != TermOf(rec) {
		if rival.term != TermOf(a.cfg.State.Trust()) { // else rec is of before
			a.rival.CompareAndSwap(rival, nil)
		}
		rival = nil
	}
	a.metrics.term.Set(float64(TermOf(rec)))
	a.metrics.configured.Set(number(differs))
	a.metrics.claim.Set(number(rec.Claim != nil))
	a.metrics.rival.Set(number(rival != nil))
	if !k.complainedAt.IsZero() && now.Sub(k.complainedAt) < complainEvery {
		return
	}
	if differs {
		k.complainedAt = now
		p := rec.Promotion
		a.log.Warn("the configuration names a primary datacenter that is not it any more: the recorded promotion holds, change the configuration",
			"key", "primary_datacenter", "value", a.cfg.PrimaryDatacenter, "primary", rec.Primary, "since", time.Unix(p.Unix, 0).UTC(), "term", p.Term)
	}
	if rival != nil {
		k.complainedAt = now
		a.log.Error("two datacenters were promoted in the same term: promote the one that shall be the primary once more (landbridge federation promote -force)",
			"term", rival.term, "primary", rec.Primary, "rival", rival.primary, "heard_from", rival.dc)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
