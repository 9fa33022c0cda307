package kv

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"time"

	"landbridge/acl_replication/replica"
	"landbridge/store"
	"landbridge/store/state"
)

// Block is one entry of kv_replication.
type Block struct {
	Source string // datacenter
	Scope
	Target string // prefix here
}

// ID names what is copied by a block, wherever it is excluded from.
func (b *Block) ID() string { return b.Source + "\x00" + b.Prefix + "\x00" + b.Target }

// Asks is what Remote asks a source.
type Asks uint8

const (
	AskTrees Asks = iota
	AskLeaves
	AskRows
)

// Remote reaches the leader of a source, with the replication token.
type Remote interface {
	// Follow writes the bytes of the source's stream to w until it ends.
	Follow(ctx context.Context, dc string, question []byte, w io.Writer) error
	Ask(ctx context.Context, dc string, what Asks, question []byte) ([]byte, error)
}

// Config is what a Copy needs.
type Config struct {
	Block   Block
	State   *state.Store
	Apply   func(ctx context.Context, cmd store.Command) (store.Result, error)
	Remote  Remote
	Guard   func() replica.Guard
	Logger  *slog.Logger
	Metrics *replica.Metrics
}

// Copy keeps the copy of one block.
type Copy struct {
	cfg      Config
	follower *replica.Follower
}

// NewCopy returns a Copy.
func NewCopy(cfg Config) *Copy {
	c := &Copy{cfg: cfg}
	c.follower = replica.New(replica.Config{Source: source{&c.cfg}, Sink: sink{&c.cfg}, Kinds: []replica.Kind{theKind},
		Guard: cfg.Guard, Logger: cfg.Logger.With("source", cfg.Block.Source, "target", cfg.Block.Target), Metrics: cfg.Metrics})
	return c
}

// Run copies until ctx ends, which is when this server leads no more.
func (c *Copy) Run(ctx context.Context) {
	defer c.cfg.Metrics.Forget(c.follower)
	c.follower.Run(ctx)
}

// Approve makes the held deletions with an id.
func (c *Copy) Approve(ctx context.Context, id string) (int, error) {
	return c.follower.Approve(ctx, id)
}

// HeldID names the deletions that wait, "" if none do.
func (c *Copy) HeldID() string { return c.follower.Status().HeldID }

// Detail is how one block is doing.
type Detail struct {
	SourceDatacenter, Prefix, Target string
	Exclude                          []string
	Running, Connected, Healthy      bool
	SourceCluster, SourceHistory     string
	Position, SourcePosition         uint64
	LagSeconds                       float64
	LastSuccess, LastError           time.Time
	LastErrorMessage                 string
	LastProof                        time.Time
	Held                             int
	HeldID                           string // what approve names
	HeldReason                       string
	HeldSince                        time.Time
	HeldKeys                         []string // here; the first 1000
}

// mostShown bounds the held deletions that a status lists.
const mostShown = 1000

// Detail tells all there is to know. now is the time of the answer.
func (c *Copy) Detail(now time.Time) Detail {
	st, b := c.follower.Status(), &c.cfg.Block
	d := Detail{
		SourceDatacenter: b.Source, Prefix: b.Prefix, Target: b.Target, Exclude: append([]string{}, b.Exclude...),
		Running: st.Running, Connected: st.Connected, Healthy: st.Running && st.Healthy(),
		SourceCluster: st.Cursor.Cluster, SourceHistory: st.Cursor.History,
		Position: st.Cursor.Position, SourcePosition: max(st.Top, st.Cursor.Position), LagSeconds: st.Lag(now).Seconds(),
		LastSuccess: st.LastSuccess.UTC(), LastError: st.LastError.UTC(), LastErrorMessage: st.LastErrorMessage, LastProof: st.LastProof.UTC(),
		Held: len(st.Held), HeldID: st.HeldID, HeldReason: st.Cursor.Fence, HeldKeys: []string{},
	}
	if d.Held > 0 {
		d.HeldSince = c.cfg.State.KVReplica(b.ID()).FencedAt
	}
	for _, k := range st.Held[:min(len(st.Held), mostShown)] {
		d.HeldKeys = append(d.HeldKeys, b.Target+k.ID)
	}
	return d
}

// JSON is the details as they are answered.
func JSON(list []Detail) []byte {
	b, _ := json.Marshal(list) // plain fields: it cannot fail
	return b
}

// source asks the other datacenter.
type source struct{ cfg *Config }

