package trust

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// revocations are those of a record: immutable.
type revocations []store.TrustRevocation

// now says whether a server is evicted, whatever it shows.
func (rs revocations) now(node, dc string) bool {
	for i := range rs {
		if rs[i].LiftedUnix == 0 && rs[i].Datacenter == dc && (rs[i].Node == "" || strings.EqualFold(rs[i].Node, node)) {
			return true
		}
	}
	return false
}

// check says whether a chain that is valid otherwise is of an evicted server, or
// was made before an eviction that was taken back: who holds such a key may be
// another than the server.
func (rs revocations) check(who name, certs []*x509.Certificate) error {
	if len(rs) == 0 {
		return nil
	}
	if rs.now(who.node, who.datacenter) {
		return fmt.Errorf("%s was evicted", who)
	}
	for i := range rs {
		r := &rs[i]
		if r.Datacenter != who.datacenter {
			continue
		}
		switch {
		case strings.EqualFold(r.Node, who.node) && createdAt(certs[0]) < r.LiftedUnix:
			return fmt.Errorf("certificate of %s is from before its eviction", who)
		case r.Node == "" && len(certs) > 1 && issuedAt(certs) < r.LiftedUnix:
			return fmt.Errorf("datacenter %s was evicted and has not joined again (landbridge wan join)", r.Datacenter)
		}
	}
	return nil
}

// issuedAt is when the newest of the presented intermediates was made that signed the
// leaf: others may have been put beside it.
func issuedAt(certs []*x509.Certificate) (at int64) {
	for _, c := range certs[1:] {
		if _, _, err := datacenterOf(c); err == nil && certs[0].CheckSignatureFrom(c) == nil {
			at = max(at, createdAt(c))
		}
	}
	return at
}

// madeAfter is the earliest moment from which a certificate of a server counts.
func (rs revocations) madeAfter(node, dc string) int64 {
	var t int64
	for i := range rs {
		if rs[i].Datacenter == dc && rs[i].Node != "" && strings.EqualFold(rs[i].Node, node) {
			t = max(t, rs[i].LiftedUnix)
		}
	}
	return t
}

func (rs revocations) append(b []byte) []byte {
	rec := store.Trust{Revoked: rs}
	return rec.AppendWire(b)
}

func decodeRevocations(b []byte) (revocations, error) {
	var rec store.Trust
	err := rec.DecodeWire(b)
	return rec.Revoked, err
}

func (rs revocations) equal(other []store.TrustRevocation) bool { return slices.Equal(rs, other) }

// Revoked reports whether a server, or its datacenter, is evicted at present.
func (a *Authority) Revoked(node, dc string) bool { return a.view.Load().revoked.now(node, dc) }

// others are the other servers of this datacenter that can be asked, and that the record
// does not evict.
func (a *Authority) others(rec *store.Trust) (list []string) {
	if a.cfg.Ask == nil || a.cfg.Servers == nil || rec == nil {
		return nil
	}
	for _, node := range a.cfg.Servers() {
		if !strings.EqualFold(node, a.cfg.Node) && !revocations(rec.Revoked).now(node, a.cfg.Datacenter) {
			list = append(list, node)
		}
	}
	return list
}

