package replica

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"
)

func digestOf(data string) Digest { return sha256.Sum256([]byte(data)) }

// fakeSource is a source whose history a test writes.
type fakeSource struct {
	epoch Epoch
	at    uint64
	rows  map[Key]string
	log   []Row // of at, one each, from floor+1
	floor uint64
	down  bool
	kinds []Kind
	// during is called in the middle of a comparison.
	during func()
}

func newSource() *fakeSource {
	return &fakeSource{epoch: Epoch{"c1", "h1"}, at: 10, floor: 10, rows: map[Key]string{}, kinds: []Kind{1, 2}}
}

func (s *fakeSource) set(k Key, data string) {
	s.at++
	s.rows[k] = data
	s.log = append(s.log, Row{k, []byte(data)})
}

func (s *fakeSource) remove(k Key) {
	if _, ok := s.rows[k]; !ok {
		return
	}
	s.at++
	delete(s.rows, k)
	s.log = append(s.log, Row{Key: k})
}

func (s *fakeSource) forget() { s.log, s.floor = nil, s.at }

var errDown = errors.New("no path")

// Follow tells what there is to tell, proves it, and ends.
func (s *fakeSource) Follow(ctx context.Context, from Cursor, each func(*Batch) error) error {
	if s.down {
		return errDown
	}
	if from.Epoch != s.epoch || from.Position < s.floor || from.Position > s.at {
		return each(&Batch{Epoch: s.epoch, Lost: true, Position: s.at, Top: s.at})
	}
	for at := from.Position; at < s.at; {
		end := min(at+3, s.at)
		b := &Batch{Epoch: s.epoch, Position: end, Top: s.at}
		for _, e := range s.log[at-s.floor : end-s.floor] {
			// As it is now: what happened since comes again.
			row := Row{Key: e.Key}
			if data, ok := s.rows[e.Key]; ok {
				row.Data = []byte(data)
			}
			b.Rows = append(b.Rows, row)
		}
		if err := each(b); err != nil {
			return err
		}
		at = end
	}
	trees, _ := s.Trees(ctx)
	b := &Batch{Epoch: s.epoch, Position: s.at, Top: s.at}
	for _, t := range trees.Kinds {
		b.Proof = append(b.Proof, t.Root)
	}
	return each(b)
}

func (s *fakeSource) Trees(context.Context) (*Trees, error) {
	if s.down {
		return nil, errDown
	}
	t := &Trees{Epoch: s.epoch, Position: s.at}
	for _, k := range s.kinds {
		t.Kinds = append(t.Kinds, BuildTree(k, -1, func(each func(string, Digest)) { scanRows(s.rows, k, each) }))
	}
	return t, nil
}

func scanRows(rows map[Key]string, kind Kind, each func(string, Digest)) {
	for k, data := range rows {
		if k.Kind == kind {
			each(k.ID, digestOf(data))
		}
	}
}

func (s *fakeSource) Leaves(_ context.Context, kind Kind, bits uint8, leaves []uint32) (*Listing, error) {
	if s.during != nil {
		s.during()
	}
	l := &Listing{Epoch: s.epoch, Position: s.at}
	scanRows(s.rows, kind, func(id string, d Digest) {
		if slices.Contains(leaves, LeafOf(id, bits)) {
			l.Entries = append(l.Entries, Entry{id, d})
		}
	})
	return l, nil
}

func (s *fakeSource) Rows(_ context.Context, keys []Key) (*Rows, error) {
	r := &Rows{Epoch: s.epoch, Position: s.at}
	for _, k := range keys[:min(len(keys), 5)] {
		row := Row{Key: k}
		if data, ok := s.rows[k]; ok {
			row.Data = []byte(data)
		}
		r.Rows = append(r.Rows, row)
	}
	return r, nil
}

// fakeSink keeps rows, and what was deleted.
type fakeSink struct {
	rows    map[Key]string
	cur     Cursor
	deleted []Key
	known   map[Key]bool // the source had them
	fail    int          // writes that fail from now on
}

func (k *fakeSink) Cursor() Cursor   { return k.cur }
func (k *fakeSink) Keep(Key) bool    { return false }
func (k *fakeSink) Known(x Key) bool { return k.known[x] }
func (k *fakeSink) Scan(kind Kind, each func(string, Digest)) {
	scanRows(k.rows, kind, each)
}

func (k *fakeSink) Apply(_ context.Context, rows []Row, c Cursor) ([]Refusal, error) {
	if k.fail > 0 {
		k.fail--
		return nil, errors.New("leadership lost")
	}
	for _, r := range rows {
		if r.Data == nil {
			if _, ok := k.rows[r.Key]; ok {
				k.deleted = append(k.deleted, r.Key)
			}
			delete(k.rows, r.Key)
		} else {
			k.rows[r.Key] = string(r.Data)
		}
	}
	k.cur = c
	return nil, nil
}

