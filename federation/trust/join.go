package trust

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// enrollTime bounds one enrolment on either side.
const enrollTime = 10 * time.Second

// Join enrols this datacenter with the server at addr, or that server's
// datacenter with ours, whichever decide says, and returns once this server's
// certificate is of the common federation. The leader does it; if that takes no
// part in the WAN, this server in its place. Joining who is joined already changes
// nothing.
//
// Errors are *store.Error: KindPermissionDenied (no or wrong proof), KindConflict
// (names, primaries or federations that do not fit; final), KindRateLimited,
// KindNoLeader, KindUnreachable and KindTimeout are worth a retry.
func (a *Authority) Join(ctx context.Context, addr string) error {
	_, err := a.askJoin(ctx, &joinRequest{address: addr})
	return err
}

// JoinByToken is Join with what TokenHandler of the other federation made. It
// returns the address that answered.
func (a *Authority) JoinByToken(ctx context.Context, token string) (addr string, err error) {
	if _, err := parseToken(token); err != nil {
		return "", err
	}
	return a.askJoin(ctx, &joinRequest{token: token})
}

func (a *Authority) askJoin(ctx context.Context, m *joinRequest) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*enrollTime)
	defer cancel()
	var rep joinReply
	if err := a.call(ctx, rpc.TrustJoin, "", m.append, rep.decode, a.JoinHandler); err != nil {
		return "", err
	}
	if rep.notHere {
		var err error
		if rep, err = a.join(ctx, m); err != nil {
			return "", err
		}
	}
	return rep.address, a.awaitRoot(ctx, rep.root)
}

// join tries the addresses until one of them answers and the record holds still,
// and returns the root in force.
func (a *Authority) join(ctx context.Context, m *joinRequest) (joinReply, error) {
	addrs := []string{m.address}
	var tok *joinToken
	if m.token != "" {
		var err error
		if tok, err = parseToken(m.token); err != nil {
			return joinReply{}, err
		}
		addrs = tok.addresses
	}
	var errs []error
	for _, addr := range addrs {
		root, err := a.joinAt(ctx, addr, tok)
		if err == nil {
			return joinReply{root: root, address: addr}, nil
		}
		if store.KindOf(err) != store.KindUnreachable || len(addrs) == 1 {
			return joinReply{}, err
		}
		errs = append(errs, err)
	}
	return joinReply{}, store.Errorf(store.KindUnreachable, "none of the addresses answered: %w", errors.Join(errs...))
}

func (a *Authority) joinAt(ctx context.Context, addr string, tok *joinToken) (string, error) {
	for try := 1; ; try++ {
		root, outcome, err := a.joinOnce(ctx, addr, tok)
		if err != nil && isChanged(err) && try < attempts {
			// The other side is likely to try again, too: not in step with it.
			if serr := sleep(ctx, 50*time.Millisecond+rand.N(200*time.Millisecond)); serr == nil {
				continue
			}
		}
		a.metrics.enrollments.WithLabelValues("dialing", outcome).Inc()
		if err != nil {
			return "", err
		}
		a.log.Info("datacenters are joined", "addr", addr, "root", root, "outcome", outcome)
		return root, nil
	}
}

// isChanged also recognises what came over the wire.
func isChanged(err error) bool {
	var e *store.Error
	return errors.As(err, &e) && e.Kind == errChanged.Kind && e.Message == errChanged.Message
}

