package node

import (
	"context"
	"maps"
	"sync"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/lan/gossip"
	"landbridge/store"
)

const (
	// keyringTimeout bounds one datacenter's answer: gossip asks its members, and
	// one that is silent must not hold up the others' answers for long.
	keyringTimeout = 20 * time.Second
	keyringAtOnce  = 32 // datacenters asked at the same time
)

// keyringRings is KeyringRings: the operation on the LAN ring of every datacenter.
// The WAN has no keys, its entry repeats our own ring. Answers that are errors
// come as one error with all of them, as clients know it; what worked stays done.
func (s *server) keyringRings(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var op store.KeyringRequest
	if err := op.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "Keyring.Rings: %w", err)
	}
	if s.wan == nil && !op.LocalOnly && req.Hops < rpc.MaxHops {
		// Only a server in the WAN knows all datacenters.
		for _, p := range s.n.lanView.Servers() {
			if !p.Federated {
				continue
			}
			conn, err := s.n.lanView.Dial(ctx, p)
			if err != nil {
				continue
			}
			next := *req
			next.Hops++
			return conn.Do(ctx, &next)
		}
	}
	own := s.n.cfg.Datacenter
	names := []string{own}
	if !op.LocalOnly {
		names = s.datacenters() // our own is the first
	}
	rings := make([]store.KeyringRing, len(names))
	sem := make(chan struct{}, keyringAtOnce)
	var wg sync.WaitGroup
	for i, dc := range names {
		sem <- struct{}{}
		wg.Go(func() {
			defer func() { <-sem }()
			rings[i] = s.askRing(ctx, req, dc)
		})
	}
	wg.Wait()
	if !op.LocalOnly {
		rings = append([]store.KeyringRing{wanRing(rings[0])}, rings...)
	}
	if err := store.KeyringErrors(rings); err != nil {
		return nil, err
	}
	resp := &rpc.Response{Index: 1, KnownLeader: true}
	if op.Op == store.KeyringList {
		resp.Body = store.AppendKeyringJSON(nil, rings)
	}
	return resp, nil
}

// wanRing is how our own ring is shown for the WAN, where members have the name of
// their datacenter behind their own.
func wanRing(own store.KeyringRing) store.KeyringRing {
	r := own
	r.WAN, r.Messages = true, nil
	for member, text := range own.Messages {
		if r.Messages == nil {
			r.Messages = make(map[string]string, len(own.Messages))
		}
		r.Messages[member+"."+own.Datacenter] = text
	}
	return r
}

func (s *server) askRing(ctx context.Context, req *rpc.Request, dc string) store.KeyringRing {
	ctx, cancel := context.WithTimeout(ctx, keyringTimeout)
	defer cancel()
	r := store.KeyringRing{Datacenter: dc}
	resp, err := s.n.dispatcher.Do(ctx, &rpc.Request{
		Method: rpc.KeyringRing, Datacenter: dc, Token: req.Token, SourceDC: s.n.cfg.Datacenter,
		Hops: req.Hops, Representation: rpc.Records, Body: req.Body,
	})
	if err == nil {
		err = r.DecodeWire(resp.Body)
	}
	if err != nil {
		r.Error = err.Error()
	}
	r.Datacenter = dc // the one asked, whatever it calls itself
	return r
}

// keyringRing is KeyringRing: the operation on our own LAN ring. What members
// refuse is in the answer.
func (s *server) keyringRing(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var op store.KeyringRequest
	if err := op.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "Keyring.Ring: %w", err)
	}
	kind, ok := map[store.KeyringOp]gossip.KeyOp{
		store.KeyringList: gossip.ListKeys, store.KeyringInstall: gossip.InstallKey,
		store.KeyringUse: gossip.UseKey, store.KeyringRemove: gossip.RemoveKey,
	}[op.Op]
	if !ok {
		return nil, store.Errorf(store.KindInvalid, "keyring operation %d is not known to this server", op.Op)
	}
	ring := store.KeyringRing{Datacenter: s.n.cfg.Datacenter}
	r, err := s.n.lan.KeyOp(ctx, kind, op.Key, op.Relay)
	if err != nil {
		ring.Error = err.Error()
	}
	if r != nil {
		ring.Messages, ring.Keys, ring.PrimaryKeys, ring.NumNodes = maps.Clone(r.Messages), r.Keys, r.PrimaryKeys, r.NumNodes
	}
	if op.Op != store.KeyringList {
		s.n.log.Info("gossip keyring changed", "operation", op.Op.String(), "nodes", ring.NumNodes, "err", ring.Error)
	}
	return &rpc.Response{Index: 1, KnownLeader: true, Body: ring.AppendWire(nil)}, nil
}
