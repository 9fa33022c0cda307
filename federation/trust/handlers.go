package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// SignServer answers Trust.SignServer on the leader: it signs a certificate for
// a server of this datacenter, or notes that one is in use.
func (a *Authority) SignServer(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var m signServerRequest
	if err := m.decode(req.Body); err != nil {
		return nil, invalid(err)
	}
	if req.Origin == rpc.FromWAN {
		return nil, store.Errorf(store.KindPermissionDenied, "datacenter %s signs for its own servers only", a.cfg.Datacenter)
	}
	rec, err := a.lead()
	if err != nil {
		return nil, err
	}
	if len(m.csr) == 0 {
		a.noteConfirmed(m.node, m.root)
		return answer((&signServerReply{}).append), nil
	}
	csr, err := readCSR(m.csr, a.cfg.Datacenter)
	if err != nil {
		return nil, invalid(err)
	}
	if csr.node == "" || csr.domain != a.cfg.Domain {
		return nil, store.Errorf(store.KindInvalid, "certificate request of server %q for domain %q, ours is %q", csr.node, csr.domain, a.cfg.Domain)
	}
	if !a.knows(csr.node) {
		return nil, store.Errorf(store.KindPermissionDenied, "%s is not known as a server of datacenter %s", csr.node, a.cfg.Datacenter)
	}
	if revocations(rec.Revoked).now(csr.node, a.cfg.Datacenter) {
		return nil, store.Errorf(store.KindPermissionDenied, "%s.%s was evicted from the federation; undo: landbridge wan evict -undo %s.%s", csr.node, a.cfg.Datacenter, csr.node, a.cfg.Datacenter)
	}
	if a.cfg.Ask != nil && !strings.EqualFold(csr.node, a.cfg.Node) {
		// A server has one certificate holder: the one that gossip knows by that name.
		holder := &rpc.Request{Method: rpc.TrustHolder, Body: (&holderRequest{keyHash: keyHash(csr.pub)}).append(nil)}
		if _, err := a.cfg.Ask(ctx, csr.node, holder); err != nil {
			return nil, store.Errorf(store.KindPermissionDenied, "certificate for %s: the server of that name did not ask for it: %w", csr.node, err)
		}
	}
	by, err := parseIssuer(rec.Intermediate, rec.IntermediateKey)
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "own intermediate: %w", err)
	}
	leaf, err := signLeaf(notBefore(renewedAt(rec, csr.node, a.cfg.Datacenter)), by, csr.pub, csr.node, a.cfg.Datacenter, a.cfg.Domain)
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "sign for %s: %w", csr.node, err)
	}
	a.metrics.issued.WithLabelValues("server").Inc()
	a.log.Info("server certificate issued", "node", csr.node, "peer", req.Peer)
	return answer((&signServerReply{leaf: leaf, intermediate: rec.Intermediate}).append), nil
}

// HolderHandler answers Trust.Holder on the server that is asked: whether it is
// this one that wants a certificate for a key.
func (a *Authority) HolderHandler(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	var m holderRequest
	if err := m.decode(req.Body); err != nil {
		return nil, invalid(err)
	}
	if asked := a.requested.Load(); asked == nil || *asked != m.keyHash {
		return nil, store.Errorf(store.KindPermissionDenied, "%s asked for no such certificate: does another server use its name?", a.self())
	}
	return &rpc.Response{}, nil
}

// knows reports whether node is a server of this datacenter, as far as that can
// be told.
func (a *Authority) knows(node string) bool {
	if a.cfg.Servers == nil || strings.EqualFold(node, a.cfg.Node) {
		return true
	}
	return slices.ContainsFunc(a.cfg.Servers(), func(s string) bool { return strings.EqualFold(s, node) })
}

// noteConfirmed remembers what a server reported; names nobody knows are not
// kept.
func (a *Authority) noteConfirmed(node, root string) {
	if len(root) > 64 || !a.knows(node) {
		return
	}
	a.confirmMu.Lock()
	defer a.confirmMu.Unlock()
	key := strings.ToLower(node)
	if a.cfg.Servers == nil || a.confirmed[key] == root {
		return
	}
	a.confirmed[key] = root
	a.wake()
}

