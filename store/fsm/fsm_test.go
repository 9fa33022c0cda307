package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"landbridge/store"
	"landbridge/store/state"
)

func kvCommand(key, value string) store.Command {
	c := store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: key, Value: []byte(value)}}
	return store.Command{Kind: store.CmdKV, Payload: c.AppendWire(nil)}
}

func newFSM() *FSM { return New(state.New(), slog.New(slog.DiscardHandler)) }

func logEntry(cmds ...store.Command) *raft.Log {
	return &raft.Log{Index: 12, Term: 3, Type: raft.LogCommand, Data: AppendBatch(nil, cmds)}
}

func TestBatchRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var cmds []store.Command
		at := rapid.Int64().Draw(t, "time")
		for range rapid.IntRange(0, 5).Draw(t, "n") {
			cmds = append(cmds, store.Command{
				UnixNano:  at,
				Kind:      store.CommandKind(rapid.Uint16().Draw(t, "kind")),
				Ignorable: rapid.Bool().Draw(t, "ignorable"),
				Payload:   rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload"),
			})
		}
		b := AppendBatch(nil, cmds)
		if len(b) > BatchSize(cmds) {
			t.Fatalf("%d bytes, BatchSize said %d", len(b), BatchSize(cmds))
		}
		got, err := DecodeBatch(nil, b)
		if diff := cmp.Diff(cmds, got); diff != "" || err != nil {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}

// Logs that the first version wrote are read, with no time.
func TestDecodeBatchWithoutTime(t *testing.T) {
	want := []store.Command{{Kind: 2, Payload: []byte("ab")}}
	got, err := DecodeBatch(nil, []byte{1, 2, 0, 2, 'a', 'b'})
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Fatalf("%v\n%s", err, diff)
	}
}

