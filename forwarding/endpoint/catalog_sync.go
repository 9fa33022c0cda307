package endpoint

import (
	"context"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// catalogSync makes the changes of a batch, in order. They are proposed at once,
// and so share a Raft entry: its price is what a registration mostly costs. What
// one change is refused for concerns no other.
func (s *Set) catalogSync(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var batch store.CatalogBatch
	if err := batch.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "Catalog.Sync: %w", err)
	}
	out := store.CatalogOutcome{Errors: make([]error, len(batch.Writes))}
	cmds := make([]store.Command, 0, len(batch.Writes))
	at := make([]int, 0, len(batch.Writes)) // of the command among the writes
	size := len(req.Body)/max(len(batch.Writes), 1) + 64
	for i := range batch.Writes {
		cmd, err := s.prepareWrite(ctx, req, &batch.Writes[i], size)
		if err != nil {
			out.Errors[i] = err
			continue
		}
		cmds, at = append(cmds, cmd), append(at, i)
	}
	resp := &rpc.Response{KnownLeader: true}
	if len(cmds) > 0 {
		results, errs := s.raft.ApplyAll(ctx, cmds)
		elsewhere := 0
		for j, i := range at {
			if out.Errors[i] = errs[j]; errs[j] == nil {
				out.Errors[i] = results[j].Err
				resp.Index = max(resp.Index, results[j].Index)
			} else if store.KindOf(errs[j]) == store.KindNoLeader {
				elsewhere++
			}
		}
		if elsewhere == len(cmds) {
			// Nothing was done: the dispatchers on the way know whom to ask next.
			return nil, errs[0]
		}
	}
	resp.Body = out.AppendWire(make([]byte, 0, 4*len(out.Errors)))
	return resp, nil
}

// prepareWrite makes the command of one change, if the sender may make it.
func (s *Set) prepareWrite(ctx context.Context, req *rpc.Request, w *store.CatalogWrite, size int) (store.Command, error) {
	var cmd store.Command
	method := rpc.CatalogRegister
	if w.Register != nil {
		payload, err := s.prepareRegister(w.Register, size)
		if err != nil {
			return cmd, err
		}
		cmd = store.Command{Kind: store.CmdRegister, Payload: payload}
	} else {
		if w.Deregister.Node == "" {
			return cmd, errNoNode
		}
		method = rpc.CatalogDeregister
		cmd = store.Command{Kind: store.CmdDeregister, Payload: w.Deregister.AppendWire(make([]byte, 0, size))}
	}
	if s.cfg.Authorize == nil {
		return cmd, nil
	}
	one := *req
	one.Method, one.Body = method, cmd.Payload
	if w.Token != "" {
		one.Token = w.Token
	}
	return cmd, s.cfg.Authorize(ctx, rpc.Lookup(method), &one)
}