// standAside has another server lead if this one was evicted: the leader is the one who
// hears for all from other datacenters, which refuse this one.
func (a *Authority) standAside(ctx context.Context, rec *store.Trust) error {
	if a.cfg.HandOver == nil || !a.cfg.IsLeader() || !revocations(rec.Revoked).now(a.cfg.Node, a.cfg.Datacenter) {
		return nil
	}
	to := a.others(rec)
	if len(to) == 0 {
		return nil // all were, and somebody has to lead
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if err := a.cfg.HandOver(ctx, to); err != nil {
		return err
	}
	a.log.Warn("leadership handed over, as this server was evicted from the federation")
	return nil
}

// keepLifted is for how long a revocation that was taken back is kept: as long as
// there may be certificates from before it.
func keepLifted(r *store.TrustRevocation) time.Duration {
	if r.Node == "" {
		return intermediateLife + slack
	}
	return leafLife + slack
}

// maxRevoked bounds the list: each handshake looks through it.
const maxRevoked = 4096

// EvictHandler answers Trust.Evict on the leader of the primary datacenter.
func (a *Authority) EvictHandler(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var m evictRequest
	if err := m.decode(req.Body); err != nil {
		return nil, invalid(err)
	}
	for range attempts {
		rec, err := a.lead()
		if err != nil {
			return nil, err
		}
		if dc, err := a.homeOf(rec); err != nil {
			return nil, err
		} else if dc != "" {
			// Asked of any datacenter: it knows who the primary is.
			if req.Origin == rpc.FromWAN {
				return nil, store.Errorf(store.KindConflict, "datacenter %s is not the primary, %s is", a.cfg.Datacenter, dc)
			}
			return a.pass(ctx, req, dc)
		}
		next := rec.Clone()
		changed, err := a.evict(next, &m, time.Now())
		if err != nil {
			return nil, err
		}
		if changed {
			if err := a.replace(ctx, next); store.KindOf(err) == store.KindConflict {
				continue
			} else if err != nil {
				return nil, err
			}
			a.log.Warn("eviction changed", "node", m.node, "peer_dc", m.datacenter, "undone", m.undo, "revision", rec.Revision+1)
		}
		return &rpc.Response{KnownLeader: true}, nil
	}
	return nil, errChanged
}

// homeOf returns the datacenter that keeps what all share, "" if that is ours.
func (a *Authority) homeOf(rec *store.Trust) (string, error) {
	switch {
	case rec.RootKey != nil:
		return "", nil
	case rec.Primary == "" || rec.Primary == a.cfg.Datacenter:
		return "", store.Errorf(store.KindConflict, "the trust record of datacenter %s names no datacenter that holds the root", a.cfg.Datacenter)
	}
	return rec.Primary, nil
}

// pass sends a request on to the primary.
func (a *Authority) pass(ctx context.Context, req *rpc.Request, dc string) (*rpc.Response, error) {
	next := *req
	next.Datacenter = dc
	next.Hops++
	return a.cfg.Call.Do(ctx, &next)
}

func (a *Authority) evict(next *store.Trust, m *evictRequest, now time.Time) (changed bool, err error) {
	if m.datacenter == "" {
		m.datacenter = a.cfg.Datacenter
	}
	if err := validDatacenter(m.datacenter); err != nil {
		return false, err
	}
	known := slices.ContainsFunc(next.Datacenters, func(d store.TrustDatacenter) bool { return d.Name == m.datacenter })
	i := slices.IndexFunc(next.Revoked, func(r store.TrustRevocation) bool {
		return r.Datacenter == m.datacenter && strings.EqualFold(r.Node, m.node)
	})
	who := m.datacenter
	if m.node != "" {
		who = m.node + "." + m.datacenter
	}
	if m.undo {
		if i < 0 || next.Revoked[i].LiftedUnix != 0 {
			return false, store.Errorf(store.KindNotFound, "%s is not evicted", who)
		}
		next.Revoked[i].LiftedUnix = now.Unix() + 1 // what was made in this second is from before
		return true, nil
	}
	switch {
	case m.node == "" && m.datacenter == a.cfg.Datacenter:
		return false, store.Errorf(store.KindConflict, "datacenter %s holds the federation's root: it cannot be evicted", who)
	case m.datacenter == a.cfg.Datacenter && strings.EqualFold(m.node, a.cfg.Node):
		return false, store.Errorf(store.KindConflict,
			"%s leads the primary datacenter, which has to tell the others: hand the leadership over first (landbridge operator raft transfer-leader)", who)
	case !known && i < 0:
		return false, store.Errorf(store.KindNotFound, "no datacenter %q in this federation", m.datacenter)
	case i >= 0 && next.Revoked[i].LiftedUnix == 0 && !m.forget:
		return false, nil
	case i < 0 && len(next.Revoked) >= maxRevoked:
		return false, store.Errorf(store.KindConflict, "%d servers are evicted already: evict whole datacenters, or take evictions back", len(next.Revoked))
	case i < 0:
		i = len(next.Revoked)
		next.Revoked = append(next.Revoked, store.TrustRevocation{Node: m.node, Datacenter: m.datacenter})
	}
	next.Revoked[i].Unix, next.Revoked[i].LiftedUnix = now.Unix(), 0
	if m.forget {
		next.Revoked[i].LiftedUnix = now.Unix() + 1
	}
	slices.SortFunc(next.Revoked, func(x, y store.TrustRevocation) int {
		return cmp.Or(strings.Compare(x.Datacenter, y.Datacenter), strings.Compare(x.Node, y.Node))
	})
	if m.node == "" {
		// Its name may be given to another cluster, and no rotation waits for it.
		next.Datacenters = slices.DeleteFunc(next.Datacenters, func(d store.TrustDatacenter) bool { return d.Name == m.datacenter })
	}
	return true, nil
}

// sharedEqual compares what all datacenters share of two records.
func sharedEqual(a, b *store.Trust) bool {
	return a.FederationID == b.FederationID && a.Primary == b.Primary && TermOf(a) == TermOf(b) && a.Pruned == b.Pruned &&
		slices.EqualFunc(a.Roots, b.Roots, func(x, y store.TrustRoot) bool {
			return x.ID == y.ID && bytes.Equal(x.Cross, y.Cross) && x.Provisional == y.Provisional
		}) &&
		slices.Equal(a.Revoked, b.Revoked) &&
		slices.EqualFunc(a.Datacenters, b.Datacenters, func(x, y store.TrustDatacenter) bool {
			return x.Name == y.Name && x.ClusterID == y.ClusterID && x.KeyHash == y.KeyHash
		})
}