func (s source) question(ask replica.Ask) []byte {
	q := Question{Scope: s.cfg.Block.Scope, Ask: ask}
	return q.AppendWire(nil)
}

func (s source) Follow(ctx context.Context, from replica.Cursor, each func(*replica.Batch) error) error {
	ask := replica.Ask{Cursor: replica.Cursor{Epoch: from.Epoch, Position: from.Position}}
	return s.cfg.Remote.Follow(ctx, s.cfg.Block.Source, s.question(ask), &replica.BatchReader{Each: each})
}

func (s source) ask(ctx context.Context, what Asks, ask replica.Ask, into interface{ DecodeWire([]byte) error }) error {
	b, err := s.cfg.Remote.Ask(ctx, s.cfg.Block.Source, what, s.question(ask))
	if err != nil {
		return err
	}
	return into.DecodeWire(b)
}

func (s source) Trees(ctx context.Context) (*replica.Trees, error) {
	t := new(replica.Trees)
	return t, s.ask(ctx, AskTrees, replica.Ask{}, t)
}

func (s source) Leaves(ctx context.Context, kind replica.Kind, bits uint8, leaves []uint32) (*replica.Listing, error) {
	l := new(replica.Listing)
	return l, s.ask(ctx, AskLeaves, replica.Ask{Kind: kind, Bits: bits, Leaves: leaves}, l)
}

func (s source) Rows(ctx context.Context, keys []replica.Key) (*replica.Rows, error) {
	r := new(replica.Rows)
	return r, s.ask(ctx, AskRows, replica.Ask{Keys: keys}, r)
}

// sink writes through consensus.
type sink struct{ cfg *Config }

func (k sink) Cursor() replica.Cursor {
	r := k.cfg.State.KVReplica(k.cfg.Block.ID())
	return replica.Cursor{Epoch: replica.Epoch{Cluster: r.ClusterID, History: r.HistoryID}, Position: uint64(r.Position), Fence: r.Fence, FencedAt: r.FencedAt}
}

// Known: nobody says what a source of keys had.
func (k sink) Known(replica.Key) bool { return false }

func (k sink) Scan(_ replica.Kind, each func(id string, d replica.Digest)) {
	scan(k.cfg.State.KVView(), k.cfg.Block.Target, &k.cfg.Block.Scope, each)
}

func (k sink) Keep(replica.Key) bool { return false }

const (
	applyBytes = 256 << 10 // of a command, unless one value is larger
	applyRows  = 512
	applyTime  = 30 * time.Second
)

// Apply writes rows in commands of a bounded size. All but the last one leave the
// position where it was.
func (k sink) Apply(ctx context.Context, rows []replica.Row, c replica.Cursor) (refused []replica.Refusal, err error) {
	b := &k.cfg.Block
	before := k.cfg.State.KVReplica(b.ID())
	var changes []store.KVChange
	size := 0
	for i := range rows {
		r := &rows[i]
		if !b.has(b.Prefix + r.ID) {
			continue
		}
		ch := store.KVChange{Key: b.Target + r.ID, Delete: r.Data == nil}
		if !ch.Delete {
			if ch.Value, ch.Flags, err = decodeRow(r.Data); err != nil {
				refused = append(refused, replica.Refusal{Key: r.Key, Err: err})
				continue
			}
		}
		if size += len(ch.Value) + len(ch.Key) + 16; len(changes) > 0 && (size > applyBytes || len(changes) >= applyRows) {
			if err := k.apply(ctx, changes, before); err != nil {
				return refused, err
			}
			before.Version++
			changes, size = nil, len(ch.Value)
		}
		changes = append(changes, ch)
	}
	return refused, k.apply(ctx, changes, store.KVReplica{Version: before.Version, ClusterID: c.Cluster, HistoryID: c.History,
		Position: store.Index(c.Position), Fence: c.Fence, FencedAt: c.FencedAt})
}

func (k sink) apply(ctx context.Context, changes []store.KVChange, r store.KVReplica) error {
	ctx, cancel := context.WithTimeout(ctx, applyTime)
	defer cancel()
	cmd := store.KVReplicateCommand{Of: k.cfg.Block.ID(), Changes: changes, Replica: r}
	res, err := k.cfg.Apply(ctx, store.Command{Kind: store.CmdKVReplicate, Payload: cmd.AppendWire(nil)})
	if err == nil && res.Err != nil {
		err = res.Err
	}
	return err
}
