package endpoint

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/consensus"
	"landbridge/store/state"
)

func (s *Set) sessionList(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return s.sessionsOf(ctx, req, func(st *state.Store, w *state.Watch, _ *store.Query) (store.Index, []*store.Session) {
		return st.Sessions(w)
	})
}

func (s *Set) sessionGet(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return s.sessionsOf(ctx, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, []*store.Session) {
		idx, sess := st.Session(w, q.Name)
		if sess == nil {
			return idx, nil
		}
		return idx, []*store.Session{sess}
	})
}

func (s *Set) sessionNode(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return s.sessionsOf(ctx, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, []*store.Session) {
		return st.NodeSessions(w, q.Name)
	})
}

func (s *Set) sessionsOf(ctx context.Context, req *rpc.Request, read reader[[]*store.Session]) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	return serve(ctx, s, req, read, seeSessions, renderSessions)
}

func renderSessions(_ *Set, req *rpc.Request, list []*store.Session, resp *rpc.Response) error {
	if req.Representation == rpc.Records {
		resp.Body = store.AppendSessions(nil, list)
		return nil
	}
	return finish(req, resp, rowsBody(list))
}

// sessionCreate gives the session its id: the leader does, so that nobody can
// choose, and so guess, one.
func (s *Set) sessionCreate(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	cmd, err := sessionCommand(req, store.SessionCreate)
	if err != nil {
		return nil, err
	}
	sess := &cmd.Session
	if err := sess.Prepare(s.cfg.MinSessionTTL); err != nil {
		return nil, err
	}
	sess.ID = newUUID()
	res, err := s.raft.Apply(ctx, store.Command{Kind: store.CmdSession, Payload: cmd.AppendWire(nil)})
	if err != nil {
		return nil, err
	}
	if res.Err != nil {
		return nil, store.Errorf(store.KindOf(res.Err), "apply failed: %w", res.Err)
	}
	// Its time begins. If leadership is lost meanwhile, the next leader sees to it.
	_, _ = s.cfg.RenewSession(sess.ID)
	body := store.AppendJSONString([]byte(`{"ID":`), sess.ID)
	return &rpc.Response{Index: res.Index, KnownLeader: true, Body: append(body, '}')}, nil
}

func (s *Set) sessionDestroy(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if _, err := sessionCommand(req, store.SessionDestroy); err != nil {
		return nil, err
	}
	return s.write(ctx, store.CmdSession, req.Body)
}

func sessionCommand(req *rpc.Request, op store.SessionOp) (*store.SessionCommand, error) {
	cmd := new(store.SessionCommand)
	if err := cmd.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "session: %w", err)
	}
	if cmd.Op != op {
		return nil, store.Errorf(store.KindInvalid, "session: operation %d is not what the method does", cmd.Op)
	}
	return cmd, nil
}

// sessionRenew moves the session's end, which only the leader knows. The lease is
// checked afterwards: were there another leader by then, it might end the session
// earlier than the caller is told.
func (s *Set) sessionRenew(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	sess, err := s.cfg.RenewSession(req.Query.Name)
	if err != nil {
		return nil, err
	}
	if err := s.leads(ctx); err != nil {
		return nil, err
	}
	if sess == nil {
		return nil, store.Errorf(store.KindNotFound, "Session id '%s' not found", req.Query.Name)
	}
	resp := s.response(req, sess.ModifyIndex)
	return resp, renderSessions(s, req, []*store.Session{sess}, resp)
}

// leads is nil if this server leads now: by its lease, or else by a quorum's word.
func (s *Set) leads(ctx context.Context) error {
	err := s.raft.CheckLease()
	if errors.Is(err, consensus.ErrLease) {
		return s.raft.VerifyLeader(ctx)
	}
	return err
}

// newUUID returns a random UUID.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
