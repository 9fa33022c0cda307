package endpoint

import (
	"context"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/state"
)

// decodeTxn reads and checks a transaction. What every server would refuse is
// answered here, and costs the log nothing: the outcome is not nil then.
func (s *Set) decodeTxn(req *rpc.Request, readOnly bool) (*store.TxnCommand, *store.TxnOutcome, error) {
	if err := wants(req, false); err != nil {
		return nil, nil, err
	}
	cmd := new(store.TxnCommand)
	if err := cmd.DecodeWire(req.Body); err != nil {
		return nil, nil, store.Errorf(store.KindInvalid, "%s: %w", rpc.Lookup(req.Method).Name, err)
	}
	if err := cmd.CheckSize(); err != nil {
		return nil, nil, err
	}
	errs := cmd.Prepare()
	if len(errs) == 0 {
		errs = s.txnErrors(req, cmd, readOnly)
	}
	if len(errs) > 0 {
		return cmd, &store.TxnOutcome{Errors: errs}, nil
	}
	return cmd, nil, nil
}

func (s *Set) txnApply(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	cmd, out, err := s.decodeTxn(req, false)
	if err != nil {
		return nil, err
	}
	resp := &rpc.Response{KnownLeader: true}
	if out == nil {
		for i := range cmd.Ops {
			if n := cmd.Ops[i].Node; n != nil {
				n.Datacenter = s.cfg.Datacenter
			}
		}
		res, err := s.raft.Apply(ctx, store.Command{Kind: store.CmdTxn, Payload: cmd.AppendWire(make([]byte, 0, len(req.Body)+64))})
		if err != nil {
			return nil, err
		}
		if res.Err != nil {
			return nil, res.Err
		}
		resp.Index = res.Index
		var ok bool
		if out, ok = res.Value.(*store.TxnOutcome); !ok {
			return nil, store.Errorf(store.KindInternal, "the state machine gave no outcome for a transaction")
		}
	}
	return resp, finishTxn(req, resp, out, nil)
}

// txnRead answers a transaction of reads from the state, as any other read: its
// consistency is the request's.
func (s *Set) txnRead(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	cmd, out, err := s.decodeTxn(req, true)
	if err != nil {
		return nil, err
	}
	if !cmd.ReadOnly() {
		return nil, store.Errorf(store.KindInvalid, "Txn.Read: the transaction writes")
	}
	idx := store.Index(1)
	if out == nil {
		idx, out, err = once(ctx, s, req, nil, func(st *state.Store, _ *state.Watch, _ *store.Query) (store.Index, *store.TxnOutcome) {
			return st.TxnRead(cmd)
		})
		if err != nil {
			return nil, err
		}
	}
	resp := s.response(req, idx)
	return resp, finishTxn(req, resp, out, &store.TxnRead{KnownLeader: resp.KnownLeader, LastContact: resp.LastContact})
}

func finishTxn(req *rpc.Request, resp *rpc.Response, out *store.TxnOutcome, read *store.TxnRead) error {
	resp.Conflict = len(out.Errors) > 0
	seeTrees(req.Bearer, out)
	return finish(req, resp, out.AppendJSON(make([]byte, 0, 64+160*len(out.Results)), read))
}
