package trust

import (
	"context"
	"io"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// ServeEnroll is the accepting side of one enrolment. It closes conn, and
// returns within the time an enrolment may take. Any server of a datacenter can
// accept; what changes records is done by the leaders.
func (a *Authority) ServeEnroll(ctx context.Context, conn EnrollConn) {
	ctx, cancel := context.WithTimeout(ctx, enrollTime)
	defer cancel()
	defer conn.Close()
	defer bound(ctx, conn)()
	if !a.limit.acquire(conn.RemoteAddr(), time.Now()) {
		a.metrics.enrollments.WithLabelValues("accepting", endedLimit).Inc()
		answerRefusal(conn, store.Errorf(store.KindRateLimited, "datacenter %s refuses more joins for the moment: too many attempts", a.cfg.Datacenter))
		return
	}
	defer a.limit.release()

	dc, result, err := a.accept(ctx, conn)
	a.metrics.enrollments.WithLabelValues("accepting", result).Inc()
	if err != nil {
		answerRefusal(conn, err)
		a.logRefusal(conn, dc, err)
		return
	}
	a.log.Info("enrolment served", "peer_dc", dc, "addr", conn.RemoteAddr().String(), "outcome", result)
	drain(conn)
}

// accept answers one hello. An error has not been sent to the peer yet.
func (a *Authority) accept(ctx context.Context, conn EnrollConn) (dc, result string, err error) {
	b, err := readFrame(conn, maxHello)
	if err != nil {
		return "", endedError, store.Errorf(store.KindInvalid, "enrolment: %w", err)
	}
	h := new(hello)
	if err := h.decode(b); err != nil {
		return "", endedRefuse, invalid(err)
	}
	dc = h.facts.datacenter
	exp, err := exporter(conn)
	if err != nil {
		return dc, endedError, err
	}
	if h.mode == modeToken {
		a.awaitToken(ctx, h.token)
	}
	mode, key, err := a.checkJoiner(conn, h, exp)
	if err != nil {
		return dc, endedRefuse, err
	}
	if mode == modeNone {
		a.warnInsecure(conn, dc)
	}

	rec := a.cfg.State.Trust()
	if rec == nil || len(rec.Roots) == 0 {
		return dc, endedError, store.ErrNoLeader
	}
	r := &reply{mode: mode, facts: a.facts(rec, dc)}
	if err := a.verdict(ctx, rec, h, r); err != nil {
		return dc, refusalOutcome(store.KindOf(err)), err
	}
	if mode == modeKey || mode == modeToken {
		r.proof = prove(key, acceptorLabel, joinerName(h), a.self(), r.payload(h), exp)
	}
	if err := writeFrame(conn, r.append); err != nil {
		return dc, endedError, store.Errorf(store.KindUnreachable, "enrolment of %s: %w", dc, err)
	}
	switch r.outcome {
	case outcomeSame:
		return dc, endedSame, nil
	case outcomeReverse:
		return dc, ended, a.acceptGrant(ctx, conn, rec, h)
	}
	return dc, ended, nil
}

// verdict fills the answer: same, granted, or reverse with our request.
func (a *Authority) verdict(ctx context.Context, rec *store.Trust, h *hello, r *reply) error {
	if a.operator.on() {
		// Certificates are the operator's: only the names must differ.
		if h.facts.datacenter == a.cfg.Datacenter && h.facts.clusterID != a.cfg.State.ClusterID() {
			return store.Errorf(store.KindConflict, "datacenter name %q is taken: both sides use it for different clusters; give one of them another name", a.cfg.Datacenter)
		}
		r.outcome = outcomeSame
		return nil
	}
	local := a.party(rec, h.facts.datacenter)
	v, err := decide(local, &party{facts: h.facts}, true, a.outgoing.Load() > 0)
	if err != nil {
		return err
	}
	token := ""
	if r.mode == modeToken {
		if token = h.token; v == remoteWins {
			return store.Errorf(store.KindConflict, "a join token lets a datacenter join the federation that made it, and datacenter %s is bound to primary %s", h.facts.datacenter, h.facts.configured)
		}
	}
	if v == localWins {
		out, g, err := a.sign(ctx, rec, &signIntermediateRequest{csr: h.csr, subject: h.facts, token: token})
		if err != nil {
			return err
		}
		switch out {
		case outcomeSame:
			v = same
		case outcomeReverse:
			if token != "" {
				return errChanged
			}
			v = remoteWins // our leader knows of a join the other way
		case outcomeGranted:
			r.outcome, r.grant = outcomeGranted, g
			return nil
		default:
			return errChanged
		}
	}
	if v == same {
		r.outcome = outcomeSame
		return nil
	}
	if local.large() {
		return store.Errorf(store.KindConflict, "datacenter %s belongs to the federation of primary %s and cannot leave it for that of %s", a.cfg.Datacenter, rec.Primary, h.facts.datacenter)
	}
	r.outcome = outcomeReverse
	r.csr, err = a.intermediateCSR(rec)
	return err
}

// acceptGrant ends an enrolment that the dialing side won.
func (a *Authority) acceptGrant(ctx context.Context, conn EnrollConn, rec *store.Trust, h *hello) error {
	g, err := readReply(conn)
	if err != nil {
		return store.Errorf(store.KindUnreachable, "enrolment of %s: %w", h.facts.datacenter, err)
	}
	if g.outcome != outcomeGranted || g.grant == nil {
		return refusal(g)
	}
	msg := joinRequest{adopt: g.grant, index: rec.ModifyIndex}
	var rep joinReply
	if err := a.call(ctx, rpc.TrustJoin, "", msg.append, rep.decode, a.JoinHandler); err != nil {
		return err
	}
	// The dialing side calls us as soon as it hears: be ready.
	if err := a.awaitRoot(ctx, rep.root); err != nil {
		return err
	}
	if err := writeFrame(conn, (&reply{outcome: outcomeDone}).append); err != nil {
		return store.Errorf(store.KindUnreachable, "enrolment of %s: %w", h.facts.datacenter, err)
	}
	return nil
}

// answerRefusal tells the peer why, as far as it still listens.
func answerRefusal(conn EnrollConn, err error) {
	r := reply{outcome: outcomeRefused, kind: store.KindOf(err), text: printable(err.Error())}
	if writeFrame(conn, r.append) == nil {
		drain(conn)
	}
}

// drain waits for the peer to close, so that closing does not cut off what it
// has not read yet.
func drain(conn EnrollConn) {
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = io.CopyN(io.Discard, conn, maxHello)
}

// logRefusal logs at most one refusal a second: strangers can cause them.
func (a *Authority) logRefusal(conn EnrollConn, dc string, err error) {
	a.logMu.Lock()
	now := time.Now()
	if now.Sub(a.lastLog) < time.Second {
		a.unlogged++
		a.logMu.Unlock()
		return
	}
	n := a.unlogged
	a.lastLog, a.unlogged = now, 0
	a.logMu.Unlock()
	if isChanged(err) {
		a.log.Debug("enrolment to be tried again", "peer_dc", dc, "addr", conn.RemoteAddr().String())
		return
	}
	a.log.Warn("enrolment refused", "peer_dc", dc, "addr", conn.RemoteAddr().String(), "err", err, "unlogged", n)
}

func (a *Authority) warnInsecure(conn EnrollConn, dc string) {
	a.insecure.Store(true)
	a.log.Warn("JOIN WITHOUT AUTHENTICATION: nothing proves who the other side is; use the same gossip key (encrypt) on both sides",
		"peer_dc", dc, "addr", conn.RemoteAddr().String())
}
