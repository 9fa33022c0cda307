package kv

import (
	"context"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"landbridge/acl_replication/replica"
	"landbridge/store"
	"landbridge/store/state"
)

// Source answers what other datacenters ask.
type Source struct {
	state *state.Store
	raft  replica.Leadership
}

const (
	// beat is how often a stream says something.
	beat = 3 * time.Second
	// proofEvery is how often it proves that the copy is equal, which reads all of it;
	// firstProof is when it does for the first time.
	proofEvery = 30 * time.Second
	firstProof = 2 * time.Second
	feedRows   = 512
	batchBytes = 256 << 10
	rowsBytes  = 1 << 20
)

// NewSource returns a Source.
func NewSource(st *state.Store, raft replica.Leadership) *Source { return &Source{st, raft} }

func epochOf(c store.Cluster) replica.Epoch {
	return replica.Epoch{Cluster: c.ID, History: c.HistoryID}
}

// Follow writes the stream of changes after a position to w until ctx ends, may
// fails, or the position is lost, which the last batch says.
func (s *Source) Follow(ctx context.Context, q *Question, w io.Writer, may func() error) error {
	watch := s.state.NewWatch()
	defer watch.Close()
	at := store.Index(q.Ask.Position)
	due := true // something has to be said, if only that we are here
	proof := time.NewTimer(firstProof)
	defer proof.Stop()
	var view *state.KVView // set when a proof is due
	for {
		var feed state.KVFeed
		err := replica.Surely(ctx, s.raft, func() { feed = s.state.KVFeed(watch, q.Prefix, at, feedRows, view) })
		if err != nil {
			return err
		}
		b := replica.Batch{Epoch: epochOf(feed.Cluster), Position: uint64(feed.UpTo), Top: uint64(max(feed.UpTo, s.state.Index()))}
		if !feed.Whole || b.Epoch != q.Ask.Epoch {
			b.Lost = true
			return replica.WriteBatch(w, &b)
		}
		if view != nil && epochOf(view.Cluster) != b.Epoch {
			view = nil // restored meanwhile: what is lacking in it was not deleted
			continue
		}
		if !feed.More {
			b.Top = b.Position
		}
		for _, r := range feed.Rows {
			if q.has(r.Key) {
				b.Rows = append(b.Rows, travelling(r.Key[len(q.Prefix):], r.Entry))
			}
		}
		prove := view != nil && !feed.More
		if prove {
			b.Proof = []replica.Root{s.tree(view, &q.Scope).Root}
			view = nil
			proof.Reset(proofEvery + rand.N(proofEvery/8))
		}
		if due || len(b.Rows) > 0 || prove {
			if err := replica.WriteBatches(w, &b, batchBytes); err != nil {
				return err
			}
		}
		at, due = feed.UpTo, false
		if feed.More {
			continue
		}
		wait := time.NewTimer(beat)
		select {
		case <-watch.C():
		case <-wait.C:
			due = true
		case <-proof.C:
			view = s.state.KVView()
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		wait.Stop()
		if err != nil {
			return err
		}
		if err := may(); err != nil {
			return err
		}
	}
}

func travelling(id string, e *store.KVEntry) replica.Row {
	r := replica.Row{Key: replica.Key{Kind: theKind, ID: id}}
	if e != nil {
		r.Data = row(e)
	}
	return r
}

func (s *Source) tree(v *state.KVView, scope *Scope) replica.Tree {
	return replica.BuildTree(theKind, -1, func(each func(string, replica.Digest)) { scan(v, scope.Prefix, scope, each) })
}

func (s *Source) view(ctx context.Context) (v *state.KVView, err error) {
	err = replica.Surely(ctx, s.raft, func() { v = s.state.KVView() })
	return v, err
}

// Trees answers with the tree of all keys.
func (s *Source) Trees(ctx context.Context, q *Question) (*replica.Trees, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	return &replica.Trees{Epoch: epochOf(v.Cluster), Position: uint64(v.Index), Kinds: []replica.Tree{s.tree(v, &q.Scope)}}, nil
}

// Leaves lists what some leaves hold.
func (s *Source) Leaves(ctx context.Context, q *Question) (*replica.Listing, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	in := make(map[uint32]bool, len(q.Ask.Leaves))
	for _, l := range q.Ask.Leaves {
		in[l] = true
	}
	list := &replica.Listing{Epoch: epochOf(v.Cluster), Position: uint64(v.Index)}
	v.Scan(q.Prefix, func(e *store.KVEntry) {
		if id := e.Key[len(q.Prefix):]; q.has(e.Key) && in[replica.LeafOf(id, q.Ask.Bits)] {
			list.Entries = append(list.Entries, replica.Entry{ID: id, Digest: digest(e)})
		}
	})
	return list, nil
}

// Rows answers with keys, the first of those that were asked for.
func (s *Source) Rows(ctx context.Context, q *Question) (*replica.Rows, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	rows := &replica.Rows{Epoch: epochOf(v.Cluster), Position: uint64(v.Index)}
	size := 0
	for _, k := range q.Ask.Keys {
		var e *store.KVEntry
		if key := q.Prefix + k.ID; q.has(key) && strings.HasPrefix(key, q.Prefix) {
			e = v.Get(key)
		}
		r := travelling(k.ID, e)
		rows.Rows = append(rows.Rows, r)
		if size += len(r.Data) + len(k.ID); size > rowsBytes {
			break
		}
	}
	return rows, nil
}