type world struct {
	t    interface{ Fatalf(string, ...any) }
	src  *fakeSource
	sink *fakeSink
	f    *Follower
}

func newWorld(t interface{ Fatalf(string, ...any) }) *world {
	w := &world{t: t, src: newSource(), sink: &fakeSink{rows: map[Key]string{}}}
	w.lead()
	return w
}

// lead makes a new leader's follower, which begins at the sink's cursor.
func (w *world) lead() {
	w.f = New(Config{Source: w.src, Sink: w.sink, Kinds: w.src.kinds, Logger: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry(), Words{"landbridge_test_", "rows", "the source"})})
	w.f.begin()
}

// settle runs rounds until the stream ends with a proof.
func (w *world) settle() {
	for range 20 {
		err := w.f.round(context.Background())
		if errors.Is(err, errStale) {
			w.f.behind = w.f.behind.Add(-rewound) // time passes
			continue
		}
		if err == nil && !w.f.again {
			return
		}
		if err != nil {
			w.f.cur = w.sink.Cursor()
		}
	}
	w.t.Fatalf("no proof after 20 rounds: source %v, copy %v, held %v", w.src.rows, w.sink.rows, w.f.held)
}

// equal checks that the copy is the source and what is held.
func (w *world) equal() {
	want := maps.Clone(w.src.rows)
	for k := range w.f.held {
		if _, ok := w.src.rows[k]; ok {
			w.t.Fatalf("%v is held, but the source has it", k)
		}
		want[k] = w.sink.rows[k]
	}
	if !maps.Equal(want, w.sink.rows) {
		w.t.Fatalf("the copy is %v, want %v (held %v)", w.sink.rows, want, w.f.held)
	}
	if (w.sink.cur.Fence != "") != (len(w.f.held) > 0) {
		w.t.Fatalf("fence %q with %d held", w.sink.cur.Fence, len(w.f.held))
	}
}

func fill(src *fakeSource, n int) {
	for i := range n {
		src.set(Key{1, fmt.Sprint("row", i)}, "v")
	}
}

// Whatever happens to a source, its copy becomes equal to it, and nothing is deleted
// by inference but a few rows of the same history.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		fill(w.src, 30)
		w.settle()
		var old *fakeSource // what a snapshot holds
		epochs := 1
		gone := map[Key]bool{} // deleted in the source's present history
		fenced := false        // the history changed since the last approval
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			key := Key{Kind(rapid.IntRange(1, 2).Draw(t, "kind")), fmt.Sprint("row", rapid.IntRange(0, 60).Draw(t, "row"))}
			switch rapid.IntRange(0, 11).Draw(t, "step") {
			case 0, 1, 2:
				w.src.set(key, fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "data")))
				delete(gone, key)
			case 3, 4:
				w.src.remove(key)
				gone[key] = true
			case 5: // the log was cut short
				w.src.forget()
			case 6:
				c := *w.src
				c.rows = maps.Clone(c.rows)
				old = &c
			case 7: // restored, rebuilt empty, or another cluster
				epochs++
				next := newSource()
				next.at = w.src.at + 1
				if old != nil && rapid.Bool().Draw(t, "restored") {
					next.rows = maps.Clone(old.rows)
				}
				next.epoch.History = fmt.Sprint("h", epochs)
				if rapid.Bool().Draw(t, "another") {
					next.epoch.Cluster, next.at = fmt.Sprint("c", epochs), 3
				}
				next.floor = next.at
				*w.src = *next
				fenced = true
				clear(gone)
			case 8:
				w.sink.fail = rapid.IntRange(1, 3).Draw(t, "failures")
			case 9:
				w.lead()
			case 10: // drift
				if len(w.sink.rows) > 0 {
					keys := slices.SortedFunc(maps.Keys(w.sink.rows), func(a, b Key) int { return int(a.Kind) - int(b.Kind) + 2*cmpString(a.ID, b.ID) })
					w.sink.rows[keys[rapid.IntRange(0, len(keys)-1).Draw(t, "drift")]] = "flipped"
				}
			case 11: // a change while it compares
				w.src.during = func() {
					w.src.during = nil
					w.src.set(key, "during")
					delete(gone, key)
				}
				w.f.again = true
			}
			if rapid.Bool().Draw(t, "settle") {
				before := len(w.sink.deleted)
				copies := len(w.sink.rows)
				w.settle()
				w.equal()
				inferred := 0
				for _, k := range w.sink.deleted[before:] {
					if !gone[k] {
						inferred++
					}
				}
				if fenced && inferred > 0 || DefaultGuard.Exceeds(inferred, copies) {
					t.Fatalf("%d of %d rows were deleted unseen (fence: %v)", inferred, copies, fenced)
				}
				if len(w.f.held) == 0 {
					fenced = false
				}
			}
		}
		w.sink.fail = 0
		w.settle()
		w.equal()
		w.f.status.begin(w.f.cur)
		if keys := w.f.heldKeys(); len(keys) > 0 {
			if _, err := w.f.Approve(context.Background(), "other"); err == nil {
				t.Fatalf("deletions were approved that nobody has seen")
			}
			if _, err := w.f.Approve(context.Background(), heldID(keys)); err != nil {
				t.Fatalf("%v", err)
			}
			w.settle()
		}
		w.equal()
		if !maps.Equal(w.src.rows, w.sink.rows) {
			t.Fatalf("the copy is %v, the source %v", w.sink.rows, w.src.rows)
		}
	})
}

