package node

import (
	"context"
	"io"
	"time"

	aclreplication "landbridge/acl_replication"
	"landbridge/acl_replication/kv"
	"landbridge/acl_replication/replica"
	"landbridge/forwarding/endpoint"
	"landbridge/forwarding/rpc"
	"landbridge/lan/leader"
	"landbridge/store"
)

// newReplication builds this server's part in key replication, and in that of ACLs:
// what it answers to other datacenters, and what it copies as a leader. ACLs are not
// replicated while they are off.
func (s *server) newReplication(set *endpoint.Set) {
	n, cfg := s.n, &s.n.cfg
	s.keys = newKeyCopies(s)
	set.HandleKVReplication(keySource{kv.NewSource(s.state, s.raft)}, s.keys)
	if !cfg.ACL.Enabled {
		set.HandleReplicationOff()
		return
	}
	s.copy = aclreplication.New(aclreplication.Config{
		Datacenter: cfg.Datacenter, Primary: s.aclPrimary, Tokens: cfg.ACL.copied(), State: s.state, Apply: s.raft.Apply,
		Remote: &aclRemote{n, s.aclPrimary}, Guard: func() replica.Guard { return replica.Guard(*n.guard.Load()) },
		Logger: n.logger("acl-replication"), Registerer: cfg.Registerer,
	})
	set.HandleACLSource(aclSource{aclreplication.NewPrimary(s.state, s.raft, n.logger("acl-replication"))}, s.ownsACLs)
	set.HandleACLCopy(aclCopy{s.copy}, s.aclPrimary)
}

// replicationLoops are what a leader copies from other datacenters.
func (s *server) replicationLoops() []leader.Task {
	loops := []leader.Task{{Name: "key replication", Run: s.keys.run}}
	if s.copy != nil {
		loops = append(loops, leader.Task{Name: "ACL replication", Run: s.copyACLs})
	}
	return loops
}

// replicationStatus is what clients know as the status of replication.
func (s *server) replicationStatus() store.ACLReplication {
	if s.copy == nil || s.ownsACLs() {
		return store.ACLReplication{}
	}
	st := s.copy.Status()
	return store.ACLReplication{
		Enabled: true, Running: st.Running, SourceDatacenter: s.aclPrimary(), ReplicationType: s.copy.Type(),
		ReplicatedIndex: st.Cursor.Marks[0], ReplicatedRoleIndex: st.Cursor.Marks[1], ReplicatedTokenIndex: st.Cursor.Marks[2],
		LastSuccess: st.LastSuccess, LastError: st.LastError, LastErrorMessage: st.LastErrorMessage,
	}
}

// aclCopy is what operators see.
type aclCopy struct{ *aclreplication.Secondary }

func (c aclCopy) Detail() []byte {
	d := c.Secondary.Detail(time.Now())
	return d.JSON()
}

func (c aclCopy) Unseen() []byte {
	l := c.Secondary.Unseen()
	return l.JSON()
}

func (c aclCopy) Reapply(ctx context.Context, ids []string, write func(context.Context, store.ACLChange) error) ([]byte, error) {
	done, err := c.Secondary.Reapply(ctx, ids, write)
	return done.JSON(), err
}

func (c aclCopy) Discard(ctx context.Context, ids []string) ([]byte, error) {
	done, err := c.Secondary.Discard(ctx, ids)
	return done.JSON(), err
}

// aclSource decodes what secondary datacenters ask.
type aclSource struct{ p *aclreplication.Primary }

func (a aclSource) Follow(ctx context.Context, raw []byte, what string, w io.Writer, may func() error) error {
	var ask replica.Ask
	if err := ask.DecodeWire(raw); err != nil {
		return store.Errorf(store.KindInvalid, "ACL.Follow: %w", err)
	}
	return a.p.Follow(ctx, &ask, asked(what), w, may)
}

func asked(what string) aclreplication.Tokens {
	switch what {
	case rpc.ReplicateTokens:
		return aclreplication.Secrets
	case rpc.ReplicateHashes:
		return aclreplication.Hashes
	}
	return aclreplication.NoTokens
}

func (a aclSource) Ask(ctx context.Context, m rpc.MethodID, raw []byte, what string) ([]byte, error) {
	var ask replica.Ask
	if err := ask.DecodeWire(raw); err != nil {
		return nil, store.Errorf(store.KindInvalid, "%s: %w", rpc.Lookup(m).Name, err)
	}
	tokens := asked(what)
	switch m {
	case rpc.ACLTrees:
		t, err := a.p.Trees(ctx, tokens)
		if err != nil {
			return nil, err
		}
		return t.AppendWire(nil), nil
	case rpc.ACLLeaves:
		l, err := a.p.Leaves(ctx, &ask, tokens)
		if err != nil {
			return nil, err
		}
		return l.AppendWire(nil), nil
	}
	r, err := a.p.Rows(ctx, &ask, tokens)
	if err != nil {
		return nil, err
	}
	return r.AppendWire(nil), nil
}

// aclRemote asks the primary datacenter through the dispatcher, as any request goes
// there, with the replication token.
type aclRemote struct {
	n       *Node
	primary func() string
}

var questions = [...]rpc.MethodID{aclreplication.AskTrees: rpc.ACLTrees, aclreplication.AskLeaves: rpc.ACLLeaves, aclreplication.AskRows: rpc.ACLRows}

func (r *aclRemote) request(m rpc.MethodID, ask []byte, tokens aclreplication.Tokens) *rpc.Request {
	req := &rpc.Request{Method: m, Datacenter: r.primary(), Token: r.n.tokens.now().Replication, Representation: rpc.Records, Body: ask, NoHold: true}
	switch tokens {
	case aclreplication.Secrets:
		req.Query.Name = rpc.ReplicateTokens
	case aclreplication.Hashes:
		req.Query.Name = rpc.ReplicateHashes
	}
	return req
}

func (r *aclRemote) Follow(ctx context.Context, ask []byte, tokens aclreplication.Tokens, w io.Writer) error {
	resp, err := r.n.dispatcher.Do(ctx, r.request(rpc.ACLFollow, ask, tokens))
	if err != nil {
		return err
	}
	if resp.Stream == nil {
		return store.Errorf(store.KindInternal, "ACL.Follow was answered without a stream")
	}
	_, err = resp.Stream.WriteTo(w)
	resp.Stream.Close()
	return err
}

func (r *aclRemote) Ask(ctx context.Context, q aclreplication.Question, ask []byte, tokens aclreplication.Tokens) ([]byte, error) {
	resp, err := r.n.dispatcher.Do(ctx, r.request(questions[q], ask, tokens))
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
