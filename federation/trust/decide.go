package trust

import (
	"crypto/x509"
	"slices"
	"time"

	"landbridge/store"
)

// verdict says whose root two datacenters will share.
type verdict uint8

const (
	same       verdict = iota + 1 // they share one already
	localWins                     // the other side gets an intermediate below our root
	remoteWins                    // we get one below theirs
)

// party is one side of a decision.
type party struct {
	facts
	known []store.TrustDatacenter // members of its federation; of the local side only
	// promotion is how its primary became that; of the local side only.
	promotion *store.Promotion
}

// large reports whether the party's federation holds more than itself and the
// other party.
func (p *party) large() bool {
	return p.others > 0 || (p.primary != "" && p.primary != p.datacenter)
}

// wants is the primary the party is bound to: what its operator configured, else
// that of a federation too large to be dissolved. "" is undecided.
func (p *party) wants() string {
	if p.configured != "" {
		return p.configured
	}
	if p.large() {
		return p.primary
	}
	return ""
}

// decide says who wins, or refuses. Both sides come to the same verdict from the
// same facts; it is taken by the accepting side and checked by the other.
//
// contacted is whether the remote side dialed us; simultaneous whether we are
// dialing somebody at the same time, so that "the contacted side wins" could be
// true of both: then the older root wins, and of two made in the same second the
// lower fingerprint.
func decide(local, remote *party, contacted, simultaneous bool) (verdict, error) {
	l, r := local.datacenter, remote.datacenter
	if l == r {
		if local.clusterID != "" && local.clusterID == remote.clusterID {
			return same, nil
		}
		return 0, store.Errorf(store.KindConflict,
			"datacenter name %q is taken: both sides use it for different clusters; give one of them another name", l)
	}
	localID, remoteID := fingerprint(local.root), fingerprint(remote.root)
	if localID == remoteID {
		if contacted && known(local.known, l) && !known(local.known, r) {
			return localWins, nil // it was evicted, and has to have a new certificate
		}
		return same, nil
	}
	if err := nameFree(local.known, r, remote.clusterID); err != nil {
		return 0, err
	}
	lw, rw := local.wants(), remote.wants()
	if lw != "" && rw != "" && lw != rw {
		if sameFederation(local.root, remote.root) && member(local.known, r, remote.clusterID) {
			// One of us has not heard of a promotion yet, and soon will.
			return same, nil
		}
		if local.large() && remote.large() {
			return 0, store.Errorf(store.KindConflict,
				"two federations of more than one datacenter cannot be joined: %s belongs to that of primary %s, %s to that of primary %s", l, local.primary, r, remote.primary)
		}
		return 0, store.Errorf(store.KindConflict,
			"no common primary datacenter: %s has %q%s, %s has %q; set the same primary_datacenter on both sides", l, lw, since(local.promotion), r, rw)
	}
	want := lw
	if want == "" {
		want = rw
	}
	if want != "" {
		return byPrimary(local, remote, want)
	}
	if !simultaneous {
		if contacted {
			return localWins, nil
		}
		return remoteWins, nil
	}
	return byAge(local, remote, localID < remoteID)
}

// since says how a primary that is not the configured one came to be it.
func since(p *store.Promotion) string {
	if p == nil {
		return ""
	}
	return " (promoted in place of " + p.Former + " at " + time.Unix(p.Unix, 0).UTC().Format(time.RFC3339) + ")"
}

func term(p *store.Promotion) uint64 {
	if p == nil {
		return 0
	}
	return p.Term
}

// byPrimary gives the win to the side that is, or is under, the wanted primary.
func byPrimary(local, remote *party, want string) (verdict, error) {
	has := func(p *party) bool { return p.datacenter == want || p.primary == want }
	switch {
	case has(local) && has(remote) && local.datacenter == want:
		// The remote side is under an older root of ours.
		return localWins, nil
	case has(local) && has(remote) && remote.datacenter == want:
		return remoteWins, nil
	case has(local) && has(remote) && sameFederation(local.root, remote.root):
		// One of us has not heard of a new root yet, and soon will.
		return same, nil
	case has(local) && has(remote):
		return 0, store.Errorf(store.KindConflict,
			"%s and %s both name primary datacenter %s but trust different roots; join %s first", local.datacenter, remote.datacenter, want, want)
	case has(local):
		return localWins, nil
	case has(remote):
		return remoteWins, nil
	}
	return 0, store.Errorf(store.KindConflict,
		"primary datacenter %s is neither %s nor %s, and neither has joined it yet; join it first", want, local.datacenter, remote.datacenter)
}

// sameFederation compares what two roots are for: rotations keep the trust domain.
func sameFederation(a, b []byte) bool {
	x, xerr := x509.ParseCertificate(a)
	y, yerr := x509.ParseCertificate(b)
	if xerr != nil || yerr != nil {
		return false
	}
	dx, xerr := trustDomainOf(x)
	dy, yerr := trustDomainOf(y)
	return xerr == nil && yerr == nil && dx == dy
}

func byAge(local, remote *party, localLower bool) (verdict, error) {
	lc, err := x509.ParseCertificate(local.root)
	if err != nil {
		return 0, store.Errorf(store.KindInternal, "own root: %w", err)
	}
	rc, err := x509.ParseCertificate(remote.root)
	if err != nil {
		return 0, store.Errorf(store.KindInvalid, "root of %s: %w", remote.datacenter, err)
	}
	la, ra := createdAt(lc), createdAt(rc)
	if la < ra || (la == ra && localLower) {
		return localWins, nil
	}
	return remoteWins, nil
}

func known(list []store.TrustDatacenter, dc string) bool {
	return slices.ContainsFunc(list, func(d store.TrustDatacenter) bool { return d.Name == dc })
}

func member(list []store.TrustDatacenter, dc, clusterID string) bool {
	return slices.ContainsFunc(list, func(d store.TrustDatacenter) bool { return d.Name == dc && d.ClusterID == clusterID })
}

// nameFree refuses a datacenter name that another cluster holds.
func nameFree(known []store.TrustDatacenter, dc, clusterID string) error {
	for i := range known {
		if known[i].Name == dc && known[i].ClusterID != clusterID {
			return store.Errorf(store.KindConflict,
				"datacenter name %q is taken: this federation knows it as another cluster; give the new one another name", dc)
		}
	}
	return nil
}
