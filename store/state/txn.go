package state

import (
	"iter"

	"github.com/tidwall/btree"

	"landbridge/store"
)

// applyTxn applies all operations of a transaction, or none. Each operation sees
// what those before it did, and all that fail are told, so that a caller can mend
// them at once; then everything is taken back.
func (s *Store) applyTxn(c *store.TxnCommand) bool {
	out := new(store.TxnOutcome)
	s.value = out
	if out.Errors = c.Prepare(); len(out.Errors) > 0 {
		return false
	}
	start := s.begin()
	t := txn{s: s, out: out}
	if t.run(c); len(out.Errors) > 0 {
		s.rollback(start)
		return false
	}
	s.commit()
	return true
}

// TxnRead runs a read-only transaction: all its operations see one moment. The
// index is that of the last command.
func (s *Store) TxnRead(c *store.TxnCommand) (store.Index, *store.TxnOutcome) {
	out := new(store.TxnOutcome)
	if out.Errors = c.Prepare(); len(out.Errors) == 0 && !c.ReadOnly() {
		panic("state: a transaction that writes reached TxnRead")
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(out.Errors) == 0 {
		t := txn{s: s, out: out}
		t.run(c)
	}
	return s.index, out
}

// txn is a transaction while its operations run; Store.mu is held.
type txn struct {
	s   *Store
	out *store.TxnOutcome
	// tree is a copy of the keys, good until the next operation that may write one.
	tree *btree.Map[string, *store.KVEntry]
}

func (t *txn) run(c *store.TxnCommand) {
	t.out.Results = make([]store.TxnResult, 0, len(c.Ops))
	for i := range c.Ops {
		if err := t.do(&c.Ops[i]); err != nil {
			t.out.Errors = append(t.out.Errors, store.TxnError{OpIndex: i, What: err.Message})
		}
	}
	if len(t.out.Errors) > 0 {
		t.out.Results = nil
	}
}

func (t *txn) give(r store.TxnResult) { t.out.Results = append(t.out.Results, r) }

func (t *txn) do(op *store.TxnOp) *store.Error {
	switch {
	case op.KV != nil:
		return t.kv(op.Verb, op.KV)
	case op.Node != nil:
		return t.node(op.Verb, op.Node)
	case op.Service != nil:
		return t.service(op.Verb, op.Service)
	}
	return t.check(op.Verb, op.Check)
}

// fails is an operation's refusal. Its kind is not told: only its words are.
func fails(format string, args ...any) *store.Error {
	return store.Errorf(store.KindConflict, format, args...)
}

func (t *txn) kv(verb store.TxnVerb, in *store.KVEntry) *store.Error {
	switch verb {
	case store.TxnSet, store.TxnCAS, store.TxnLock, store.TxnUnlock,
		store.TxnDelete, store.TxnDeleteCAS, store.TxnDeleteTree:
		return t.kvWrite(verb, in)
	case store.TxnGetTree:
		t.give(store.TxnResult{Tree: t.under(in.Key)})
		return nil
	}
	e := t.s.kv.get(in.Key)
	switch verb {
	case store.TxnCheckNotExists:
		if e != nil {
			return fails("key %q exists", in.Key)
		}
		return nil
	case store.TxnGetOrEmpty:
		if e == nil {
			e = &store.KVEntry{Key: in.Key}
		}
	}
	if e == nil {
		return fails("key %q doesn't exist", in.Key)
	}
	switch verb {
	case store.TxnCheckIndex:
		if e.ModifyIndex != in.ModifyIndex {
			return fails("failed index check for key %q, current modify index %d != %d", in.Key, e.ModifyIndex, in.ModifyIndex)
		}
	case store.TxnCheckSession:
		if e.Session != in.Session {
			return fails("failed session check for key %q, current session %q != %q", in.Key, e.Session, in.Session)
		}
	}
	t.give(store.TxnResult{KV: e, WithValue: verb == store.TxnGet || verb == store.TxnGetOrEmpty})
	return nil
}

// kvOps are the commands that do what the verbs of a transaction do.
var kvOps = map[store.TxnVerb]store.KVOp{
	store.TxnSet: store.KVSet, store.TxnCAS: store.KVCAS, store.TxnLock: store.KVLock, store.TxnUnlock: store.KVUnlock,
	store.TxnDelete: store.KVDelete, store.TxnDeleteCAS: store.KVDeleteCAS, store.TxnDeleteTree: store.KVDeleteAll,
}

func (t *txn) kvWrite(verb store.TxnVerb, in *store.KVEntry) *store.Error {
	s := t.s
	t.tree = nil
	c := &s.kvCmd
	*c = store.KVCommand{Op: kvOps[verb], Entry: store.KVEntry{
		Key: in.Key, Value: in.Value, Flags: in.Flags, Session: in.Session, ModifyIndex: in.ModifyIndex}}
	ok, err := s.applyKV(c)
	if err != nil {
		return err
	}
	if !ok {
		return t.kvRefused(verb, in)
	}
	switch verb {
	case store.TxnDelete, store.TxnDeleteCAS, store.TxnDeleteTree:
	default:
		t.give(store.TxnResult{KV: s.kv.get(in.Key)})
	}
	return nil
}

func (t *txn) kvRefused(verb store.TxnVerb, in *store.KVEntry) *store.Error {
	switch verb {
	case store.TxnDeleteCAS:
		return fails("failed to delete key %q, index is stale", in.Key)
	case store.TxnLock:
		if e := t.s.kv.get(in.Key); e != nil && e.Session != "" {
			return fails("failed to lock key %q, lock is already held", in.Key)
		}
		return fails("failed to lock key %q due to lock delay", in.Key)
	case store.TxnUnlock:
		return fails("failed to unlock key %q, lock isn't held, or is held by another session", in.Key)
	}
	return fails("failed to set key %q, index is stale", in.Key)
}

// under returns the entries with a prefix as they are now. They are not gathered
// here: that may be long, and only the server that answers needs them.
func (t *txn) under(prefix string) iter.Seq[*store.KVEntry] {
	if t.tree == nil {
		t.s.copyMu.Lock()
		t.tree = t.s.kv.tree.Copy()
		t.s.copyMu.Unlock()
	}
	tree := t.tree
	return func(yield func(*store.KVEntry) bool) {
		ascend(tree, prefix, func(_ string, e *store.KVEntry) bool { return yield(e) })
	}
}