func cmpString(a, b string) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

// A source that lost everything, in each of the ways it can, wipes nothing.
func TestFence(t *testing.T) {
	for name, lose := range map[string]func(s *fakeSource){
		"rebuilt empty": func(s *fakeSource) {
			*s = fakeSource{epoch: Epoch{"c2", "h2"}, at: 5, floor: 5, rows: map[Key]string{}, kinds: s.kinds}
		},
		"restored from old times": func(s *fakeSource) {
			s.rows, s.epoch.History = map[Key]string{{1, "row1"}: "v"}, "h2"
			s.at++
			s.forget()
		},
		"went back on its disk":  func(s *fakeSource) { s.rows, s.at = map[Key]string{{1, "row1"}: "v"}, 12; s.forget() },
		"empty within a history": func(s *fakeSource) { s.rows = map[Key]string{}; s.at++; s.forget() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			fill(w.src, 500)
			w.settle()
			lose(w.src)
			w.settle()
			w.equal()
			if len(w.sink.deleted) > 0 || len(w.sink.rows) != 500 || w.sink.cur.Fence == "" {
				t.Fatalf("%d rows left, %d deleted, fence %q", len(w.sink.rows), len(w.sink.deleted), w.sink.cur.Fence)
			}
			// A new leader knows it too, and what it writes meanwhile is no reason to forget.
			w.lead()
			w.src.set(Key{1, "new"}, "v")
			w.settle()
			w.equal()
			if len(w.f.held) < 499 || len(w.sink.deleted) > 0 {
				t.Fatalf("after a change of leader: %d held, %d deleted", len(w.f.held), len(w.sink.deleted))
			}
			// The rows come back: nothing waits any more.
			for k, data := range maps.Clone(w.sink.rows) {
				w.src.set(k, data)
			}
			w.settle()
			w.equal()
			if len(w.f.held) > 0 {
				t.Fatalf("%d still held", len(w.f.held))
			}
		})
	}
}

// Under a fence, records that the source is known to have had are deleted, unless they
// are many.
func TestKnownDeletions(t *testing.T) {
	for _, gone := range []int{5, 30} {
		w := newWorld(t)
		w.sink.known = map[Key]bool{}
		for i := range 100 {
			k := Key{w.src.kinds[0], fmt.Sprint("row ", i)}
			w.sink.rows[k] = "data"
			switch {
			case i < gone:
				w.sink.known[k] = true
			case i < gone+3:
			default:
				w.src.rows[k] = "data"
			}
		}
		w.lead() // it has copied nothing yet, and there are rows
		w.settle()
		deleted, held := gone, 3
		if gone > 10 {
			deleted, held = 0, gone+3
		}
		if len(w.sink.deleted) != deleted || len(w.f.held) != held || w.sink.cur.Fence == "" {
			t.Errorf("%d are known to be gone: %d deleted, %d held, fence %q", gone, len(w.sink.deleted), len(w.f.held), w.sink.cur.Fence)
		}
	}
}

// Deletions that the stream tells are made at once, however many.
func TestStreamedDeletions(t *testing.T) {
	w := newWorld(t)
	fill(w.src, 500)
	w.settle()
	for i := range 490 {
		w.src.remove(Key{1, fmt.Sprint("row", i)})
	}
	w.settle()
	w.equal()
	if len(w.sink.rows) != 10 {
		t.Errorf("%d rows left, want 10", len(w.sink.rows))
	}
	// A few that are only inferred as well.
	w.src.remove(Key{1, "row490"})
	w.src.forget()
	w.settle()
	w.equal()
	if len(w.sink.rows) != 9 {
		t.Errorf("%d rows left, want 9", len(w.sink.rows))
	}
}

