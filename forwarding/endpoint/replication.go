package endpoint

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// ACLSource answers what secondary datacenters ask (acl_replication.Primary): what is
// rpc.ReplicateTokens, rpc.ReplicateHashes or "".
type ACLSource interface {
	// Follow writes changes to w until ctx ends or may, asked again and again, is an
	// error.
	Follow(ctx context.Context, ask []byte, what string, w io.Writer, may func() error) error
	Ask(ctx context.Context, m rpc.MethodID, ask []byte, what string) ([]byte, error)
}

// ACLCopy is a secondary datacenter's copy, at its leader.
type ACLCopy interface {
	Detail() []byte // json
	Approve(ctx context.Context, id string) (int, error)
	// Undo goes back to a time, the zero one being as far as it can.
	Undo(ctx context.Context, since time.Time) (store.ACLUndone, error)
	// Unseen lists, as json, changes that a promoted primary never saw. Reapply has
	// write carry out in the primary those with some ids, all for none, and Discard
	// forgets them.
	Unseen() []byte
	Reapply(ctx context.Context, ids []string, write func(context.Context, store.ACLChange) error) ([]byte, error)
	Discard(ctx context.Context, ids []string) ([]byte, error)
}

// HandleReplicationOff has the methods of ACL replication say that ACLs are off.
func (s *Set) HandleReplicationOff() {
	for _, m := range []rpc.MethodID{rpc.ACLFollow, rpc.ACLTrees, rpc.ACLLeaves, rpc.ACLRows,
		rpc.ACLReplicationDetail, rpc.ACLReplicationApprove, rpc.ACLReplicationUndo,
		rpc.ACLUnseen, rpc.ACLUnseenApply, rpc.ACLUnseenDiscard} {
		s.Handle(m, func(context.Context, *rpc.Request) (*rpc.Response, error) { return nil, store.ErrACLOff })
	}
}

// HandleACLSource sets the methods for secondary datacenters. While owns is false they
// say that this is one itself.
func (s *Set) HandleACLSource(src ACLSource, owns func() bool) {
	may := func() error {
		if owns() {
			return nil
		}
		return store.Errorf(store.KindInvalid, "datacenter %q does not own the ACLs: its own copy comes from another one, so primary_datacenter differs, or another datacenter was promoted", s.cfg.Datacenter)
	}
	ask := func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		if err := may(); err != nil {
			return nil, err
		}
		body, err := src.Ask(ctx, req.Method, req.Body, req.Query.Name)
		if err != nil {
			return nil, err
		}
		resp := s.response(req, 0)
		resp.Body = body
		return resp, nil
	}
	s.Handle(rpc.ACLTrees, ask)
	s.Handle(rpc.ACLLeaves, ask)
	s.Handle(rpc.ACLRows, ask)
	s.Handle(rpc.ACLFollow, func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		if err := may(); err != nil {
			return nil, err
		}
		resp := s.response(req, 0)
		resp.Stream = newFeed(ctx, s, req, func(ctx context.Context, w io.Writer, allowed func() error) error {
			return src.Follow(ctx, req.Body, req.Query.Name, w, func() error {
				if err := may(); err != nil {
					return err
				}
				return allowed()
			})
		})
		return resp, nil
	})
}

// feed is a stream of changes. The right to it is looked at again with each of them.
type feed struct {
	ctx    context.Context // ends with the set, or Close
	cancel context.CancelFunc
	set    *Set
	follow func(ctx context.Context, w io.Writer, may func() error) error
	req    *rpc.Request
	once   sync.Once
}

func newFeed(ctx context.Context, s *Set, req *rpc.Request, follow func(context.Context, io.Writer, func() error) error) *feed {
	ctx, cancel := context.WithCancel(ctx)
	return &feed{ctx: ctx, cancel: cancel, set: s, follow: follow, req: req}
}

