package node

import (
	"context"
	"time"

	"landbridge/federation"
	"landbridge/forwarding"
	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// wanDialTimeout bounds a dial of a server while others of its datacenter are
// left to try: a dead host sends no refusal over UDP.
const wanDialTimeout = 1500 * time.Millisecond

// wanView shows the dispatcher the servers of other datacenters, and tells the
// directory which of them answer.
type wanView struct {
	dir  *federation.Directory
	pool *rpc.Pool
}

func (v *wanView) Known(dc string) bool { return v.dir.Known(dc) }

func (v *wanView) Servers(dc string) []forwarding.Peer {
	list := v.dir.Servers(dc)
	peers := make([]forwarding.Peer, len(list))
	for i, s := range list {
		peers[i] = forwarding.Peer{Name: s.Name, Addr: s.Addr.String(), Federated: true}
	}
	return peers
}

func (v *wanView) Dial(ctx context.Context, p forwarding.Peer) (rpc.Doer, error) {
	ctx, cancel := context.WithTimeout(ctx, wanDialTimeout)
	defer cancel()
	c, err := v.pool.Get(ctx, p.Addr, p.Name)
	if err != nil {
		v.dir.Report(p.Name, err)
		return nil, err
	}
	return reporter{c, v.dir, p.Name}, nil
}

// reporter tells the directory how calls to a server end.
type reporter struct {
	rpc.Doer
	dir  *federation.Directory
	name string
}

func (r reporter) Do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	resp, err := r.Doer.Do(ctx, req)
	kind := store.KindOf(err)
	switch {
	case err == nil || rpc.Answered(err):
		if !r.dir.Answering(r.name) {
			r.dir.Report(r.name, nil)
		}
	case (kind == store.KindUnreachable || kind == store.KindMaybeApplied) && ctx.Err() == nil:
		r.dir.Report(r.name, err)
	}
	return resp, err
}