// joinOnce is the dialing side of one enrolment. Two round trips at most after
// the TLS handshake, one if the other side wins.
func (a *Authority) joinOnce(ctx context.Context, addr string, tok *joinToken) (root, result string, err error) {
	rec := a.cfg.State.Trust() // of this server, which need not lead
	if rec == nil || len(rec.Roots) == 0 {
		return "", endedError, store.ErrNoLeader
	}
	a.outgoing.Add(1)
	defer a.outgoing.Add(-1)

	ctx, cancel := context.WithTimeout(ctx, enrollTime)
	defer cancel()
	conn, err := a.cfg.Dial(ctx, addr)
	if err != nil {
		return "", endedError, unreachable(addr, err)
	}
	defer conn.Close()
	defer bound(ctx, conn)()

	them, err := presented(conn)
	if err != nil {
		return "", endedError, unreachable(addr, err)
	}
	exp, err := exporter(conn)
	if err != nil {
		return "", endedError, err
	}
	h, err := a.hello(conn, rec, them, exp, tok)
	if err != nil {
		return "", endedRefuse, err
	}
	if err := writeFrame(conn, h.append); err != nil {
		return "", endedError, unreachable(addr, err)
	}
	r, err := readReply(conn)
	if err != nil {
		return "", endedError, unreachable(addr, err)
	}
	if r.outcome == outcomeRefused {
		return "", refusalOutcome(r.kind), refusal(r)
	}
	if err := a.checkAcceptor(conn, h, r, exp, tok); err != nil {
		a.log.Warn("join refused", "addr", addr, "err", err)
		return "", endedRefuse, err
	}
	if acceptorName(r) != them.String() {
		return "", endedRefuse, store.Errorf(store.KindPermissionDenied, "%s answered as %s and as %s", addr, them, acceptorName(r))
	}
	if r.mode == modeNone {
		a.warnInsecure(conn, r.facts.datacenter)
	}
	switch r.outcome {
	case outcomeSame:
		return a.current(rec), endedSame, nil
	case outcomeGranted:
		if err := nameFree(rec.Datacenters, r.facts.datacenter, r.facts.clusterID); err != nil {
			return "", endedRefuse, err
		}
		if r.grant == nil || len(r.grant.roots) == 0 {
			return "", endedError, unreachable(addr, errors.New("grant is missing"))
		}
		if r.grant.federationID != rec.FederationID && a.party(rec, r.facts.datacenter).large() {
			return "", endedRefuse, store.Errorf(store.KindConflict, "datacenter %s belongs to the federation of primary %s and cannot leave it for that of %s", a.cfg.Datacenter, rec.Primary, r.facts.datacenter)
		}
		msg := joinRequest{adopt: r.grant, index: rec.ModifyIndex}
		var rep joinReply
		if err := a.call(ctx, rpc.TrustJoin, "", msg.append, rep.decode, a.JoinHandler); err != nil {
			return "", refusalOutcome(store.KindOf(err)), err
		}
		return rep.root, ended, nil
	case outcomeReverse:
		return a.joinReverse(ctx, conn, addr, rec, r)
	}
	return "", endedError, unreachable(addr, fmt.Errorf("answer of unknown kind %d", r.outcome))
}

// joinReverse goes on when our side wins although we dialed: the answer held a
// certificate request, and we send the grant.
func (a *Authority) joinReverse(ctx context.Context, conn EnrollConn, addr string, rec *store.Trust, r *reply) (string, string, error) {
	out, g, err := a.sign(ctx, rec, &signIntermediateRequest{csr: r.csr, subject: r.facts, dialed: true})
	if err != nil {
		answerRefusal(conn, err)
		return "", refusalOutcome(store.KindOf(err)), err
	}
	switch out {
	case outcomeSame:
		return a.current(rec), endedSame, nil
	case outcomeGranted:
	default:
		answerRefusal(conn, errChanged)
		return "", endedError, errChanged
	}
	if err := writeFrame(conn, (&reply{outcome: outcomeGranted, grant: g}).append); err != nil {
		return "", endedError, unreachable(addr, err)
	}
	done, err := readReply(conn)
	if err != nil {
		return "", endedError, unreachable(addr, err)
	}
	if done.outcome != outcomeDone {
		return "", refusalOutcome(done.kind), refusal(done)
	}
	return a.current(rec), ended, nil
}

// current is the root in force, which another join may have replaced since rec.
func (a *Authority) current(rec *store.Trust) string {
	if now := a.cfg.State.Trust(); now != nil && len(now.Roots) > 0 {
		rec = now
	}
	return rec.Roots[0].ID
}

