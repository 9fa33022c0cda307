package aclreplication

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/acl_replication/replica"
	"landbridge/store"
	"landbridge/store/state"
)

// Question is what Remote asks the primary.
type Question uint8

const (
	AskTrees Question = iota
	AskLeaves
	AskRows
)

// Remote reaches the leader of the primary datacenter, with the replication token.
// Secrets need more rights than Hashes.
type Remote interface {
	// Follow writes the bytes of the primary's stream to w until it ends.
	Follow(ctx context.Context, ask []byte, tokens Tokens, w io.Writer) error
	Ask(ctx context.Context, q Question, ask []byte, tokens Tokens) ([]byte, error)
}

// Config is what a Secondary needs.
type Config struct {
	Datacenter string
	Primary    func() string // the datacenter that is copied, asked anew at each use
	Tokens     Tokens        // acl.enable_token_replication, acl.replicate_secrets
	State      *state.Store
	Apply      func(ctx context.Context, cmd store.Command) (store.Result, error)
	Remote     Remote
	Guard      func() replica.Guard

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Secondary keeps this datacenter's copy.
type Secondary struct {
	cfg      Config
	follower *replica.Follower
}

// New returns a Secondary.
func New(cfg Config) *Secondary {
	s := &Secondary{cfg: cfg}
	s.follower = replica.New(replica.Config{
		Source: &source{cfg.Remote, cfg.Tokens}, Sink: &sink{&s.cfg}, Kinds: kinds(cfg.Tokens),
		Guard: cfg.Guard, Logger: cfg.Logger, Metrics: replica.NewMetrics(cfg.Registerer, replica.Words{Prefix: "landbridge_acl_replication_", Rows: "ACL records", Source: "the primary"}),
	})
	cfg.Registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "landbridge_acl_replication_unseen_changes",
		Help: "Changes from before a promotion that the promoted primary never saw, kept until an operator brings them over or discards them.",
	}, func() float64 { return float64(len(cfg.State.ACLUnseen())) }))
	for i, kind := range []string{"policies", "roles", "tokens"} {
		cfg.Registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "landbridge_acl_replication_source_index", ConstLabels: prometheus.Labels{"kind": kind},
			Help: "Index that a table of the primary had when it was copied last, at the leader.",
		}, func() float64 {
			st := s.follower.Status()
			return float64(st.Cursor.Marks[i])
		}))
	}
	return s
}

// Run replicates until ctx ends, which is when this server leads no more.
func (s *Secondary) Run(ctx context.Context) error {
	s.follower.Run(ctx)
	return nil
}

// Approve makes the held deletions with an id.
func (s *Secondary) Approve(ctx context.Context, id string) (int, error) {
	return s.follower.Approve(ctx, id)
}

// undoFence is the reason that the status shows after an Undo.
const undoFence = "deletions were undone here: the records are not in the primary"

// Undo brings back what replication deleted since a time, the zero one being as
// long as anything is kept. The records are held until the primary has them too, or
// their deletion is approved.
func (s *Secondary) Undo(ctx context.Context, since time.Time) (done store.ACLUndone, err error) {
	undo := &store.ACLUndo{Fence: undoFence}
	if !since.IsZero() {
		undo.Since = since.UnixNano()
	}
	cmd := store.ACLCommand{Undo: undo}
	err = s.follower.Change(ctx, func() error {
		res, err := s.cfg.Apply(ctx, store.Command{Kind: store.CmdACL, Payload: cmd.AppendWire(nil)})
		if err == nil && res.Err != nil {
			err = res.Err
		}
		if err != nil {
			return err
		}
		done, _ = res.Value.(store.ACLUndone)
		return nil
	})
	return done, err
}

// source asks the primary.
type source struct {
	remote Remote
	tokens Tokens
}

func (s *source) Follow(ctx context.Context, from replica.Cursor, each func(*replica.Batch) error) error {
	ask := replica.Ask{Cursor: replica.Cursor{Epoch: from.Epoch, Position: from.Position}}
	return s.remote.Follow(ctx, ask.AppendWire(nil), s.tokens, &replica.BatchReader{Each: each})
}

