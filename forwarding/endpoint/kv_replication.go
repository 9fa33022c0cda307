package endpoint

import (
	"context"
	"encoding/json"
	"io"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
)

// KVSource answers what datacenters with copies of our keys ask (acl_replication/kv).
type KVSource interface {
	// Prefix is what a question is about, which its asker has to be allowed to read.
	Prefix(question []byte) (string, error)
	// Follow writes changes to w until ctx ends or may, asked again and again, is an
	// error.
	Follow(ctx context.Context, question []byte, w io.Writer, may func() error) error
	Ask(ctx context.Context, m rpc.MethodID, question []byte) ([]byte, error)
}

// KVCopies are a datacenter's copies of keys of others, at its leader.
type KVCopies interface {
	Detail() []byte // json
	Approve(ctx context.Context, id string) (int, error)
}

// HandleKVReplication sets the methods of key replication.
func (s *Set) HandleKVReplication(src KVSource, copies KVCopies) {
	s.kvSource = src
	ask := func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		body, err := src.Ask(ctx, req.Method, req.Body)
		if err != nil {
			return nil, err
		}
		resp := s.response(req, 0)
		resp.Body = body
		return resp, nil
	}
	s.Handle(rpc.KVTrees, ask)
	s.Handle(rpc.KVLeaves, ask)
	s.Handle(rpc.KVRows, ask)
	s.Handle(rpc.KVFollow, func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		resp := s.response(req, 0)
		resp.Stream = newFeed(ctx, s, req, func(ctx context.Context, w io.Writer, may func() error) error {
			return src.Follow(ctx, req.Body, w, may)
		})
		return resp, nil
	})
	s.Handle(rpc.KVReplicationDetail, func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
		resp := s.response(req, 0)
		return resp, finish(req, resp, copies.Detail())
	})
	s.Handle(rpc.KVReplicationApprove, func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		n, err := copies.Approve(ctx, req.Query.Name)
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(struct{ Deleted int }{n})
		if err != nil {
			return nil, err
		}
		resp := s.response(req, 0)
		return resp, finish(req, resp, body)
	})
}

// mayCopyKeys needs the right to read all that there is or will be below the prefix:
// a key that is merely hidden would count as deleted.
func (s *Set) mayCopyKeys(who *acl.Bearer, req *rpc.Request) error {
	if s.kvSource == nil {
		return store.Errorf(store.KindInternal, "%s is not served", rpc.Lookup(req.Method).Name)
	}
	prefix, err := s.kvSource.Prefix(req.Body)
	if err != nil {
		return undecoded(req.Method, err)
	}
	want := acl.Read
	if s.cfg.KeyListPolicy {
		want = acl.List
	}
	return who.CheckBelow(acl.Key, prefix, want)
}
