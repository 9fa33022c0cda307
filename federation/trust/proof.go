package trust

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"landbridge/store"
)

const (
	exporterLabel = "EXPERIMENTAL landbridge enrolment 1"
	exporterSize  = 32
	// The labels differ per side, so that neither can be given its own proof back.
	joinerLabel   = "landbridge enrolment 1: dialing side"
	acceptorLabel = "landbridge enrolment 1: accepting side"
)

// threeWays ends the refusal of a join without a proof.
const threeWays = "there are three ways to join: give both sides the same gossip key (encrypt); or make a token in the primary datacenter (landbridge wan token) and join with it (landbridge wan join TOKEN); or give both sides certificates of one authority (tls.internal_rpc)"

// prove makes a side's proof of holding the gossip key on this very connection:
// the exporter differs per connection and is known to its two ends only, so a
// proof is of no use on another one. payload is what the proof vouches for.
func prove(key []byte, label string, joiner, acceptor string, payload, exporter []byte) []byte {
	// The ring's key encrypts packets elsewhere; this use gets a key of its own.
	k, err := hkdf.Key(sha256.New, key, nil, "landbridge enrolment 1", sha256.Size)
	if err != nil {
		panic("trust: " + err.Error()) // only for lengths beyond HKDF's limit
	}
	h := hmac.New(sha256.New, k)
	sum := sha256.Sum256(payload)
	for _, part := range [][]byte{[]byte(label), []byte(joiner), []byte(acceptor), sum[:], exporter} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	return h.Sum(nil)
}

// exporter returns the keying material both proofs are bound to.
func exporter(conn EnrollConn) ([]byte, error) {
	b, err := conn.ExportKeyingMaterial(exporterLabel, nil, exporterSize)
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "TLS exporter: %w", err)
	}
	return b, nil
}

func (a *Authority) gossipKey() []byte {
	if a.cfg.GossipKey == nil {
		return nil
	}
	return a.cfg.GossipKey()
}

// unauthenticated reports whether a join without proof over conn is permitted
// to a side that holds no key: by configuration, or because nobody beyond this
// machine can reach our socket and the packets came from this machine.
func (a *Authority) unauthenticated(conn EnrollConn) bool {
	return a.cfg.AllowUnauthenticated || (a.cfg.LoopbackSocket && addrOf(conn.RemoteAddr()).IsLoopback())
}

// checkJoiner decides on the accepting side whether the dialing side may enrol.
// It returns the mode in which we answer, and the key of our own proof.
func (a *Authority) checkJoiner(conn EnrollConn, h *hello, exp []byte) (mode, []byte, error) {
	us := a.cfg.Datacenter
	refuse := func(format string, args ...any) (mode, []byte, error) {
		return 0, nil, store.Errorf(store.KindPermissionDenied, format, args...)
	}
	if v := a.view.Load(); v.revoked.now(h.facts.node, h.facts.datacenter) {
		return refuse("%s was evicted from this federation", joinerName(h))
	}
	if a.operator.on() || h.mode == modeOperator {
		return modeOperator, nil, a.checkOperator(conn, h.mode, h.facts)
	}
	key := a.gossipKey()
	switch {
	case h.mode == modeToken:
		rec := a.cfg.State.Trust()
		if rec == nil || len(rec.Roots) == 0 {
			return 0, nil, store.ErrNoLeader
		}
		t, err := usable(rec, printable(h.token), h.facts.datacenter, "", time.Now())
		if err != nil {
			return 0, nil, err
		}
		if !hmac.Equal(prove(t.Verifier, joinerLabel, joinerName(h), a.self(), h.payload(), exp), h.proof) {
			return refuse("datacenter %s refused the join: the secret of the join token %s is wrong", us, t.ID)
		}
		return modeToken, t.Verifier, nil
	case len(key) > 0 && h.mode == modeKey:
		if !a.enrollByKey.Load() {
			return refuse("datacenter %s does not accept joins by the gossip key (federation.enroll_by_key, which acl.enabled turns off unless it is set): %s", us, threeWays)
		}
		want := prove(key, joinerLabel, joinerName(h), a.self(), h.payload(), exp)
		if !hmac.Equal(want, h.proof) {
			return refuse("datacenter %s refused the join: its gossip key (encrypt) is not that of datacenter %s; %s", us, h.facts.datacenter, threeWays)
		}
		return modeKey, key, nil
	case len(key) > 0 && a.cfg.AllowUnauthenticated:
		return modeNone, nil, nil
	case len(key) == 0 && a.unauthenticated(conn):
		if !h.unproven {
			return 0, nil, store.Errorf(store.KindPermissionDenied, "datacenter %s has no gossip key (encrypt), datacenter %s requires a proof of its own: %s", us, h.facts.datacenter, threeWays)
		}
		return modeNone, nil, nil
	case len(key) > 0:
		return refuse("datacenter %s refused the join: datacenter %s offered no proof that it belongs: %s", us, h.facts.datacenter, threeWays)
	}
	return refuse("datacenter %s refused the join: it has no gossip key to check a proof with: %s", us, threeWays)
}