// WriteTo writes changes until somebody ends it.
func (f *feed) WriteTo(w io.Writer) (int64, error) {
	ended := make(chan struct{})
	defer close(ended)
	go func() { // ends with WriteTo
		select {
		case <-f.set.stopc:
			f.cancel()
		case <-ended:
		}
	}()
	count := &counter{w: w}
	err := f.follow(f.ctx, count, func() error {
		if f.set.cfg.Tokens == nil {
			return nil
		}
		_, err := f.set.again(f.ctx, f.req, nil)
		return err
	})
	if f.ctx.Err() != nil {
		err = store.Errorf(store.KindUnreachable, "the stream of changes was ended here: %w", context.Cause(f.ctx))
	}
	return count.n, err
}

// Close ends the stream.
func (f *feed) Close() error {
	f.once.Do(f.cancel)
	return nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// HandleACLCopy sets the methods for operators of a secondary datacenter. Where primary
// names this one, they say that there is no copy.
func (s *Set) HandleACLCopy(copy ACLCopy, primary func() string) {
	now := func() ACLCopy {
		if primary() == s.cfg.Datacenter {
			return nil
		}
		return copy
	}
	answer := func(req *rpc.Request, v any) (*rpc.Response, error) {
		body, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		resp := s.response(req, 0)
		return resp, finish(req, resp, body)
	}
	s.Handle(rpc.ACLReplicationDetail, func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
		c := now()
		if c == nil {
			return answer(req, struct{ Enabled bool }{})
		}
		resp := s.response(req, 0)
		return resp, finish(req, resp, c.Detail())
	})
	none := store.Errorf(store.KindBadRequest, "datacenter %q has no copy of another datacenter's ACLs", s.cfg.Datacenter)
	s.Handle(rpc.ACLReplicationApprove, s.audited("approve-deletions", "", func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		c := now()
		if c == nil {
			return nil, none
		}
		n, err := c.Approve(ctx, req.Query.Name)
		if err != nil {
			return nil, err
		}
		return answer(req, struct{ Deleted int }{n})
	}))
	s.Handle(rpc.ACLReplicationUndo, s.audited("undo-deletions", "", func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		c := now()
		if c == nil {
			return nil, none
		}
		var since time.Time
		if req.Query.Name != "" {
			d, err := time.ParseDuration(req.Query.Name)
			if err != nil || d <= 0 {
				return nil, store.Errorf(store.KindBadRequest, "since=%q is not a duration like 90m", req.Query.Name)
			}
			since = time.Now().Add(-d)
		}
		done, err := c.Undo(ctx, since)
		if err != nil {
			return nil, err
		}
		return answer(req, done)
	}))
	ids := func(req *rpc.Request) []string {
		return strings.FieldsFunc(req.Query.Name, func(r rune) bool { return r == ',' })
	}
	reply := func(req *rpc.Request, body []byte, err error) (*rpc.Response, error) {
		if err != nil {
			return nil, err
		}
		resp := s.response(req, 0)
		return resp, finish(req, resp, body)
	}
	s.Handle(rpc.ACLUnseen, func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
		c := now()
		if c == nil {
			return answer(req, struct{ Primary string }{primary()})
		}
		return reply(req, c.Unseen(), nil)
	})
	s.Handle(rpc.ACLUnseenDiscard, s.audited("discard-unseen", "", func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		c := now()
		if c == nil {
			return nil, none
		}
		body, err := c.Discard(ctx, ids(req))
		return reply(req, body, err)
	}))
	s.Handle(rpc.ACLUnseenApply, s.audited("apply-unseen", "", func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		c := now()
		if c == nil {
			return nil, none
		}
		body, err := c.Reapply(ctx, ids(req), func(ctx context.Context, ch store.ACLChange) error {
			_, err := s.cfg.Remote.Do(ctx, &rpc.Request{Method: rpc.ACLReapply, Datacenter: primary(), SourceDC: s.cfg.Datacenter, Token: req.Token,
				Hops: req.Hops + 1, Body: ch.AppendWire(nil)})
			return err
		})
		return reply(req, body, err)
	}))
}