// A lagging server that answers for a moment is no reason to go back.
func TestStaleAnswer(t *testing.T) {
	w := newWorld(t)
	fill(w.src, 20)
	w.settle()
	now := *w.src
	w.src.at, w.src.rows, w.src.floor, w.src.log = 15, map[Key]string{{1, "row0"}: "v"}, 10, w.src.log[:5]
	if err := w.f.round(context.Background()); !errors.Is(err, errStale) {
		t.Fatalf("an older answer: %v", err)
	}
	*w.src = now
	w.settle()
	w.equal()
	if len(w.sink.deleted) > 0 || w.sink.cur.Fence != "" {
		t.Errorf("%d deleted, fence %q", len(w.sink.deleted), w.sink.cur.Fence)
	}
}

func TestTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfDistinct(rapid.String(), rapid.ID[string]).Draw(t, "ids")
		bits := rapid.IntRange(0, 14).Draw(t, "bits")
		build := func(list []string, data string) Tree {
			return BuildTree(1, bits, func(each func(string, Digest)) {
				for _, id := range list {
					each(id, digestOf(data))
				}
			})
		}
		a := build(ids, "x")
		rev := slices.Clone(ids)
		slices.Reverse(rev)
		if b := build(rev, "x"); b.Hash != a.Hash {
			t.Fatalf("the order of rows changes the tree")
		}
		if len(ids) == 0 {
			return
		}
		b := build(ids[1:], "x")
		if b.Hash == a.Hash || len(differ(a.Leaves, b.Leaves)) != 1 || differ(a.Leaves, b.Leaves)[0] != LeafOf(ids[0], a.Bits) {
			t.Fatalf("a row that is lacking is not found")
		}
	})
}

func TestMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Batch{Epoch: Epoch{"c", rapid.String().Draw(t, "h")}, Position: rapid.Uint64().Draw(t, "p"), Top: 7, Marked: true, Marks: [3]uint64{1, 0, 3},
			Rows:  []Row{{Key{1, "a"}, []byte(rapid.String().Draw(t, "d"))}, {Key: Key{2, "b"}}},
			Proof: []Root{{Kind: 2, Bits: 3, Count: 9, Hash: digestOf("x")}}}
		var got []*Batch
		r := BatchReader{Each: func(b *Batch) error { got = append(got, b); return nil }}
		cut := &cutter{&r, rapid.IntRange(1, 50).Draw(t, "cut")}
		for range 2 {
			if err := WriteBatch(cut, &b); err != nil {
				t.Fatal(err)
			}
		}
		if len(got) != 2 || fmt.Sprint(*got[0]) != fmt.Sprint(b) || fmt.Sprint(*got[1]) != fmt.Sprint(b) || got[0].Rows[0].Data == nil || got[0].Rows[1].Data != nil {
			t.Fatalf("got %+v, want twice %+v", got, b)
		}
		ask := Ask{Cursor: Cursor{Epoch: b.Epoch, Position: 4}, Kind: 3, Bits: 12, Leaves: []uint32{0, 4095}, Keys: []Key{{1, "x"}}}
		var back Ask
		if err := back.DecodeWire(ask.AppendWire(nil)); err != nil || fmt.Sprint(back) != fmt.Sprint(ask) {
			t.Fatalf("got %+v (%v), want %+v", back, err, ask)
		}
	})
}

// cutter hands bytes on in pieces.
type cutter struct {
	to *BatchReader
	n  int
}

func (c *cutter) Write(p []byte) (int, error) {
	for part := range slices.Chunk(p, c.n) {
		if _, err := c.to.Write(part); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func FuzzDecode(f *testing.F) {
	s := newSource()
	fill(s, 40)
	trees, _ := s.Trees(context.Background())
	f.Add(trees.AppendWire(nil))
	list, _ := s.Leaves(context.Background(), 1, 0, []uint32{0})
	f.Add(list.AppendWire(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = new(Batch).DecodeWire(b)
		_ = new(Trees).DecodeWire(b)
		_ = new(Listing).DecodeWire(b)
		_ = new(Rows).DecodeWire(b)
		_ = new(Ask).DecodeWire(b)
		r := BatchReader{Each: func(*Batch) error { return nil }}
		_, _ = r.Write(b)
	})
}

func TestGuard(t *testing.T) {
	for _, tt := range []struct {
		deletions, copies int
		want              bool
	}{{0, 0, false}, {10, 10, false}, {11, 100, true}, {11, 220, false}, {12, 220, true}, {500, 10_000, false}, {501, 10_000, true}} {
		if got := DefaultGuard.Exceeds(tt.deletions, tt.copies); got != tt.want {
			t.Errorf("%d of %d: %v, want %v", tt.deletions, tt.copies, got, tt.want)
		}
	}
}

func TestLag(t *testing.T) {
	now := time.Now()
	s := Status{Connected: true, Cursor: Cursor{Position: 5}, Top: 5, InSync: now.Add(-time.Minute)}
	if d := s.Lag(now); d != 0 {
		t.Errorf("in step: %s", d)
	}
	s.Top = 6
	if d := s.Lag(now); d != time.Minute {
		t.Errorf("behind: %s", d)
	}
}
