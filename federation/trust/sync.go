package trust

import (
	"bytes"
	"context"
	"crypto/x509"
	"slices"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// What all datacenters share (roots, revocations, who is a member) is changed in
// the primary, which numbers its versions. Its servers announce the number in the
// WAN pool; a datacenter whose copy is older asks for the new version at once, and
// every pullEvery in any case. So evictions travel with gossip's speed, and a
// datacenter that was away catches up when it hears of anybody again.
const (
	pullEvery = time.Hour
	pullPause = time.Second
	// askLeaderAfter is how long a follower that hears of a newer version leaves
	// it to its leader to have heard of it too.
	askLeaderAfter = 2 * time.Second
)

// Revision is the version of the shared record here, to be announced: by servers
// of the primary only, 0 elsewhere.
func (a *Authority) Revision() uint64 {
	rec := a.cfg.State.Trust()
	if rec == nil || rec.RootKey == nil {
		return 0
	}
	return rec.Revision
}

// Announced says that a server of the datacenter has that version of the shared
// record. It is hearsay: all it can do is to make us ask.
func (a *Authority) Announced(dc string, revision uint64) {
	rec := a.cfg.State.Trust()
	if rec == nil || rec.RootKey != nil || dc != rec.Primary || revision <= rec.Revision {
		return
	}
	for old := a.announced.Load(); revision > old; old = a.announced.Load() {
		if a.announced.CompareAndSwap(old, revision) {
			a.wake()
			return
		}
	}
}

// keepUp follows the primary's record in another datacenter, and returns when to
// look again.
func (a *Authority) keepUp(ctx context.Context, rec *store.Trust, k *keeper, now time.Time) (time.Duration, error) {
	if rec.RootKey != nil || rec.Primary == "" || rec.Primary == a.cfg.Datacenter {
		return longestSleep, nil
	}
	behind := a.announced.Load() > rec.Revision
	if !a.cfg.IsLeader() {
		if !behind {
			k.behindSince = time.Time{}
			return longestSleep, nil
		}
		return a.askLeader(ctx, &k.behindSince, now, func(b []byte) []byte { return b })
	}
	every := pullEvery
	if behind {
		every = pullPause
	}
	if wait := every - now.Sub(k.pulledAt); wait > 0 && !k.pulledAt.IsZero() {
		if err := a.report(ctx, rec, k, now); err != nil {
			return wait, err
		}
		return wait, nil
	}
	k.pulledAt = now
	if err := a.pull(ctx); err != nil {
		k.pulledAt = now.Add(pullPause - pullEvery) // backoff decides
		return pullPause, err
	}
	return pullPause, nil
}

// askLeader has the leader pull, with what msg says was heard, unless it heard of it
// by itself within askLeaderAfter of since: it may not take part in the WAN.
func (a *Authority) askLeader(ctx context.Context, since *time.Time, now time.Time, msg func([]byte) []byte) (time.Duration, error) {
	if since.IsZero() {
		*since = now
	}
	if wait := askLeaderAfter - now.Sub(*since); wait > 0 {
		return wait, nil
	}
	*since = now
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return askLeaderAfter, a.call(ctx, rpc.TrustPull, "", msg, func([]byte) error { return nil }, a.PullHandler)
}

// PullHandler answers Trust.Pull on the leader.
func (a *Authority) PullHandler(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if !a.cfg.IsLeader() {
		return nil, store.ErrNoLeader
	}
	if len(req.Body) > 0 {
		var m pullRequest
		if err := m.decode(req.Body); err != nil {
			return nil, invalid(err)
		}
		a.AnnouncedTerm(m.datacenter, m.term, m.primary)
		return &rpc.Response{KnownLeader: true}, nil
	}
	return &rpc.Response{KnownLeader: true}, a.pull(ctx)
}

// pull takes over the primary's version.
func (a *Authority) pull(ctx context.Context) error {
	a.pullMu.Lock()
	defer a.pullMu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	rec, err := a.lead()
	if err != nil {
		return err
	}
	if rec.RootKey != nil || rec.Primary == "" {
		return nil
	}
	read := store.Default
	g, err := a.askShared(ctx, rec.Primary, read)
	if store.KindOf(err) == store.KindNoLeader {
		read = store.Stale // the last it knew is better than nothing
		g, err = a.askShared(ctx, rec.Primary, read)
	}
	if err != nil {
		return err
	}
	if read == store.Default {
		// What was announced beyond this was a lie, or of a past that was undone.
		a.announced.Store(g.revision)
	}
	if t := term(g.promotion); t > highest(rec) {
		a.AnnouncedTerm(rec.Primary, t, g.primary)
		return nil
	}
	next, err := follows(rec, g, time.Now())
	if err != nil || next == nil {
		return err
	}
	if err := a.replace(ctx, next); err != nil {
		return err
	}
	a.log.Info("the federation's trust record is up to date", "revision", next.Revision, "roots", len(next.Roots), "revoked", len(next.Revoked))
	return nil
}

// askShared asks a datacenter for what all share, through another server of ours if it
// does not answer this one: that it evicted this one is among what all share.
func (a *Authority) askShared(ctx context.Context, dc string, read store.Consistency) (*grant, error) {
	req := &rpc.Request{Method: rpc.TrustSync, Datacenter: dc, SourceDC: a.cfg.Datacenter, NoHold: true, Consistency: read}
	own, cancel := context.WithTimeout(ctx, callTime/2)
	resp, err := a.cfg.Call.Do(own, req)
	cancel()
	for _, node := range a.others(a.cfg.State.Trust()) {
		if kind := store.KindOf(err); err == nil || kind != store.KindUnreachable && kind != store.KindTimeout {
			break
		}
		if by, e := a.cfg.Ask(ctx, node, req); e == nil {
			resp, err = by, nil
		}
	}
	if err != nil {
		return nil, err
	}
	g := new(grant)
	if err := g.DecodeWire(resp.Body); err != nil {
		return nil, invalid(err)
	}
	return g, nil
}

// follows returns the record with the primary's version, nil if that is the one it
// has.
func follows(rec *store.Trust, g *grant, now time.Time) (*store.Trust, error) {
	if g.federationID != rec.FederationID || g.primary != rec.Primary {
		return nil, store.Errorf(store.KindConflict, "datacenter %s is of federation %s (primary %s), this one of %s", rec.Primary, g.federationID, g.primary, rec.FederationID)
	}
	if t := term(g.promotion); t != TermOf(rec) {
		return nil, store.Errorf(store.KindConflict, "datacenter %s is the primary of term %d, ours is of term %d", g.primary, t, TermOf(rec))
	}
	if now := shared(rec); now.revision == g.revision && bytes.Equal(now.AppendWire(nil), g.AppendWire(nil)) {
		return nil, nil // as nearly always
	}
	list, err := readRoots(g.federationID, g.roots, g.crosses, now)
	if err == nil {
		err = continues(rec.Roots, list)
	}
	if err != nil {
		return nil, store.Errorf(store.KindPermissionDenied, "roots from primary datacenter %s: %w", rec.Primary, err)
	}
	next := rec.Clone()
	next.Roots = withProvisional(list, rec.Roots, false)
	next.Revoked, next.Datacenters, next.Revision, next.Pruned = g.revoked, g.datacenters, g.revision, g.pruned
	if !uncrossed(next) {
		next.Alternates = nil
	}
	if sharedEqual(rec, next) && rec.Revision == next.Revision {
		return nil, nil
	}
	return next, nil
}

// shared is what a datacenter is told: of us, without an intermediate.
func shared(rec *store.Trust) *grant {
	g := &grant{federationID: rec.FederationID, primary: rec.Primary, datacenters: rec.Datacenters, revoked: rec.Revoked, revision: rec.Revision, pruned: rec.Pruned, promotion: rec.Promotion}
	for i := range rec.Roots {
		if r := &rec.Roots[i]; !r.Provisional {
			g.roots = append(g.roots, r.DER)
			if r.Cross != nil {
				g.crosses = append(g.crosses, r.Cross)
			}
		}
	}
	return g
}

// SyncHandler answers Trust.Sync in the primary.
func (a *Authority) SyncHandler(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	rec := a.cfg.State.Trust()
	if rec == nil || len(rec.Roots) == 0 {
		return nil, store.ErrNoLeader
	}
	if rec.RootKey == nil {
		return nil, store.Errorf(store.KindConflict, "datacenter %s is not the primary, %s is", a.cfg.Datacenter, rec.Primary)
	}
	return &rpc.Response{Index: rec.ModifyIndex, KnownLeader: true, Effective: req.Consistency, Body: shared(rec).AppendWire(nil)}, nil
}

// report tells the primary, while a root is being replaced, that all our servers
// have certificates below the current one.
func (a *Authority) report(ctx context.Context, rec *store.Trust, k *keeper, now time.Time) error {
	root := rec.Roots[0].ID
	if rotating(rec) == 0 || k.reported == root || a.operator.on() {
		return nil
	}
	inter, err := x509.ParseCertificate(rec.Intermediate)
	if err != nil {
		return store.Errorf(store.KindInternal, "own intermediate: %w", err)
	}
	current, err := x509.ParseCertificate(rec.Roots[0].DER)
	if err != nil || inter.CheckSignatureFrom(current) != nil {
		return nil // maintain is about to change that
	}
	if !a.allConfirmed(root) && !now.After(time.Unix(createdAt(inter), 0).Add(leafLife+slack)) {
		return nil // noteConfirmed wakes us
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	msg := confirmRequest{datacenter: a.cfg.Datacenter, root: root}
	none := func([]byte) error { return nil }
	if err := a.call(ctx, rpc.TrustConfirm, rec.Primary, msg.append, none, a.ConfirmHandler); err != nil {
		return err
	}
	k.reported = root
	return nil
}

// ConfirmHandler answers Trust.Confirm on the leader of the primary.
func (a *Authority) ConfirmHandler(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var m confirmRequest
	if err := m.decode(req.Body); err != nil {
		return nil, invalid(err)
	}
	if dc, ok := a.caller(req); !ok || dc != m.datacenter {
		return nil, store.Errorf(store.KindPermissionDenied, "datacenter %s cannot speak for datacenter %s", dc, m.datacenter)
	}
	for range attempts {
		rec, err := a.lead()
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(rec.Datacenters, func(d store.TrustDatacenter) bool { return d.Name == m.datacenter })
		if rec.RootKey == nil || i < 0 || m.root != rec.Roots[0].ID {
			return nil, store.Errorf(store.KindConflict, "root %s is not the current one of datacenter %s", m.root, m.datacenter)
		}
		if rec.Datacenters[i].Root == m.root {
			return &rpc.Response{KnownLeader: true}, nil
		}
		next := rec.Clone()
		next.Datacenters[i].Root = m.root
		err = a.replace(ctx, next)
		if store.KindOf(err) == store.KindConflict {
			continue
		}
		return &rpc.Response{KnownLeader: true}, err
	}
	return nil, errChanged
}
