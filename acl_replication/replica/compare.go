package replica

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"landbridge/store"
)

const (
	listLeaves = 256 // leaves asked for at once
	fetchRows  = 1000
)

// errMoved ends a comparison in which the source became another one.
var errMoved = store.Errorf(store.KindUnreachable, "the source's history changed while it was compared")

// compare makes the copy equal to the source as it is now, whatever both are, and
// leaves the cursor where the stream can go on: at the position of the first answer.
// What happened after that comes again in the stream, and does no harm.
func (f *Follower) compare(ctx context.Context) error {
	f.cfg.Metrics.compares.Inc()
	asked, cancel := context.WithTimeout(ctx, answerTime)
	trees, err := f.cfg.Source.Trees(asked)
	cancel()
	if err != nil {
		return err
	}
	next := Cursor{Epoch: trees.Epoch, Position: trees.Position, Marks: trees.Marks, Fence: f.cur.Fence, FencedAt: f.cur.FencedAt}
	if next.Fence == "" {
		next.Fence = f.distrust(trees)
	}
	if next.Fence != f.cur.Fence {
		// Before the first row is written: no row may push a held one out by its name.
		fenced := f.cur
		fenced.Fence = next.Fence
		if err := f.apply(ctx, nil, fenced); err != nil {
			return err
		}
	}
	var lacking []Key // here, or other than in the source
	held := map[Key]bool{}
	copies := 0
	for _, kind := range f.cfg.Kinds {
		there := Tree{Root: Root{Kind: kind}, Leaves: make([][leafSize]byte, 1)}
		for i := range trees.Kinds {
			if trees.Kinds[i].Kind == kind {
				there = trees.Kinds[i]
			}
		}
		here := map[string]Digest{}
		f.cfg.Sink.Scan(kind, func(id string, d Digest) { here[id] = d })
		copies += len(here)
		tree := BuildTree(kind, int(there.Bits), func(each func(string, Digest)) {
			for id, d := range here {
				each(id, d)
			}
		})
		leaves := differ(tree.Leaves, there.Leaves)
		for part := range slices.Chunk(leaves, listLeaves) {
			list, err := f.list(ctx, trees, kind, there.Bits, part)
			if err != nil {
				return err
			}
			in := make(map[uint32]bool, len(part))
			for _, l := range part {
				in[l] = true
			}
			has := make(map[string]bool, len(list))
			for _, e := range list {
				has[e.ID] = true
				if d, ok := here[e.ID]; !ok || d != e.Digest {
					lacking = append(lacking, Key{kind, e.ID})
				}
			}
			for id := range here {
				k := Key{kind, id}
				if in[LeafOf(id, there.Bits)] && !has[id] && !f.cfg.Sink.Keep(k) {
					held[k] = true
				}
			}
		}
	}
	guard := f.cfg.Guard()
	if next.Fence == "" && guard.Exceeds(len(held), copies) {
		next.Fence = fmt.Sprintf("the source lacks %d of %d records, more than acl.replication_guard allows to delete unseen", len(held), copies)
	}
	var gone []Row
	if next.Fence != "" {
		var known []Row
		for k := range held {
			if f.cfg.Sink.Known(k) {
				known = append(known, Row{Key: k})
			}
		}
		if !guard.Exceeds(len(known), copies) {
			gone = known
			for _, r := range known {
				delete(held, r.Key)
			}
		}
	}
	if len(held) == 0 {
		next.Fence = "" // nothing waits for anybody
	}
	if next.Fence == "" {
		for k := range held {
			gone = append(gone, Row{Key: k})
		}
		clear(held)
	} else {
		f.cfg.Logger.Error("deletions of copies are held back until they are approved", "count", len(held), "reason", next.Fence)
	}
	f.held = held
	f.status.holds(f.heldKeys())
	// The rows first: the cursor moves when all of it is here.
	before := f.cur
	before.Fence = next.Fence
	if err := f.fetch(ctx, trees, lacking, before); err != nil {
		return err
	}
	if err := f.apply(ctx, gone, next); err != nil {
		return err
	}
	f.behind = time.Time{}
	f.cfg.Metrics.events.Add(float64(len(gone) + len(lacking)))
	f.status.heard(f.cur, f.cur.Position)
	f.cfg.Logger.Info("the copy was compared with its source", "rows", copies, "written", len(lacking), "deleted", len(gone), "held", len(held))
	return nil
}

