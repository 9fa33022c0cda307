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
	var fresh *store.Node                   // the last one whose registration was allowed
	size := len(req.Body)/max(len(batch.Writes), 1) + 64
	for i := range batch.Writes {
		cmd, err := s.prepareWrite(ctx, req, &batch.Writes[i], fresh, size)
		if err != nil {
			out.Errors[i] = err
			continue
		}
		cmds, at = append(cmds, cmd), append(at, i)
		if r := batch.Writes[i].Register; r != nil && !r.SkipNodeUpdate {
			fresh = &r.Node
		}
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
func (s *Set) prepareWrite(ctx context.Context, req *rpc.Request, w *store.CatalogWrite, fresh *store.Node, size int) (store.Command, error) {
	var cmd store.Command
	who := req.Bearer
	if who != nil && w.Token != "" && w.Token != req.Token {
		var err error
		if who, err = s.cfg.Tokens.Resolve(ctx, w.Token, nil, false); err != nil {
			s.refused(req, nil, err)
			return cmd, err
		}
	}
	if w.Register != nil {
		if err := s.mayRegister(who, w.Register, fresh); err != nil {
			s.refused(req, who, err)
			return cmd, err
		}
		payload, err := s.prepareRegister(w.Register, size)
		if err != nil {
			return cmd, err
		}
		return store.Command{Kind: store.CmdRegister, Payload: payload}, nil
	}
	if w.Deregister.Node == "" {
		return cmd, errNoNode
	}
	if err := s.mayDeregister(who, w.Deregister); err != nil {
		s.refused(req, who, err)
		return cmd, err
	}
	return store.Command{Kind: store.CmdDeregister, Payload: w.Deregister.AppendWire(make([]byte, 0, size))}, nil
}