// checkAcceptor decides on the dialing side whether the answer can be trusted.
func (a *Authority) checkAcceptor(conn EnrollConn, h *hello, r *reply, exp []byte, tok *joinToken) error {
	if r.facts.datacenter == "" {
		return store.Errorf(store.KindInvalid, "%s answered without saying who it is", conn.RemoteAddr())
	}
	if a.operator.on() || r.mode == modeOperator {
		return a.checkOperator(conn, r.mode, r.facts)
	}
	key := a.gossipKey()
	switch {
	case tok != nil:
		want := prove(verifier(tok.secret), acceptorLabel, joinerName(h), acceptorName(r), r.payload(h), exp)
		if r.mode != modeToken || !hmac.Equal(want, r.proof) {
			return store.Errorf(store.KindPermissionDenied, "the server at %s did not prove that it knows the join token", conn.RemoteAddr())
		}
		return a.checkPin(conn, r, tok)
	case len(key) > 0 && r.mode == modeKey:
		want := prove(key, acceptorLabel, joinerName(h), acceptorName(r), r.payload(h), exp)
		if !hmac.Equal(want, r.proof) {
			return store.Errorf(store.KindPermissionDenied, "the server at %s did not prove that it holds our gossip key (encrypt): %s", conn.RemoteAddr(), threeWays)
		}
		return nil
	case len(key) > 0 && a.cfg.AllowUnauthenticated, len(key) == 0 && a.unauthenticated(conn):
		return nil
	}
	return store.Errorf(store.KindPermissionDenied, "the server at %s offered no proof that it belongs: %s", conn.RemoteAddr(), threeWays)
}

// checkPin refuses a federation whose root is not the one that the token names. It
// may have been replaced since the token was made.
func (a *Authority) checkPin(conn EnrollConn, r *reply, tok *joinToken) error {
	roots := [][]byte{r.facts.root}
	if r.grant != nil {
		roots = append(roots, r.grant.roots...)
	}
	if !slices.ContainsFunc(roots, func(der []byte) bool { return fingerprint(der) == tok.fingerprint }) {
		return store.Errorf(store.KindPermissionDenied, "the server at %s belongs to another federation than the join token: its root is not %s", conn.RemoteAddr(), tok.fingerprint)
	}
	return nil
}

func joinerName(h *hello) string   { return h.facts.node + "." + h.facts.datacenter }
func acceptorName(r *reply) string { return r.facts.node + "." + r.facts.datacenter }

// payload is what the dialing side's proof vouches for: everything it says.
func (h *hello) payload() []byte {
	c := *h
	c.proof = nil
	return c.append(nil)
}

// payload is what the accepting side's proof vouches for: its answer, and the
// question it answers.
func (r *reply) payload(h *hello) []byte {
	c := *r
	c.proof = nil
	return c.append(h.append(nil))
}
