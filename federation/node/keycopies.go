package node

import (
	"context"
	"io"
	"reflect"
	"sync"
	"time"

	"landbridge/acl_replication/kv"
	"landbridge/acl_replication/replica"
	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// KVCopy is one block of kv_replication: keys below Prefix of another datacenter are
// copied to below Target, but those that begin with one of Exclude.
type KVCopy struct {
	Source, Prefix, Target string
	Exclude                []string
}

// keyCopies are the copies of kv_replication. They run while this server leads.
type keyCopies struct {
	s       *server
	metrics *replica.Metrics
	changed chan struct{} // the blocks are others now

	mu      sync.Mutex
	blocks  []KVCopy
	running []*kv.Copy
}

func newKeyCopies(s *server) *keyCopies {
	return &keyCopies{s: s, blocks: s.n.cfg.KVReplication, changed: make(chan struct{}, 1),
		metrics: replica.NewMetrics(s.n.cfg.Registerer, replica.Words{Prefix: "landbridge_kv_replication_", Rows: "Keys", Source: "the source datacenter"})}
}

// run copies until ctx ends.
func (k *keyCopies) run(ctx context.Context) error {
	n := k.s.n
	for ctx.Err() == nil {
		round, cancel := context.WithCancel(ctx)
		var all sync.WaitGroup
		k.mu.Lock()
		for _, b := range k.blocks {
			c := kv.NewCopy(kv.Config{
				Block: kv.Block{Source: b.Source, Scope: kv.Scope{Prefix: b.Prefix, Exclude: b.Exclude}, Target: b.Target},
				State: k.s.state, Apply: k.s.raft.Apply, Remote: &keyRemote{n}, Metrics: k.metrics,
				Guard: func() replica.Guard { return replica.Guard(*n.guard.Load()) }, Logger: n.logger("kv-replication"),
			})
			k.running = append(k.running, c)
			all.Go(func() { c.Run(round) })
		}
		k.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-k.changed:
		}
		cancel()
		all.Wait()
		k.mu.Lock()
		k.running = nil
		k.mu.Unlock()
	}
	return nil
}

// reload replaces the blocks.
func (k *keyCopies) reload(blocks []KVCopy) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(blocks) == 0 && len(k.blocks) == 0 || reflect.DeepEqual(blocks, k.blocks) {
		return
	}
	k.blocks = blocks
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

func (k *keyCopies) copies() []*kv.Copy {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]*kv.Copy{}, k.running...)
}

// Detail says how all of them are doing.
func (k *keyCopies) Detail() []byte {
	list := []kv.Detail{}
	for _, c := range k.copies() {
		list = append(list, c.Detail(time.Now()))
	}
	return kv.JSON(list)
}

// Approve makes the held deletions with an id.
func (k *keyCopies) Approve(ctx context.Context, id string) (int, error) {
	for _, c := range k.copies() {
		if id != "" && c.HeldID() == id {
			return c.Approve(ctx, id)
		}
	}
	return 0, store.Errorf(store.KindConflict, "no deletions are held under the ID %q: look at the status again", id)
}

// keySource decodes what datacenters with copies ask.
type keySource struct{ s *kv.Source }

func (k keySource) Prefix(question []byte) (string, error) {
	var q kv.Question
	err := q.DecodeWire(question)
	return q.Prefix, err
}

func (k keySource) Follow(ctx context.Context, question []byte, w io.Writer, may func() error) error {
	var q kv.Question
	if err := q.DecodeWire(question); err != nil {
		return store.Errorf(store.KindInvalid, "KV.Follow: %w", err)
	}
	return k.s.Follow(ctx, &q, w, may)
}

func (k keySource) Ask(ctx context.Context, m rpc.MethodID, question []byte) ([]byte, error) {
	var q kv.Question
	if err := q.DecodeWire(question); err != nil {
		return nil, store.Errorf(store.KindInvalid, "%s: %w", rpc.Lookup(m).Name, err)
	}
	switch m {
	case rpc.KVTrees:
		t, err := k.s.Trees(ctx, &q)
		if err != nil {
			return nil, err
		}
		return t.AppendWire(nil), nil
	case rpc.KVLeaves:
		l, err := k.s.Leaves(ctx, &q)
		if err != nil {
			return nil, err
		}
		return l.AppendWire(nil), nil
	}
	r, err := k.s.Rows(ctx, &q)
	if err != nil {
		return nil, err
	}
	return r.AppendWire(nil), nil
}

// keyRemote asks a source through the dispatcher, with the replication token.
type keyRemote struct{ n *Node }

var keyQuestions = [...]rpc.MethodID{kv.AskTrees: rpc.KVTrees, kv.AskLeaves: rpc.KVLeaves, kv.AskRows: rpc.KVRows}

func (r *keyRemote) do(ctx context.Context, m rpc.MethodID, dc string, question []byte) (*rpc.Response, error) {
	return r.n.dispatcher.Do(ctx, &rpc.Request{Method: m, Datacenter: dc, Token: r.n.tokens.now().Replication, Representation: rpc.Records, Body: question, NoHold: true})
}

func (r *keyRemote) Follow(ctx context.Context, dc string, question []byte, w io.Writer) error {
	resp, err := r.do(ctx, rpc.KVFollow, dc, question)
	if err != nil {
		return err
	}
	if resp.Stream == nil {
		return store.Errorf(store.KindInternal, "KV.Follow was answered without a stream")
	}
	_, err = resp.Stream.WriteTo(w)
	resp.Stream.Close()
	return err
}

func (r *keyRemote) Ask(ctx context.Context, dc string, what kv.Asks, question []byte) ([]byte, error) {
	resp, err := r.do(ctx, keyQuestions[what], dc, question)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