func TestDecodeBatchRefuses(t *testing.T) {
	good := AppendBatch(nil, []store.Command{kvCommand("a", "b")})
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"another version":    append([]byte{3}, good[1:]...),
		"no time":            {2, 0, 0, 0, 0, 0, 0, 0},
		"kind out of range":  {1, 0xff, 0xff, 0xff, 0x7f, 0, 0},
		"no flags":           {1, 2},
		"no length":          {1, 2, 0},
		"length beyond data": {1, 2, 0, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"cut short":          good[:len(good)-1],
	} {
		if _, err := DecodeBatch(nil, b); !errors.Is(err, errBatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestApply(t *testing.T) {
	f := newFSM()
	newer := store.Command{Kind: 500, Ignorable: true, Payload: []byte("?")}
	res, ok := f.Apply(logEntry(kvCommand("a", "1"), newer, kvCommand("a", "2"))).([]store.Result)
	if !ok || len(res) != 3 {
		t.Fatalf("got %v", res)
	}
	for i, r := range res {
		if !r.OK || r.Err != nil || r.Index != res[0].Index+store.Index(i) {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	if _, e := f.State().KVGet(nil, "a"); string(e.Value) != "2" {
		t.Errorf("value %q", e.Value)
	}
	if got := f.Apply(&raft.Log{Type: raft.LogNoop}); got != nil {
		t.Errorf("a log entry that is no command gave %v", got)
	}
}

// Stopping is the safe answer to an entry that cannot be applied in full, and
// nothing of it may be applied first.
func TestApplyStops(t *testing.T) {
	for name, c := range map[string]struct {
		entry *raft.Log
		says  []string
	}{
		"unknown command": {logEntry(kvCommand("a", "1"), store.Command{Kind: 500}), []string{"entry 12 of term 3", "kind 500", "newer version"}},
		"damaged":         {&raft.Log{Index: 12, Term: 3, Data: []byte{1, 2, 0, 9}}, []string{"entry 12 of term 3", "forget -yes"}},
		"newer format":    {&raft.Log{Index: 12, Term: 3, Data: []byte{9}}, []string{"version 9"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFSM()
			before := f.State().Index()
			defer func() {
				msg := fmt.Sprint(recover())
				for _, s := range c.says {
					if !strings.Contains(msg, s) {
						t.Errorf("the message does not say %q: %s", s, msg)
					}
				}
				if f.State().Index() != before {
					t.Error("a part of the entry was applied")
				}
			}()
			f.Apply(c.entry)
			t.Error("it went on")
		})
	}
}

// sink is a raft.SnapshotSink in memory.
type sink struct {
	bytes.Buffer
	closed, cancelled bool
	room              int // writes fail once this many bytes are there; 0: never
}

func (s *sink) Write(p []byte) (int, error) {
	if s.room > 0 && s.Len()+len(p) > s.room {
		return 0, errors.New("no space left on device")
	}
	return s.Buffer.Write(p)
}
func (s *sink) ID() string    { return "s" }
func (s *sink) Close() error  { s.closed = true; return nil }
func (s *sink) Cancel() error { s.cancelled = true; return nil }

// filled returns a state machine with something of everything, in many frames.
func filled(t testing.TB, keys int) *FSM {
	t.Helper()
	f := newFSM()
	apply := func(cmds ...store.Command) {
		for i, r := range f.Apply(logEntry(cmds...)).([]store.Result) {
			if r.Err != nil {
				t.Fatalf("command %d: %v", i, r.Err)
			}
		}
	}
	cluster := store.Cluster{ID: "cluster", HistoryID: "history"}
	reg := store.RegisterCommand{Node: store.Node{Node: "n1", Address: "10.0.0.1", Meta: map[string]string{"k": "v"}},
		Service: &store.Service{Name: "web", Tags: []string{"a"}}, Checks: []*store.Check{{CheckID: "c", ServiceID: "web"}}}
	trust := store.TrustCommand{Trust: store.Trust{Primary: "dc1", RootKey: []byte("secret")}}
	session := func(id string) []byte {
		c := store.SessionCommand{Op: store.SessionCreate, Session: store.Session{ID: id, Node: "n1", LockDelay: time.Second}}
		return c.AppendWire(nil)
	}
	lock := store.KVCommand{Op: store.KVLock, Entry: store.KVEntry{Key: "lock", Session: "s1"}}
	end := store.SessionCommand{Op: store.SessionDestroy, Session: store.Session{ID: "s1"}}
	pilot := store.AutopilotCommand{Config: store.AutopilotConfig{MaxTrailingLogs: 250}}
	apply(
		store.Command{Kind: store.CmdCluster, Payload: cluster.AppendWire(nil)},
		store.Command{Kind: store.CmdRegister, Payload: reg.AppendWire(nil)},
		store.Command{Kind: store.CmdTrust, Payload: trust.AppendWire(nil)},
		store.Command{Kind: store.CmdAutopilot, Payload: pilot.AppendWire(nil)},
		store.Command{Kind: store.CmdSession, Payload: session("s1")},
		store.Command{Kind: store.CmdSession, Payload: session("s2")},
		store.Command{Kind: store.CmdKV, Payload: lock.AppendWire(nil)},
		store.Command{Kind: store.CmdSession, Payload: end.AppendWire(nil), UnixNano: 1},
	)
	query := store.QueryCommand{Op: store.QueryCreate}
	query.Query.ID, query.Query.Name, query.Query.Service.Service = "00000000-0000-4000-8000-000000000001", "q", "web"
	apply(store.Command{Kind: store.CmdQuery, Payload: query.AppendWire(nil)})
	for i := range keys {
		apply(kvCommand(fmt.Sprintf("k/%05d", i), strings.Repeat("v", 100)))
	}
	if keys > 0 {
		gone := store.KVCommand{Op: store.KVDelete, Entry: store.KVEntry{Key: "k/00000"}}
		apply(store.Command{Kind: store.CmdKV, Payload: gone.AppendWire(nil)})
	}
	return f
}

func persist(t testing.TB, f *FSM) []byte {
	t.Helper()
	sn, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Release()
	var s sink
	if err := sn.Persist(&s); err != nil || !s.closed || s.cancelled {
		t.Fatalf("persist: %v, closed %v", err, s.closed)
	}
	return s.Bytes()
}

// dump renders everything a reader can see.
func dump(f *FSM) string {
	s := f.State()
	var b strings.Builder
	fmt.Fprintln(&b, s.Index(), s.Cluster())
	i, kv := s.KVList(nil, "")
	fmt.Fprintln(&b, i, string(store.AppendJSONList(nil, kv)))
	i, l := s.ServiceInstances(nil, "web")
	fmt.Fprint(&b, i)
	for j := range l {
		b.Write(l[j].AppendJSON(nil))
	}
	i, tr := s.Trust(nil)
	fmt.Fprintln(&b, i, tr)
	i, a := s.Autopilot(nil)
	fmt.Fprintln(&b, i, a)
	i, sessions := s.Sessions(nil)
	fmt.Fprintln(&b, i, string(store.AppendJSONList(nil, sessions)))
	i, queries := s.Queries(nil)
	fmt.Fprintln(&b, i, string(store.AppendJSONList(nil, queries)))
	c := s.Counts()
	c.Watches = 0
	fmt.Fprintln(&b, c)
	return b.String()
}

func TestSnapshotRoundTrip(t *testing.T) {
	for _, keys := range []int{0, 3000} {
		from := filled(t, keys)
		stream := persist(t, from)
		to := filled(t, 5) // a restore leaves nothing of what was there
		if err := to.Restore(io.NopCloser(bytes.NewReader(stream))); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(dump(from), dump(to)); diff != "" {
			t.Errorf("%d keys (-written +restored):\n%s", keys, diff)
		}
		// Both go on alike.
		a, b := from.Apply(logEntry(kvCommand("z", "1"))), to.Apply(logEntry(kvCommand("z", "1")))
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("the next command (-written +restored):\n%s", diff)
		}
	}
}

// A snapshot shows one moment, whatever is written while it is persisted.
func TestSnapshotIsOfOneMoment(t *testing.T) {
	f := filled(t, 100)
	before := dump(f)
	sn, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		f.Apply(logEntry(kvCommand(fmt.Sprintf("k/%05d", i), "later")))
	}
	var s sink
	if err := sn.Persist(&s); err != nil {
		t.Fatal(err)
	}
	to := newFSM()
	if err := to.Restore(io.NopCloser(&s.Buffer)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, dump(to)); diff != "" {
		t.Errorf("(-at the snapshot +restored):\n%s", diff)
	}
}

func TestPersistGivesUpWhenTheDiskIsFull(t *testing.T) {
	f := filled(t, 3000)
	sn, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	s := sink{room: 100 << 10}
	if err := sn.Persist(&s); err == nil || !strings.Contains(err.Error(), "no space left") || !s.cancelled || s.closed {
		t.Errorf("%v, cancelled %v, closed %v", err, s.cancelled, s.closed)
	}
}

// Every cut and every flipped byte is found, and nothing changes.
func TestRestoreRefusesDamage(t *testing.T) {
	stream := persist(t, filled(t, 20))
	f := filled(t, 3)
	before := dump(f)
	refuse := func(what string, b []byte) {
		t.Helper()
		if err := f.Restore(io.NopCloser(bytes.NewReader(b))); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range stream {
		refuse(fmt.Sprintf("cut at %d", i), stream[:i])
		b := bytes.Clone(stream)
		b[i] ^= 0x10
		refuse(fmt.Sprintf("byte %d flipped", i), b)
	}
	refuse("something at the end", append(bytes.Clone(stream), 0))
	refuse("a huge frame", append([]byte(magic), 0xff, 0xff, 0xff, 0x0e, 0, 0, 0, 0))
	if after := dump(f); after != before {
		t.Errorf("a refused restore changed the state:\n%s", cmp.Diff(before, after))
	}
}

// Frames that change places keep their own bytes: the chain of checksums finds it.
func TestRestoreRefusesReorderedFrames(t *testing.T) {
	stream := persist(t, filled(t, 2000))
	var frames [][]byte
	for rest := stream[len(magic):]; len(rest) > 0; {
		n := 8 + (int(rest[0]) | int(rest[1])<<8 | int(rest[2])<<16)
		frames = append(frames, rest[:n])
		rest = rest[n:]
	}
	if len(frames) < 5 {
		t.Fatalf("only %d frames", len(frames))
	}
	frames[1], frames[2] = frames[2], frames[1]
	swapped := append([]byte(magic), bytes.Join(frames, nil)...)
	if err := newFSM().Restore(io.NopCloser(bytes.NewReader(swapped))); !errors.Is(err, ErrSnapshot) {
		t.Errorf("swapped frames: %v", err)
	}
	without := append([]byte(magic), bytes.Join(append(frames[:1:1], frames[3:]...), nil)...)
	if err := newFSM().Restore(io.NopCloser(bytes.NewReader(without))); !errors.Is(err, ErrSnapshot) {
		t.Errorf("left-out frames: %v", err)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(AppendBatch(nil, []store.Command{kvCommand("a", "b"), {Kind: 7, Ignorable: true}}))
	f.Add([]byte{1})
	f.Add([]byte{1, 2, 1, 0}) // of the first version
	f.Fuzz(func(t *testing.T, b []byte) {
		cmds, err := DecodeBatch(nil, b)
		if err != nil {
			return
		}
		total := 0
		known := cmds[:0:0]
		for _, c := range cmds {
			total += len(c.Payload)
			if state.Known(c.Kind) || c.Ignorable {
				known = append(known, c)
			}
		}
		if total > len(b) {
			t.Fatalf("payloads of %d bytes from %d", total, len(b))
		}
		st := state.New()
		res := make([]store.Result, len(known))
		st.Apply(known, res)
		again := state.New()
		again.Apply(known, make([]store.Result, len(known)))
		if st.Index() != again.Index() || st.Index() != 1+store.Index(len(known)) {
			t.Fatalf("index %d after %d commands", st.Index(), len(known))
		}
	})
}

func FuzzReadSnapshot(f *testing.F) {
	f.Add(persist(f, filled(f, 3)))
	f.Add(persist(f, newFSM()))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := newFSM()
		before := dump(m)
		if err := m.Restore(io.NopCloser(bytes.NewReader(b))); err != nil {
			if !errors.Is(err, ErrSnapshot) || dump(m) != before {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		persist(t, m)
	})
}

// FuzzImage gives records to the image without the checksums that keep random
// bytes away from it.
func FuzzImage(f *testing.F) {
	err := filled(f, 3).State().Snapshot().Encode(func(kind state.RecordKind, record []byte) error {
		f.Add(uint16(kind), bytes.Clone(record))
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, kind uint16, record []byte) {
		im := state.NewImage(state.Header{Index: 5})
		_ = im.Add(state.RecordKind(2), (&store.Node{Node: "n1"}).AppendWire(nil))
		_ = im.Add(state.RecordKind(3), (&store.Service{Node: "n1", ID: "web", Name: "web"}).AppendWire(nil))
		if im.Add(state.RecordKind(kind), record) != nil {
			return
		}
		m := newFSM()
		m.State().Restore(im)
		dump(m)
		persist(t, m)
	})
}

func BenchmarkSnapshot200kKeys(b *testing.B) {
	f := newFSM()
	var cmds []store.Command
	for i := range 200_000 {
		cmds = append(cmds, kvCommand(fmt.Sprintf("bench/key/%07d", i), strings.Repeat("v", 32)))
		if len(cmds) == 512 {
			f.Apply(logEntry(cmds...))
			cmds = cmds[:0]
		}
	}
	var stream []byte
	b.Run("snapshot", func(b *testing.B) {
		for b.Loop() {
			if _, err := f.Snapshot(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("persist", func(b *testing.B) {
		for b.Loop() {
			stream = persist(b, f)
		}
	})
	b.Run("restore", func(b *testing.B) {
		for b.Loop() {
			if err := newFSM().Restore(io.NopCloser(bytes.NewReader(stream))); err != nil {
				b.Fatal(err)
			}
		}
	})
}