func (s *source) ask(ctx context.Context, q Question, ask replica.Ask, into interface{ DecodeWire([]byte) error }) error {
	b, err := s.remote.Ask(ctx, q, ask.AppendWire(nil), s.tokens)
	if err != nil {
		return err
	}
	return into.DecodeWire(b)
}

func (s *source) Trees(ctx context.Context) (*replica.Trees, error) {
	t := new(replica.Trees)
	return t, s.ask(ctx, AskTrees, replica.Ask{}, t)
}

func (s *source) Leaves(ctx context.Context, kind replica.Kind, bits uint8, leaves []uint32) (*replica.Listing, error) {
	l := new(replica.Listing)
	return l, s.ask(ctx, AskLeaves, replica.Ask{Kind: kind, Bits: bits, Leaves: leaves}, l)
}

func (s *source) Rows(ctx context.Context, keys []replica.Key) (*replica.Rows, error) {
	r := new(replica.Rows)
	return r, s.ask(ctx, AskRows, replica.Ask{Keys: keys}, r)
}

// sink writes through consensus.
type sink struct{ cfg *Config }

// Cursor is nothing while what was copied is not what is to be copied: from another
// datacenter, or without tokens.
func (k *sink) Cursor() replica.Cursor {
	r := k.cfg.State.ACLReplica()
	c := replica.Cursor{Fence: r.Fence, FencedAt: r.FencedAt}
	if k.cfg.Tokens != NoTokens && !r.WithTokens {
		return c
	}
	if p := k.promotion(); p != nil && r.Datacenter == p.Former && !k.ahead(&r) {
		// It had all that is here when it was promoted: what it lacks now, it deleted.
		c.Epoch = replica.Epoch{Cluster: p.Cluster, History: p.History}
		return c
	}
	if r.Datacenter != k.cfg.Primary() {
		return c
	}
	c.Epoch = replica.Epoch{Cluster: r.ClusterID, History: r.HistoryID}
	c.Position = uint64(r.Position)
	c.Marks = [3]uint64{uint64(r.Policies), uint64(r.Roles), uint64(r.Tokens)}
	return c
}

func (k *sink) Scan(kind replica.Kind, each func(id string, d replica.Digest)) {
	scan(k.cfg.State.ACLView(), kind, Secrets, each)
}

// Keep: what every datacenter has, and nobody can delete.
func (k *sink) Keep(key replica.Key) bool {
	switch store.ACLKind(key.Kind) {
	case store.ACLTokens:
		return key.ID == store.AnonymousAccessor
	case store.ACLPolicies:
		return store.BuiltinPolicy(key.ID)
	}
	return false
}

const (
	applyBytes = 128 << 10 // of a command
	applyRows  = 512
	applyTime  = 30 * time.Second
)

