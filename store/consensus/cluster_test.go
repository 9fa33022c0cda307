package consensus

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"landbridge/store"
	"landbridge/store/raftlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listFSM keeps the payloads in the order they were applied. A payload "cas N"
// is OK only if it is the Nth.
type listFSM struct {
	mu      sync.Mutex
	list    []string
	batches []int
	delay   time.Duration // per entry
	restore int
}

func encodeList(b []byte, cmds []store.Command) []byte {
	for _, c := range cmds {
		b = binary.AppendUvarint(b, uint64(len(c.Payload)))
		b = append(b, c.Payload...)
	}
	return b
}

func decodeList(b []byte) (out []string) {
	for len(b) > 0 {
		n, w := binary.Uvarint(b)
		out = append(out, string(b[w:w+int(n)]))
		b = b[w+int(n):]
	}
	return out
}

func (f *listFSM) Apply(l *raft.Log) any {
	if f.delay > 0 {
		time.Sleep(f.delay)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	cmds := decodeList(l.Data)
	f.batches = append(f.batches, len(cmds))
	res := make([]store.Result, len(cmds))
	for i, c := range cmds {
		f.list = append(f.list, c)
		res[i] = store.Result{Index: store.Index(len(f.list)), OK: true}
		var at int
		if n, _ := fmt.Sscanf(c, "cas %d", &at); n == 1 && at != len(f.list) {
			f.list = f.list[:len(f.list)-1]
			res[i] = store.Result{Index: store.Index(len(f.list))}
		}
	}
	return res
}

func (f *listFSM) Snapshot() (raft.FSMSnapshot, error) {
	return listSnapshot(strings.Join(f.all(), "\n")), nil
}

func (f *listFSM) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.restore++
	f.list = nil
	if len(b) > 0 {
		f.list = strings.Split(string(b), "\n")
	}
	return nil
}

func (f *listFSM) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

type listSnapshot string

func (s listSnapshot) Persist(k raft.SnapshotSink) error {
	if _, err := io.WriteString(k, string(s)); err != nil {
		return k.Cancel()
	}
	return k.Close()
}

func (s listSnapshot) Release() {}

// wire is a transport whose answers can be held up, as by a frozen process.
type wire struct {
	*raft.InmemTransport
	hold     atomic.Int64 // nanoseconds before an answer to AppendEntries is seen
	timeouts atomic.Int64 // TimeoutNow requests sent
	lost     atomic.Bool  // TimeoutNow does not arrive
}

func (w *wire) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := w.InmemTransport.AppendEntries(id, target, args, resp)
	time.Sleep(time.Duration(w.hold.Load()))
	return err
}

func (w *wire) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	w.timeouts.Add(1)
	if w.lost.Load() {
		return nil
	}
	return w.InmemTransport.TimeoutNow(id, target, args, resp)
}

type server struct {
	*Node
	id     string
	fsm    *listFSM
	stores *raftlog.Stores
	wire   *wire
}

type cluster struct {
	t       testing.TB
	servers []*server
	cut     map[string]bool
	prepare func(*server) // before a server first begins
	created func(*server) // with its Node, before that starts; nil: nothing to do
	// commandVersion is what servers are told of each other; nil: the newest.
	commandVersion func(id string) int
}

func newCluster(t testing.TB, n int) *cluster {
	c := &cluster{t: t, cut: map[string]bool{}}
	c.add(n)
	t.Cleanup(func() {
		for _, s := range c.servers {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			if err := s.Stop(ctx); err != nil {
				t.Errorf("stop %s: %v", s.id, err)
			}
			cancel()
		}
	})
	return c
}

func (c *cluster) add(n int) {
	for i := range n {
		s := &server{id: fmt.Sprintf("s%d", i+1), fsm: &listFSM{}, stores: raftlog.OpenMemory()}
		s.stores.Log = &fullLog{InmemStore: s.stores.Log.(*raft.InmemStore)}
		if c.prepare != nil {
			c.prepare(s)
		}
		c.servers = append(c.servers, s)
		c.begin(s)
	}
}

// begin starts a server on its stores.
func (c *cluster) begin(s *server) {
	c.t.Helper()
	_, tr := raft.NewInmemTransport(raft.ServerAddress("addr-" + s.id))
	tr.Connect(tr.LocalAddr(), tr)
	s.wire = &wire{InmemTransport: tr}
	node, err := New(Config{
		NodeID: s.id, FSM: s.fsm, EncodeBatch: encodeList, Stores: s.stores, Transport: s.wire,
		CommandVersion: func(id string) int {
			if c.commandVersion == nil {
				return math.MaxInt
			}
			return c.commandVersion(id)
		},
		Logger: slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("server", s.id),
		Fatal:  func(err error) { c.t.Errorf("fatal: %v", err) },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	s.Node = node
	if c.created != nil {
		c.created(s)
	}
	c.connect()
	if err := node.Start(context.Background()); err != nil {
		c.t.Fatal(err)
	}
}

// connect wires all that are not cut off.
func (c *cluster) connect() {
	for _, a := range c.servers {
		for _, b := range c.servers {
			if a == b || a.wire == nil || b.wire == nil {
				continue
			}
			if c.cut[a.id] || c.cut[b.id] {
				a.wire.Disconnect(b.wire.LocalAddr())
			} else {
				a.wire.Connect(b.wire.LocalAddr(), b.wire.InmemTransport)
			}
		}
	}
}

func (c *cluster) isolate(s *server) { c.cut[s.id] = true; c.connect() }
func (c *cluster) heal()             { clear(c.cut); c.connect() }

func (c *cluster) bootstrap() {
	c.t.Helper()
	var members []Server
	for _, s := range c.servers {
		members = append(members, Server{ID: s.id, Address: "addr-" + s.id, Voter: true})
	}
	if err := c.servers[0].Bootstrap(members); err != nil {
		c.t.Fatal(err)
	}
}

// leader waits for a ready leader among the servers that are not cut off.
func (c *cluster) leader(within time.Duration) *server {
	c.t.Helper()
	deadline := time.After(within)
	for {
		wait := []reflect.SelectCase{{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(deadline)}}
		for _, s := range c.servers {
			wait = append(wait, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(s.LeaderChanged())})
			if !c.cut[s.id] && s.IsLeader() {
				return s
			}
		}
		if i, _, _ := reflect.Select(wait); i == 0 {
			c.t.Fatalf("no leader within %v", within)
		}
	}
}

func (c *cluster) others(s *server) (out []*server) {
	for _, o := range c.servers {
		if o != s {
			out = append(out, o)
		}
	}
	return out
}

func put(s string) store.Command { return store.Command{Kind: store.CmdKV, Payload: []byte(s)} }

func mustApply(t testing.TB, s *server, payload string) store.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	res, err := s.Apply(ctx, put(payload))
	if err != nil {
		t.Fatalf("apply %q on %s: %v", payload, s.id, err)
	}
	return res
}

func wantKind(t testing.TB, err error, want store.Kind) {
	t.Helper()
	if err == nil || store.KindOf(err) != want {
		t.Fatalf("error %v of kind %d, want kind %d", err, store.KindOf(err), want)
	}
}
