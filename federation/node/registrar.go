package node

import (
	"context"
	"sync/atomic"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// registrar is the catalog as this agent's own services and checks see it: the
// dispatcher, with the records representation.
type registrar struct {
	do rpc.Doer
	// going is set while the node leaves: what it registered then would bring it
	// back into the catalog that the leader has just taken it out of.
	going *atomic.Bool
	// agent is the token for what the agent does for itself, user the one for aliases
	// that have none.
	agent, user func() string
}

func (r registrar) Sync(ctx context.Context, batch *store.CatalogBatch) ([]error, error) {
	if r.going.Load() {
		return nil, store.Errorf(store.KindUnreachable, "this agent is leaving: nothing is registered any more")
	}
	resp, err := r.do.Do(ctx, &rpc.Request{Method: rpc.CatalogSync, Token: r.agent(), Body: batch.AppendWire(make([]byte, 0, 512*len(batch.Writes)))})
	if err != nil {
		return nil, err
	}
	var out store.CatalogOutcome
	if err := out.DecodeWire(resp.Body); err != nil {
		return nil, err
	}
	return out.Errors, nil
}

func (r registrar) NodeServices(ctx context.Context, node string) (*store.NodeServices, error) {
	resp, err := r.records(ctx, rpc.CatalogNodeServices, node)
	if err != nil || resp.NotFound || len(resp.Body) == 0 {
		return nil, err
	}
	list, err := store.DecodeNodeServices(resp.Body)
	if err != nil || len(list) == 0 {
		return nil, err // without one: the catalog does not know the node
	}
	return &list[0], nil
}

func (r registrar) NodeChecks(ctx context.Context, node string) ([]*store.Check, error) {
	resp, err := r.records(ctx, rpc.HealthNode, node)
	if err != nil {
		return nil, err
	}
	return store.DecodeChecks(resp.Body)
}

func (r registrar) WatchNodeChecks(ctx context.Context, node, token string, index store.Index, wait time.Duration) ([]*store.Check, store.Index, error) {
	if token == "" {
		token = r.user()
	}
	resp, err := r.do.Do(ctx, &rpc.Request{
		Method: rpc.HealthNode, Token: token, Consistency: store.Stale, MinIndex: index, Wait: wait,
		Representation: rpc.Records, Query: store.Query{Name: node},
	})
	if err != nil {
		return nil, 0, err
	}
	checks, err := store.DecodeChecks(resp.Body)
	return checks, resp.Index, err
}

func (r registrar) records(ctx context.Context, method rpc.MethodID, name string) (*rpc.Response, error) {
	return r.do.Do(ctx, &rpc.Request{Method: method, Token: r.agent(), Representation: rpc.Records, Query: store.Query{Name: name}})
}
