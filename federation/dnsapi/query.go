package dnsapi

import (
	"context"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// query answers for a prepared query: the server that executes it has selected
// and ordered the instances, perhaps in another datacenter.
func (a *answer) query(ctx context.Context, q *question) error {
	args := store.QueryExecute{Agent: a.s.cfg.Node}
	if a.from.IsValid() {
		args.Source = a.from.String()
	}
	resp, err := a.s.do(ctx, a.set, &rpc.Request{
		Method: rpc.QueryExecute, Datacenter: string(q.dc),
		Query: store.Query{Name: string(q.name)}, Body: args.AppendWire(nil),
	})
	if err != nil {
		return err
	}
	var r store.QueryResult
	if err := r.DecodeWire(resp.Body); err != nil {
		return err
	}
	a.bySource = r.BySource
	if len(r.Nodes) == 0 {
		return errNoName
	}
	ttl := a.set.serviceTTL(r.Service)
	if d, ok := r.DNSTTL(); ok {
		ttl = seconds(d)
	}
	ttl = keptTTL(resp, ttl)
	f := a.s.finder(a.set, r.Datacenter, ttl) // addresses and names are of where the instances are
	a.service(ctx, f.instances(r.Nodes))
	return nil
}