// distrust says why a source's lack of a row is no reason to delete it.
func (f *Follower) distrust(t *Trees) string {
	switch {
	case f.cur.Cluster == "":
		return "this is the first copy from this source, and there were records here before"
	case t.Cluster != f.cur.Cluster:
		return fmt.Sprintf("the source is another cluster (%s) than the one that was copied (%s)", t.Cluster, f.cur.Cluster)
	case t.History != f.cur.History:
		return fmt.Sprintf("the source has another history (%s) than the one that was copied (%s): it was restored or recovered", t.History, f.cur.History)
	case t.Position < f.cur.Position:
		return fmt.Sprintf("the source went back from position %d to %d", f.cur.Position, t.Position)
	}
	return ""
}

func (f *Follower) list(ctx context.Context, t *Trees, kind Kind, bits uint8, leaves []uint32) ([]Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	l, err := f.cfg.Source.Leaves(ctx, kind, bits, leaves)
	if err != nil {
		return nil, err
	}
	if l.Epoch != t.Epoch || l.Position < t.Position {
		return nil, errMoved
	}
	return l.Entries, nil
}

// fetch gets rows and writes them.
func (f *Follower) fetch(ctx context.Context, t *Trees, keys []Key, cursor Cursor) error {
	for len(keys) > 0 {
		part := keys[:min(len(keys), fetchRows)]
		asked, cancel := context.WithTimeout(ctx, answerTime)
		rows, err := f.cfg.Source.Rows(asked, part)
		cancel()
		switch {
		case err != nil:
			return err
		case rows.Epoch != t.Epoch || rows.Position < t.Position:
			return errMoved
		case len(rows.Rows) == 0 || len(rows.Rows) > len(part):
			return store.Errorf(store.KindInternal, "the source answered with %d of %d rows", len(rows.Rows), len(part))
		}
		keys = keys[len(rows.Rows):]
		// One that has gone meanwhile comes as a deletion in the stream.
		list := slices.DeleteFunc(rows.Rows, func(r Row) bool { return r.Data == nil })
		if err := f.apply(ctx, list, cursor); err != nil {
			return err
		}
	}
	return nil
}

func (f *Follower) heldKeys() []Key {
	list := make([]Key, 0, len(f.held))
	for k := range f.held {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b Key) int {
		if a.Kind != b.Kind {
			return int(a.Kind) - int(b.Kind)
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list
}

// heldID names a set of held deletions, so that who approves says what they saw.
func heldID(keys []Key) string {
	if len(keys) == 0 {
		return ""
	}
	h := sha256.New()
	for _, k := range keys {
		fmt.Fprintf(h, "%d %q\n", k.Kind, k.ID)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// Approve makes the deletions that are held, if they are still those with this id.
func (f *Follower) Approve(ctx context.Context, id string) (int, error) {
	if err := f.take(ctx); err != nil {
		return 0, err
	}
	defer f.give()
	keys := f.heldKeys()
	switch now := heldID(keys); {
	case !f.status.runs():
		return 0, store.Errorf(store.KindNoLeader, "replication does not run on this server")
	case now == "":
		return 0, store.Errorf(store.KindConflict, "no deletions are held")
	case id != now:
		return 0, store.Errorf(store.KindConflict, "the deletions that are held now are %q (%d records), not %q: look at the status again", now, len(keys), id)
	}
	rows := make([]Row, len(keys))
	for i, k := range keys {
		rows[i].Key = k
	}
	next := f.cur
	next.Fence = ""
	clear(f.held)
	if err := f.apply(ctx, rows, next); err != nil {
		f.restart() // what is still held is found again
		return 0, err
	}
	f.cfg.Logger.Warn("held deletions were approved", "count", len(keys), "id", id)
	f.restart() // rows that a held one stood in the way of
	return len(keys), nil
}

// Change runs do while nobody else writes the sink, and has all compared after it.
func (f *Follower) Change(ctx context.Context, do func() error) error {
	if err := f.take(ctx); err != nil {
		return err
	}
	defer f.give()
	if !f.status.runs() {
		return store.Errorf(store.KindNoLeader, "replication does not run on this server")
	}
	if err := do(); err != nil {
		return err
	}
	f.cur = f.cfg.Sink.Cursor()
	f.restart()
	return nil
}
