package forwarding

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// attempt is one server tried, for the error text.
type attempt struct {
	peer string
	took time.Duration
}

// remote runs a request for another datacenter: at a random healthy server there,
// or, where this agent is not in the WAN, through a server of ours that is.
func (d *Dispatcher) remote(ctx context.Context, req *rpc.Request, m *rpc.Method) (*rpc.Response, error) {
	if d.cfg.WAN == nil {
		return d.throughPeer(ctx, req, m)
	}
	dc := req.Datacenter
	v, ok := d.paths.Load(dc)
	if !ok {
		// Names of datacenters come from callers: only those of members are kept.
		if len(d.cfg.WAN.Servers(dc)) == 0 && !d.cfg.WAN.Known(dc) {
			d.metrics.noPath.Inc()
			return nil, store.ErrNoPath
		}
		v = d.path(dc)
	}
	p := v.(*path)
	if len(p.roster()) == 0 {
		if !d.cfg.WAN.Known(dc) {
			d.metrics.noPath.Inc()
			return nil, store.ErrNoPath
		}
		return nil, store.Errorf(store.KindUnreachable, "rpc error getting client: dc %q: no server is reachable", dc)
	}
	blocks, start := m.Blocking && req.MinIndex > 0, time.Now()
	if err := p.enter(ctx, req, m, blocks); err != nil {
		return nil, err
	}
	defer p.leave(blocks)
	resp, tried, err := d.ask(ctx, p, req, m)
	p.outcomes.observe(err, time.Since(start))
	if err != nil {
		err = remoteError(dc, err, tried)
		p.lastErr.Store(&failure{err.Error(), time.Now()})
		return nil, err
	}
	return resp, nil
}

// ask runs a request at a server of the datacenter.
func (d *Dispatcher) ask(ctx context.Context, p *path, req *rpc.Request, m *rpc.Method) (*rpc.Response, []attempt, error) {
	if m.Stream {
		return d.inTurn(ctx, p, req, m)
	}
	retry := d.newRetry(req, m, nil)
	moved := false           // a blocking query, which has waited at a server
	var leaderless time.Time // when a server first said so
	for {
		r := d.newRace(p, retry.next(), m)
		resp, err := r.run(ctx)
		var tried []attempt
		if err != nil {
			tried = r.attempts()
		}
		if leaderless.IsZero() {
			leaderless = r.leaderless
		}
		lost, mute := r.lost, r.mute
		r.free()
		// A blocking query outlives a rolling restart: each server in turn dies while
		// the query waits there, and those that died first are long back.
		if lost {
			moved, leaderless = true, time.Time{}
			retry.anew(d.cfg.HoldTimeout)
			p.lastUse.Store(time.Now().UnixNano()) // it may have been the last to ask
			p.wake()
			continue
		}
		// A hand-over is no outage, and the others may have been about to stop.
		if err != nil && !leaderless.IsZero() && retryable(req, m, err) && p.awaitLeader(ctx, req, leaderless) {
			continue
		}
		if err == nil || !unanswered(err) || mute && !moved {
			return resp, tried, err
		}
		if !moved { // no longer than for a sign of life
			now := time.Now()
			retry.hold = p.limit(now, now).Sub(now)
		}
		if !retry.again(ctx, err, p.changes()) {
			return resp, tried, err
		}
	}
}

// inTurn asks one server after the other: for streams of bytes.
func (d *Dispatcher) inTurn(ctx context.Context, p *path, req *rpc.Request, m *rpc.Method) (*rpc.Response, []attempt, error) {
	var seen []*server
	var tried []attempt
	var err error
	for {
		s := p.pick(func(s *server) bool { return slices.Contains(seen, s) }, needsLeader(req, m), len(seen) == 0)
		if s == nil {
			return nil, tried, err
		}
		seen = append(seen, s)
		began := time.Now()
		var resp *rpc.Response
		through := ""
		dial := func(ctx context.Context, p Peer) (rpc.Doer, error) {
			conn, err := d.cfg.WAN.Dial(ctx, p)
			through = via(conn)
			return conn, err
		}
		if resp, err = d.forward(ctx, req, *s.peer.Load(), dial); err == nil {
			resp.Route = routeVia(s.route, through)
			return resp, nil, nil
		}
		tried = append(tried, attempt{s.name, time.Since(began)})
		if !unanswered(err) || !retryable(req, m, err) || ctx.Err() != nil {
			return nil, tried, err
		}
	}
}

// throughPeer sends a request for another datacenter to a server of ours.
func (d *Dispatcher) throughPeer(ctx context.Context, req *rpc.Request, m *rpc.Method) (*rpc.Response, error) {
	if d.cfg.Local == nil {
		return d.toServer(ctx, req, m)
	}
	var federated []Peer
	for _, p := range d.cfg.LAN.Servers() {
		if p.Federated {
			federated = append(federated, p)
		}
	}
	if len(federated) == 0 {
		return nil, store.ErrNoPath
	}
	rand.Shuffle(len(federated), func(i, j int) { federated[i], federated[j] = federated[j], federated[i] })
	var err error
	for _, p := range federated {
		var resp *rpc.Response
		if resp, err = d.forward(ctx, req, p, d.cfg.LAN.Dial); err == nil || !unanswered(err) || !retryable(req, m, err) {
			return resp, err
		}
	}
	return nil, err
}

// remoteError says which datacenter, what, who was tried and for how long. What
// the datacenter itself refused (bad arguments, permissions) passes unchanged.
func remoteError(dc string, err error, tried []attempt) error {
	kind := store.KindOf(err)
	switch kind {
	case store.KindNoLeader, store.KindNoServers, store.KindUnreachable, store.KindMaybeApplied, store.KindTimeout:
	default:
		return err
	}
	var e *store.Error
	text := err.Error()
	if errors.As(err, &e) {
		text = e.Message
	}
	prefix := "rpc error making call: "
	if rest, ok := strings.CutPrefix(text, "rpc error getting client: "); ok {
		prefix, text = "rpc error getting client: ", rest
	} else {
		text = strings.TrimPrefix(text, prefix)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%sdc %q: %s", prefix, dc, text)
	for i, a := range tried {
		sep := "; tried "
		if i > 0 {
			sep = ", "
		}
		fmt.Fprintf(&b, "%s%s (%s)", sep, a.peer, a.took.Round(time.Millisecond))
	}
	return &store.Error{Kind: kind, Message: b.String(), Cause: err}
}