// Apply writes rows in commands of a bounded size, the cursor with the last one.
func (k *sink) Apply(ctx context.Context, rows []replica.Row, c replica.Cursor) (refused []replica.Refusal, err error) {
	var cmd store.ACLCommand
	var keys []replica.Key
	size := 0
	flush := func(last bool) error {
		if len(cmd.Changes) == 0 && !last {
			return nil
		}
		cmd.Replicated = true
		if last {
			cmd.Replica = k.replica(c)
		}
		err := k.apply(ctx, &cmd)
		if store.KindOf(err) == store.KindNoLeader || !isRefusal(err) {
			return err
		}
		// One of them cannot be: the others shall not wait for it.
		for i := range cmd.Changes {
			one := store.ACLCommand{Changes: cmd.Changes[i : i+1], Replicated: true, Unseen: slices.DeleteFunc(slices.Clone(cmd.Unseen), func(u store.ACLUnseen) bool {
				return u.Kind != cmd.Changes[i].Kind || u.Key != keys[i].ID
			}), Seen: slices.DeleteFunc(slices.Clone(cmd.Seen), func(u store.ACLChange) bool {
				return u.Kind != cmd.Changes[i].Kind || u.Key != keys[i].ID
			})}
			switch err := k.apply(ctx, &one); {
			case isRefusal(err):
				refused = append(refused, replica.Refusal{Key: keys[i], Err: err})
			case err != nil:
				return err
			}
		}
		if last {
			return k.apply(ctx, &store.ACLCommand{Replicated: true, Replica: k.replica(c)})
		}
		return nil
	}
	view := k.cfg.State.ACLView()
	settled := k.settled()
	for i := range rows {
		ch, ok, err := change(view, &rows[i], k.cfg.Tokens)
		if err != nil {
			refused = append(refused, replica.Refusal{Key: rows[i].Key, Err: err})
			continue
		}
		if !ok || ch.Op == store.ACLDelete && k.Keep(rows[i].Key) {
			continue
		}
		if u := k.unseen(view, rows[i].Key, &ch); u != nil {
			cmd.Unseen = append(cmd.Unseen, *u)
		}
		if settled(rows[i].Key, &ch) {
			cmd.Seen = append(cmd.Seen, store.ACLChange{Kind: ch.Kind, Key: rows[i].ID})
		}
		cmd.Changes = append(cmd.Changes, ch)
		keys = append(keys, rows[i].Key)
		if size += len(rows[i].Data) + 64; size >= applyBytes || len(keys) >= applyRows {
			if err := flush(false); err != nil {
				return refused, err
			}
			cmd, keys, size = store.ACLCommand{}, nil, 0
		}
	}
	return refused, flush(true)
}

// change is what a row of the primary changes here; not ok if nothing.
func change(here *state.ACLView, row *replica.Row, tokens Tokens) (store.ACLChange, bool, error) {
	kind := store.ACLKind(row.Kind)
	if row.Data == nil {
		// A local record of the same id is none of the primary's.
		return store.DeleteACL(kind, row.ID), shared(here, here.Record(kind, row.ID)), nil
	}
	r := store.NewACLRecord(kind)
	if r == nil {
		return store.ACLChange{}, false, store.Errorf(store.KindInvalid, "records of kind %d are unknown to this version of landbridge", row.Kind)
	}
	if err := r.DecodeWire(row.Data); err != nil {
		return store.ACLChange{}, false, err
	}
	t, ok := r.(*store.ACLToken)
	if r.ACLKey() != row.ID || ok && t.Local {
		return store.ACLChange{}, false, store.Errorf(store.KindInvalid, "the primary sent a %s that is not the one it names, or is local there", kind)
	}
	if ok && tokens == Hashes {
		r = bare(t) // whatever was sent
	}
	return store.SetACL(store.ACLSet, r), true, nil
}

func (k *sink) replica(c replica.Cursor) *store.ACLReplica {
	r := k.cfg.State.ACLReplica()
	return &store.ACLReplica{
		Ahead:   c.Cluster == "" && k.ahead(&r),
		Version: r.Version, Datacenter: k.cfg.Primary(), WithTokens: k.cfg.Tokens != NoTokens,
		ClusterID: c.Cluster, HistoryID: c.History, Position: store.Index(c.Position),
		Policies: store.Index(c.Marks[0]), Roles: store.Index(c.Marks[1]), Tokens: store.Index(c.Marks[2]),
		Fence: c.Fence, FencedAt: c.FencedAt,
	}
}

// refusal is an error of the state machine: the command is in the log, and changed
// nothing.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func isRefusal(err error) bool {
	_, ok := err.(refusal)
	return ok
}

func (k *sink) apply(ctx context.Context, cmd *store.ACLCommand) error {
	if len(cmd.Changes) == 0 && cmd.Replica == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, applyTime)
	defer cancel()
	res, err := k.cfg.Apply(ctx, store.Command{Kind: store.CmdACL, Payload: cmd.AppendWire(nil)})
	if err == nil && res.Err != nil {
		err = refusal{res.Err}
	}
	return err
}