// SignIntermediate answers Trust.SignIntermediate on the leader of the primary
// datacenter: a renewal for a member, or the enrolment of a datacenter for which
// a member vouches.
func (a *Authority) SignIntermediate(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var m signIntermediateRequest
	if err := m.decode(req.Body); err != nil {
		return nil, invalid(err)
	}
	from, ok := a.caller(req)
	if !ok {
		return nil, store.Errorf(store.KindPermissionDenied, "certificate request from an unnamed server")
	}
	if m.renewal && from != m.subject.datacenter {
		return nil, store.Errorf(store.KindPermissionDenied, "datacenter %s cannot renew the certificate of datacenter %s", from, m.subject.datacenter)
	}
	out, g, err := a.grantTo(ctx, &m, from)
	if err != nil {
		return nil, err
	}
	rep := signIntermediateReply{outcome: out}
	if g != nil {
		rep.grant = *g
	}
	return answer(rep.append), nil
}

// caller is the datacenter that a request comes from. What another server of ours
// passes on says so itself: CheckSource held it against the certificate there.
func (a *Authority) caller(req *rpc.Request) (dc string, ok bool) {
	switch {
	case req.Origin == rpc.FromWAN:
		_, dc, ok = splitPeer(req.Peer)
		return dc, ok
	case req.Origin == rpc.FromLAN && req.SourceDC != "":
		return req.SourceDC, true
	}
	return a.cfg.Datacenter, true
}

// CheckSource refuses what a server of another datacenter says in the name of a
// third one. Servers ask it about all that comes in over the WAN, before it is
// passed on to a leader, who sees only who passed it on.
func CheckSource(req *rpc.Request) error {
	if req.Method != rpc.TrustSignIntermediate && req.Method != rpc.TrustConfirm {
		return nil
	}
	if _, dc, ok := splitPeer(req.Peer); !ok || dc != req.SourceDC {
		return store.Errorf(store.KindPermissionDenied, "%s cannot speak for datacenter %q", req.Peer, req.SourceDC)
	}
	return nil
}

// grantTo decides anew, on the leader and by its own record, and then signs the
// subject's intermediate and enters it into the list of datacenters.
func (a *Authority) grantTo(ctx context.Context, m *signIntermediateRequest, from string) (outcome, *grant, error) {
	dc := m.subject.datacenter
	csr, err := readCSR(m.csr, dc)
	if err != nil {
		return 0, nil, invalid(err)
	}
	for range attempts {
		rec, err := a.lead()
		if err != nil {
			return 0, nil, err
		}
		if revocations(rec.Revoked).now("", dc) {
			return 0, nil, store.Errorf(store.KindPermissionDenied, "datacenter %s was evicted from this federation; undo: landbridge wan evict -undo -whole-datacenter %s", dc, dc)
		}
		if m.renewal {
			if !slices.ContainsFunc(rec.Datacenters, func(d store.TrustDatacenter) bool { return d.Name == dc && d.ClusterID == m.subject.clusterID }) {
				return 0, nil, store.Errorf(store.KindPermissionDenied, "datacenter %s is not a member of this federation", dc)
			}
		} else if err := a.fencedError(); err != nil {
			return 0, nil, err
		} else {
			v, err := decide(a.party(rec, dc), &party{facts: m.subject}, !m.dialed, a.outgoing.Load() > 0)
			switch {
			case err != nil:
				return 0, nil, err
			case v == same:
				return outcomeSame, nil, nil
			case v == remoteWins:
				return outcomeReverse, nil, nil
			}
		}
		if rec.RootKey == nil {
			return 0, nil, store.Errorf(store.KindConflict, "datacenter %s does not hold the federation's root, primary datacenter %q does", a.cfg.Datacenter, rec.Primary)
		}
		next := rec.Clone()
		hash := keyHash(csr.pub)
		changed := false
		if m.token != "" {
			t, err := usable(next, m.token, dc, hash, time.Now())
			if err != nil {
				return 0, nil, err
			}
			changed = t.UsedBy == ""
			t.UsedBy, t.UsedKey = dc, hash
		}
		for _, d := range rec.Datacenters {
			// Who vouches for a member known already may repeat a grant, not get one
			// for a key of its own.
			if d.Name == dc && d.KeyHash != "" && d.KeyHash != hash && !m.renewal {
				return 0, nil, store.Errorf(store.KindPermissionDenied, "datacenter %s is a member of this federation with another key", dc)
			}
		}
		entry := store.TrustDatacenter{Name: dc, ClusterID: m.subject.clusterID, KeyHash: hash}
		for _, d := range rec.Datacenters {
			if d.Name == dc {
				entry.Root = d.Root
			}
		}
		if rotating(rec) == 0 {
			entry.Root = "" // of no meaning before there is a rotation
		}
		changed = setDatacenter(next, entry) || changed
		if next.Primary == "" {
			next.Primary, changed = a.cfg.Datacenter, true
		}
		root, err := parseIssuer(rec.Roots[0].DER, rec.RootKey)
		if err != nil {
			return 0, nil, store.Errorf(store.KindInternal, "own root: %w", err)
		}
		der, err := signIntermediate(notBefore(lifted(rec, dc)), root, csr.pub, dc, csr.domain, csr.subject)
		if err != nil {
			return 0, nil, store.Errorf(store.KindInternal, "sign intermediate of %s: %w", dc, err)
		}
		if changed {
			err := a.replace(ctx, next)
			if store.KindOf(err) == store.KindConflict {
				continue
			}
			if err != nil {
				return 0, nil, err
			}
		}
		a.metrics.issued.WithLabelValues("intermediate").Inc()
		a.log.Info("intermediate certificate issued", "peer_dc", dc, "vouching", from, "renewal", m.renewal)
		g := shared(next)
		g.intermediate = der
		return outcomeGranted, g, nil
	}
	return 0, nil, errChanged
}

