package aclreplication

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"landbridge/acl_replication/replica"
	"landbridge/store"
	"landbridge/store/state"
)

// Primary answers what secondary datacenters ask.
type Primary struct {
	state *state.Store
	raft  replica.Leadership
	log   *slog.Logger

	mu    sync.Mutex
	trees map[Tokens]*cachedTrees
}

// cachedTrees are the trees of the last view that was hashed.
type cachedTrees struct {
	version uint64
	epoch   replica.Epoch
	kinds   []replica.Tree
}

const (
	// beat is how often a stream says something.
	beat = 3 * time.Second
	// proofEvery is how often it proves that the copy is equal; firstProof is when it
	// does for the first time.
	proofEvery = 15 * time.Second
	firstProof = 2 * time.Second
	feedEvents = 512
	feedBytes  = 64 << 10
	rowsBytes  = 512 << 10
)

// NewPrimary returns a Primary.
func NewPrimary(st *state.Store, raft replica.Leadership, log *slog.Logger) *Primary {
	return &Primary{state: st, raft: raft, log: log, trees: map[Tokens]*cachedTrees{}}
}

func epochOf(c store.Cluster) replica.Epoch {
	return replica.Epoch{Cluster: c.ID, History: c.HistoryID}
}

// Follow writes the stream of changes after a position to w until ctx ends, may
// fails, or the position is lost, which the last batch says.
func (p *Primary) Follow(ctx context.Context, ask *replica.Ask, tokens Tokens, w io.Writer, may func() error) error {
	watch := p.state.NewWatch()
	defer watch.Close()
	at := store.Index(ask.Position)
	due := true // something has to be said, if only that we are here
	proof := time.NewTimer(firstProof)
	defer proof.Stop()
	var view *state.ACLView // set when a proof is due
	for {
		var feed state.ACLFeed
		err := replica.Surely(ctx, p.raft, func() { feed = p.state.ACLFeed(watch, at, feedEvents, view) })
		if err != nil {
			return err
		}
		b := replica.Batch{Epoch: epochOf(feed.Cluster), Position: uint64(feed.UpTo), Top: uint64(max(feed.UpTo, p.state.Index()))}
		if !feed.Whole || b.Epoch != ask.Epoch {
			b.Lost = true
			return replica.WriteBatch(w, &b)
		}
		if !feed.More {
			b.Top, b.Marked = b.Position, true
			b.Marks = [3]uint64{uint64(feed.Policies), uint64(feed.Roles), uint64(feed.Tokens)}
		}
		from := view
		if from == nil && len(feed.Events) > 0 {
			from = p.state.ACLView()
		}
		if from != nil && epochOf(from.Cluster) != b.Epoch {
			continue // restored meanwhile: what is lacking now was not deleted
		}
		b.Rows = rows(feed.Events, tokens, from)
		prove := view != nil && !feed.More
		if prove {
			for _, t := range p.hash(view, tokens) {
				b.Proof = append(b.Proof, t.Root)
			}
			view = nil
			proof.Reset(proofEvery + rand.N(proofEvery/8))
		}
		if due || len(b.Rows) > 0 || prove {
			if err := replica.WriteBatches(w, &b, feedBytes); err != nil {
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
			view = p.state.ACLView()
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

// rows are the records that events are about, each once, as they are in the view.
// What is local, and what is gone, is not there.
func rows(events []state.ACLEvent, tokens Tokens, v *state.ACLView) []replica.Row {
	if len(events) == 0 {
		return nil
	}
	seen := make(map[replica.Key]bool, len(events))
	var list []replica.Row
	add := func(kind store.ACLKind, id string) {
		k := replica.Key{Kind: replica.Kind(kind), ID: id}
		if seen[k] || kind == store.ACLTokens && tokens == NoTokens {
			return
		}
		seen[k] = true
		r := v.Record(kind, id)
		if t, ok := r.(*store.ACLToken); ok && t.Local {
			return // there was no global one by this name: accessors are not used again
		}
		row := replica.Row{Key: k}
		if shared(v, r) {
			row.Data = sent(r, tokens)
		}
		list = append(list, row)
	}
	for _, e := range events {
		add(e.Kind, e.Key)
		if e.Kind == store.ACLAuthMethods {
			// Its rules are shared or not as it is.
			v.Scan(store.ACLBindingRules, func(key string, r store.ACLRecord) {
				if rule, ok := r.(*store.ACLBindingRule); ok && methodKey(rule) == e.Key {
					add(store.ACLBindingRules, key)
				}
			})
		}
	}
	return list
}

// hash returns the trees of a view, made once for all who ask.
func (p *Primary) hash(v *state.ACLView, tokens Tokens) []replica.Tree {
	p.mu.Lock()
	defer p.mu.Unlock()
	epoch := epochOf(v.Cluster)
	if c := p.trees[tokens]; c != nil && c.version == v.Version && c.epoch == epoch {
		return c.kinds
	}
	c := &cachedTrees{version: v.Version, epoch: epoch}
	for _, k := range kinds(tokens) {
		c.kinds = append(c.kinds, replica.BuildTree(k, -1, func(each func(string, replica.Digest)) { scan(v, k, tokens, each) }))
	}
	p.trees[tokens] = c
	return c.kinds
}

func (p *Primary) view(ctx context.Context) (v *state.ACLView, err error) {
	err = replica.Surely(ctx, p.raft, func() { v = p.state.ACLView() })
	return v, err
}

// Trees answers with the trees of all kinds.
func (p *Primary) Trees(ctx context.Context, tokens Tokens) (*replica.Trees, error) {
	v, err := p.view(ctx)
	if err != nil {
		return nil, err
	}
	return &replica.Trees{
		Epoch: epochOf(v.Cluster), Position: uint64(v.Index),
		Marks: [3]uint64{uint64(v.Policies), uint64(v.Roles), uint64(v.Tokens)}, Kinds: p.hash(v, tokens),
	}, nil
}

// may refuses kinds that the right to read policies does not cover.
func mayAsk(kind replica.Kind, tokens Tokens) error {
	for _, k := range kinds(tokens) {
		if k == kind {
			return nil
		}
	}
	return store.Errorf(store.KindInvalid, "records of kind %d are not replicated", kind)
}

// Leaves lists what some leaves hold.
func (p *Primary) Leaves(ctx context.Context, ask *replica.Ask, tokens Tokens) (*replica.Listing, error) {
	if err := mayAsk(ask.Kind, tokens); err != nil {
		return nil, err
	}
	v, err := p.view(ctx)
	if err != nil {
		return nil, err
	}
	in := make(map[uint32]bool, len(ask.Leaves))
	for _, l := range ask.Leaves {
		in[l] = true
	}
	list := &replica.Listing{Epoch: epochOf(v.Cluster), Position: uint64(v.Index)}
	scan(v, ask.Kind, tokens, func(id string, d replica.Digest) {
		if in[replica.LeafOf(id, ask.Bits)] {
			list.Entries = append(list.Entries, replica.Entry{ID: id, Digest: d})
		}
	})
	return list, nil
}

// Rows answers with records, the first of those that were asked for.
func (p *Primary) Rows(ctx context.Context, ask *replica.Ask, tokens Tokens) (*replica.Rows, error) {
	for _, k := range ask.Keys {
		if err := mayAsk(k.Kind, tokens); err != nil {
			return nil, err
		}
	}
	v, err := p.view(ctx)
	if err != nil {
		return nil, err
	}
	rows := &replica.Rows{Epoch: epochOf(v.Cluster), Position: uint64(v.Index)}
	size := 0
	for _, k := range ask.Keys {
		row := replica.Row{Key: k}
		if r := v.Record(store.ACLKind(k.Kind), k.ID); shared(v, r) {
			row.Data = sent(r, tokens)
		}
		rows.Rows = append(rows.Rows, row)
		if size += len(row.Data) + len(k.ID); size > rowsBytes {
			break
		}
	}
	return rows, nil
}
