package trust

import (
	"context"
	"slices"
	"strings"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// SignServer answers Trust.SignServer on the leader: it signs a certificate for
// a server of this datacenter, or notes that one is in use.
func (a *Authority) SignServer(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
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
	by, err := parseIssuer(rec.Intermediate, rec.IntermediateKey)
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "own intermediate: %w", err)
	}
	leaf, err := signLeaf(time.Now(), by, csr.pub, csr.node, a.cfg.Datacenter, a.cfg.Domain)
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "sign for %s: %w", csr.node, err)
	}
	a.metrics.issued.WithLabelValues("server").Inc()
	a.log.Info("server certificate issued", "node", csr.node, "peer", req.Peer)
	return answer((&signServerReply{leaf: leaf, intermediate: rec.Intermediate}).append), nil
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
	from := a.cfg.Datacenter
	if req.Origin == rpc.FromWAN {
		_, dc, ok := splitPeer(req.Peer)
		if !ok {
			return nil, store.Errorf(store.KindPermissionDenied, "certificate request from an unnamed server")
		}
		from = dc
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
		if m.renewal {
			if !slices.ContainsFunc(rec.Datacenters, func(d store.TrustDatacenter) bool { return d.Name == dc && d.ClusterID == m.subject.clusterID }) {
				return 0, nil, store.Errorf(store.KindPermissionDenied, "datacenter %s is not a member of this federation", dc)
			}
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
		for _, d := range rec.Datacenters {
			// Who vouches for a member known already may repeat a grant, not get one
			// for a key of its own.
			if d.Name == dc && d.KeyHash != "" && d.KeyHash != hash && !m.renewal {
				return 0, nil, store.Errorf(store.KindPermissionDenied, "datacenter %s is a member of this federation with another key", dc)
			}
		}
		changed := setDatacenter(next, store.TrustDatacenter{Name: dc, ClusterID: m.subject.clusterID, KeyHash: hash})
		if next.Primary == "" {
			next.Primary, changed = a.cfg.Datacenter, true
		}
		root, err := parseIssuer(rec.Roots[0].DER, rec.RootKey)
		if err != nil {
			return 0, nil, store.Errorf(store.KindInternal, "own root: %w", err)
		}
		der, err := signIntermediate(time.Now(), root, csr.pub, dc, csr.domain)
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
		g := &grant{federationID: next.FederationID, primary: next.Primary, intermediate: der, datacenters: next.Datacenters}
		for _, r := range next.Roots {
			g.roots = append(g.roots, r.DER)
		}
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
	var root string
	var err error
	if m.adopt != nil {
		root, err = a.adopt(ctx, m.adopt, m.index)
	} else {
		root, err = a.joinAsLeader(ctx, m.address)
	}
	if err != nil {
		return nil, err
	}
	// The leader calls the primary next, if somebody joins us: it must be known
	// there first.
	if err := a.awaitRoot(ctx, root); err != nil {
		return nil, err
	}
	return answer((&joinReply{root: root}).append), nil
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
	if rec.Roots[0].ID == root {
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
