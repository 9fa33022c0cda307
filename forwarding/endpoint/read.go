package endpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/consensus"
	"landbridge/store/state"
)

// reader reads what a method is about and registers w (nil: nobody waits) with
// it. It returns the index of the query.
type reader[T any] func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, T)

// renderer encodes what was read into resp.
type renderer[T any] func(s *Set, req *rpc.Request, v T, resp *rpc.Response) error

// serve runs a read: consistency, blocking, encoding. It is generic, and takes
// plain functions, so that the common read allocates nothing but its answer.
func serve[T any](ctx context.Context, s *Set, req *rpc.Request, read reader[T], see seer[T], render renderer[T]) (*rpc.Response, error) {
	var idx store.Index
	var v T
	var err error
	if req.MinIndex == 0 {
		idx, v, err = once(ctx, s, req, nil, read)
	} else {
		req, idx, v, err = block(ctx, s, req, read)
	}
	if err != nil {
		return nil, err
	}
	resp := s.response(req, idx)
	if who := req.Bearer; who != nil {
		v, resp.Hidden = see(who, req, v)
		resp.Filtered = resp.Hidden && !who.Anonymous()
	}
	if err := render(s, req, v, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// block reads until the query's index exceeds MinIndex or its time is over. Who
// asks is found out again each time it reads: the request comes back with the
// bearer as it is then, and a token that was deleted, or expires, ends the wait.
func block[T any](ctx context.Context, s *Set, req *rpc.Request, read reader[T]) (*rpc.Request, store.Index, T, error) {
	var none T
	wait := req.Wait
	if wait <= 0 {
		wait = s.cfg.DefaultQueryTime
	}
	wait = min(wait, s.cfg.MaxQueryTime)
	// Readers that began together must not come back together.
	timer := time.NewTimer(wait + rand.N(wait/16+1))
	defer timer.Stop()
	var expiry <-chan time.Time
	w := s.state.NewWatch()
	defer w.Close()
	s.metrics.blocking.Inc()
	defer s.metrics.blocking.Dec()
	for expired := false; ; {
		var changed <-chan struct{}
		if req.Consistency != store.Stale {
			changed = s.raft.LeaderChanged() // before the check, so that no change is missed
		}
		if req.Bearer != nil {
			var err error
			if req, err = s.again(ctx, req, w); err != nil {
				return req, 0, none, err
			}
			if at := req.Bearer.Expires; !at.IsZero() && expiry == nil {
				t := time.NewTimer(time.Until(at)) // it is fixed when a token is made
				defer t.Stop()
				expiry = t.C
			}
		}
		idx, v, err := once(ctx, s, req, w, read)
		if err != nil || idx > req.MinIndex || expired {
			return req, idx, v, err
		}
		select {
		case <-w.C():
			s.metrics.wakeups.Inc()
		case <-timer.C:
			expired = true // read once more: the answer is what is current
		case <-changed:
		case <-expiry:
		case <-s.stopc:
			return req, 0, none, store.Errorf(store.KindUnreachable, "the server is stopping")
		case <-ctx.Done():
			return req, 0, none, ended(ctx)
		}
	}
}

// ended is the error of a wait whose context is done.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return store.Errorf(store.KindTimeout, "the deadline passed while waiting for a change: %w", context.Cause(ctx))
	}
	return store.Errorf(store.KindTimeout, "the caller has gone: %w", context.Cause(ctx))
}

// once reads the state where the request's consistency allows it.
//
// In default mode the lease is checked before and after: a process that was
// frozen between the check and the read must not answer. A lease that ran out
// while nobody else can be sure to lead yet is replaced by asking a quorum. After
// that no second check is needed: what was committed when the quorum answered is
// in what is read, and the request had not been answered by then.
func once[T any](ctx context.Context, s *Set, req *rpc.Request, w *state.Watch, read reader[T]) (store.Index, T, error) {
	verify := req.Consistency == store.Consistent
	for {
		if req.Consistency == store.Stale {
			idx, v := above(s.state, w, &req.Query, read)
			return idx, v, nil
		}
		var none T
		if !verify {
			switch err := s.raft.CheckLease(); {
			case errors.Is(err, consensus.ErrLease):
				verify = true
			case err != nil:
				return 0, none, err
			}
		}
		if verify {
			if err := s.raft.VerifyLeader(ctx); err != nil {
				return 0, none, err
			}
			idx, v := above(s.state, w, &req.Query, read)
			return idx, v, nil
		}
		idx, v := above(s.state, w, &req.Query, read)
		switch err := s.raft.CheckLease(); {
		case err == nil:
			return idx, v, nil
		case !errors.Is(err, consensus.ErrLease):
			return 0, none, err
		}
		verify = true
	}
}

// above reads, and answers with no index below the floor: after a restore by a
// user rows may be older than what their readers have seen.
func above[T any](st *state.Store, w *state.Watch, q *store.Query, read reader[T]) (store.Index, T) {
	for {
		floor := st.Floor()
		idx, v := read(st, w, q)
		if st.Floor() == floor { // else a restore came in between
			return max(idx, floor), v
		}
	}
}

// response starts an answer with its header.
func (s *Set) response(req *rpc.Request, idx store.Index) *rpc.Response {
	resp := &rpc.Response{Index: max(idx, 1), KnownLeader: true, Effective: req.Consistency}
	if req.Consistency == store.Stale && !s.raft.IsLeader() {
		id, _ := s.raft.Leader()
		resp.KnownLeader = id != ""
		resp.LastContact = s.raft.LastContact()
	}
	return resp
}

// finish sets a JSON body, indented if the request wants it so.
func finish(req *rpc.Request, resp *rpc.Response, body []byte) error {
	if req.Representation == rpc.Pretty {
		var buf bytes.Buffer
		if err := json.Indent(&buf, body, "", "    "); err != nil {
			return store.Errorf(store.KindInternal, "indenting an answer: %w", err)
		}
		buf.WriteByte('\n')
		body = buf.Bytes()
	}
	resp.Body = body
	return nil
}

// wants refuses representations that a method does not have.
func wants(req *rpc.Request, records bool) error {
	switch {
	case req.Representation == rpc.JSON || req.Representation == rpc.Pretty:
		return nil
	case req.Representation == rpc.Records && records:
		return nil
	}
	name := ""
	if m := rpc.Lookup(req.Method); m != nil {
		name = m.Name
	}
	return store.Errorf(store.KindInvalid, "%s has no representation %d", name, req.Representation)
}

// rowsBody joins the fragments of rows into a list.
func rowsBody[R store.JSONRow](rows []R) []byte {
	n := 2 + len(rows)
	for _, r := range rows {
		n += len(r.JSON())
	}
	return store.AppendJSONList(make([]byte, 0, n), rows)
}

// write proposes a command and answers true or false.
func (s *Set) write(ctx context.Context, kind store.CommandKind, payload []byte) (*rpc.Response, error) {
	res, err := s.raft.Apply(ctx, store.Command{Kind: kind, Payload: payload})
	if err != nil {
		return nil, err
	}
	if res.Err != nil {
		return nil, res.Err
	}
	resp := &rpc.Response{Index: res.Index, KnownLeader: true, Body: bodyFalse}
	if res.OK {
		resp.Body = bodyTrue
	}
	return resp, nil
}

// Bodies that are always the same; nobody changes a body.
var (
	bodyTrue  = []byte("true")
	bodyFalse = []byte("false")
)
