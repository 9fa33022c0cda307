package forwarding

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	servers := d.cfg.WAN.Servers(dc)
	if len(servers) == 0 {
		if !d.cfg.WAN.Known(dc) {
			d.metrics.noPath.Inc()
			return nil, store.ErrNoPath
		}
		return nil, store.Errorf(store.KindUnreachable, "rpc error getting client: dc %q: no server is reachable", dc)
	}
	start := time.Now()
	var tried []attempt
	var err error
	r := d.newRetry(req, m, nil)
rounds:
	for {
		for _, p := range servers {
			began := time.Now()
			var resp *rpc.Response
			resp, err = d.forward(ctx, r.next(), p, d.cfg.WAN.Dial)
			if err == nil {
				d.metrics.remote(dc, "ok", time.Since(start))
				return resp, nil
			}
			if !unanswered(err) {
				break rounds // the datacenter answered: its word is final
			}
			tried = append(tried, attempt{p.Name, time.Since(began)})
			if !retryable(req, m, err) || ctx.Err() != nil {
				break rounds
			}
		}
		// A blocking query outlives a rolling restart: each server in turn dies while
		// the query waits there, and those that died first are long back.
		if !r.waits() || !r.again(ctx, err, nil) {
			break
		}
		if again := d.cfg.WAN.Servers(dc); len(again) > 0 {
			servers = again
		}
	}
	d.metrics.remote(dc, outcome(err), time.Since(start))
	return nil, remoteError(dc, err, tried)
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

// outcome is the metric label of a remote request's end.
func outcome(err error) string {
	switch store.KindOf(err) {
	case store.KindNoLeader, store.KindNoServers:
		return "no_leader"
	case store.KindUnreachable, store.KindMaybeApplied:
		return "unreachable"
	case store.KindTimeout:
		return "timeout"
	}
	return "error"
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