// JoinHandler answers Trust.Join on the leader: it enrols this datacenter with
// an address, or takes a grant that another of its servers was given.
func (a *Authority) JoinHandler(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var m joinRequest
	if err := m.decode(req.Body); err != nil {
		return nil, invalid(err)
	}
	if req.Origin == rpc.FromWAN {
		return nil, store.Errorf(store.KindPermissionDenied, "another datacenter cannot make datacenter %s join", a.cfg.Datacenter)
	}
	if !a.cfg.IsLeader() {
		return nil, store.ErrNoLeader
	}
	var rep joinReply
	var err error
	if m.adopt != nil {
		rep.root, err = a.adopt(ctx, m.adopt, m.index)
	} else {
		rep, err = a.join(ctx, &m)
	}
	if errors.Is(err, ErrNotFederated) {
		return answer((&joinReply{notHere: true}).append), nil
	}
	if err != nil {
		return nil, err
	}
	// The leader calls the primary next, if somebody joins us: it must be known
	// there first.
	if err := a.awaitRoot(ctx, rep.root); err != nil {
		return nil, err
	}
	return answer(rep.append), nil
}

// adopt makes a grant this datacenter's identity, if the record is still the one
// the decision was based on (index).
func (a *Authority) adopt(ctx context.Context, g *grant, index store.Index) (string, error) {
	rec, err := a.lead()
	if err != nil {
		return "", err
	}
	if len(g.roots) == 0 {
		return "", store.Errorf(store.KindInvalid, "grant without a root")
	}
	root := fingerprint(g.roots[0])
	if rec.Roots[0].ID == root && !newerIntermediate(g.intermediate, rec.Intermediate) {
		return root, nil
	}
	if rec.ModifyIndex != index {
		return "", errChanged
	}
	next := rec.Clone()
	if err := a.take(next, g); err != nil {
		return "", err
	}
	if err := a.replace(ctx, next); err != nil {
		return "", err
	}
	a.log.Info("joined a federation", "federation", g.federationID, "primary", g.primary, "root", root)
	a.wake()
	return root, nil
}

// newerIntermediate says whether a granted certificate was made after ours: then we
// were evicted, and let in again.
func newerIntermediate(granted, ours []byte) bool {
	g, gerr := x509.ParseCertificate(granted)
	o, oerr := x509.ParseCertificate(ours)
	return gerr == nil && oerr == nil && createdAt(g) > createdAt(o)
}

// lifted is when a datacenter's eviction was taken back, 0 if there was none.
func lifted(rec *store.Trust, dc string) (t int64) {
	for i := range rec.Revoked {
		if r := &rec.Revoked[i]; r.Datacenter == dc && r.Node == "" {
			t = max(t, r.LiftedUnix)
		}
	}
	return t
}

// lead returns the record, on the leader only.
func (a *Authority) lead() (*store.Trust, error) {
	rec := a.cfg.State.Trust()
	if !a.cfg.IsLeader() || rec == nil || len(rec.Roots) == 0 {
		return nil, store.ErrNoLeader
	}
	return rec, nil
}

func answer(enc func([]byte) []byte) *rpc.Response {
	return &rpc.Response{KnownLeader: true, Body: enc(nil)}
}

// invalid gives a decoding error its kind.
func invalid(err error) error {
	if store.KindOf(err) != store.KindInternal {
		return err
	}
	return store.Errorf(store.KindInvalid, "trust: %w", err)
}