// sign gets a grant for a datacenter: from our own leader if our datacenter
// holds the root, from the primary's otherwise.
func (a *Authority) sign(ctx context.Context, rec *store.Trust, m *signIntermediateRequest) (outcome, *grant, error) {
	dc := ""
	if rec.RootKey == nil {
		dc = rec.Primary
	}
	var rep signIntermediateReply
	if err := a.call(ctx, rpc.TrustSignIntermediate, dc, m.append, rep.decode, a.SignIntermediate); err != nil {
		return 0, nil, err
	}
	return rep.outcome, &rep.grant, nil
}

// hello says everything about us in one message, with the proof over it.
func (a *Authority) hello(conn EnrollConn, rec *store.Trust, them name, exp []byte, tok *joinToken) (*hello, error) {
	key := a.gossipKey()
	h := &hello{
		facts:    a.facts(rec, them.datacenter),
		unproven: tok == nil && (a.cfg.AllowUnauthenticated || len(key) == 0),
	}
	switch {
	case a.operator.on() && tok != nil:
		return nil, store.Errorf(store.KindConflict, "datacenter %s uses certificates of an operator (tls.internal_rpc): join by an address, a token has no part in it", a.cfg.Datacenter)
	case a.operator.on():
		h.mode = modeOperator
	case tok != nil:
		h.mode, h.token, key = modeToken, tok.id, verifier(tok.secret)
	case len(key) > 0:
		h.mode = modeKey
	case !a.unauthenticated(conn):
		return nil, store.Errorf(store.KindPermissionDenied, "join of %s refused here: without a proof nobody knows who answers: %s", conn.RemoteAddr(), threeWays)
	}
	var err error
	if h.csr, err = a.intermediateCSR(rec); err != nil {
		return nil, err
	}
	if h.mode == modeKey || h.mode == modeToken {
		h.proof = prove(key, joinerLabel, joinerName(h), them.String(), h.payload(), exp)
	}
	return h, nil
}

// intermediateCSR asks for a certificate for the key we have: an enrolment cut
// short can so be repeated without a second key for one datacenter.
func (a *Authority) intermediateCSR(rec *store.Trust) ([]byte, error) {
	key, err := parseKey(rec.IntermediateKey)
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "own intermediate: %w", err)
	}
	csr, err := newCSR(key, "", a.cfg.Datacenter, a.cfg.Domain, nil)
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "certificate request: %w", err)
	}
	return csr, nil
}

// presented is whom the accepting side's certificate names. It proves nothing
// yet: the proof covers it.
func presented(conn EnrollConn) (name, error) {
	certs := conn.PeerCertificates()
	if len(certs) == 0 {
		return name{}, errors.New("no certificate presented")
	}
	if who, err := nameOf(certs[0]); err == nil && who.role == roleServer {
		return who, nil
	}
	// An operator's certificate names its server in DNS names, in any domain.
	for _, n := range certs[0].DNSNames {
		if node, dc, ok := splitServerName(n); ok {
			return name{role: roleServer, node: node, datacenter: dc}, nil
		}
	}
	return name{}, errors.New("certificate names no server")
}

func readReply(conn EnrollConn) (*reply, error) {
	b, err := readFrame(conn, maxReply)
	if err != nil {
		return nil, err
	}
	r := new(reply)
	return r, r.decode(b)
}

// refusal is what the other side said, as an error of the kind it gave.
func refusal(r *reply) error {
	text := r.text
	if text == "" {
		text = "the other side refused without a reason"
	}
	return store.Errorf(r.kind, "%s", text)
}

func refusalOutcome(k store.Kind) string {
	switch k {
	case store.KindPermissionDenied, store.KindConflict, store.KindInvalid:
		return endedRefuse
	case store.KindRateLimited:
		return endedLimit
	}
	return endedError
}

func unreachable(addr string, err error) error {
	if k := store.KindOf(err); k != store.KindInternal {
		return err
	}
	return store.Errorf(store.KindUnreachable, "enrol with %s: %w", addr, err)
}

// bound ends the conn's reads and writes with ctx.
func bound(ctx context.Context, conn EnrollConn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
