package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
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
	s.wire = &wire{InmemTransport: tr}
	node, err := New(Config{
		NodeID: s.id, FSM: s.fsm, EncodeBatch: encodeList, Stores: s.stores, Transport: s.wire,
		Logger: slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("server", s.id),
		Fatal:  func(err error) { c.t.Errorf("fatal: %v", err) },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	s.Node = node
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
		var wait []<-chan struct{}
		for _, s := range c.servers {
			wait = append(wait, s.LeaderChanged())
			if !c.cut[s.id] && s.IsLeader() {
				return s
			}
		}
		for len(wait) < 3 {
			wait = append(wait, nil)
		}
		select {
		case <-wait[0]:
		case <-wait[1]:
		case <-wait[2]:
		case <-deadline:
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

func TestSingleServerServesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		s := c.servers[0]
		if s.HasState() {
			t.Error("state in a new server")
		}
		_, err := s.Apply(t.Context(), put("early"))
		wantKind(t, err, store.KindNoLeader)
		begin := time.Now()
		c.bootstrap()
		c.leader(time.Second)
		mustApply(t, s, "a")
		if d := time.Since(begin); d > 50*time.Millisecond {
			t.Errorf("first write after bootstrap took %v, want under 50ms", d)
		}
		if err := s.CheckLease(); err != nil {
			t.Errorf("CheckLease alone: %v", err)
		}
		if err := s.VerifyLeader(t.Context()); err != nil {
			t.Errorf("VerifyLeader alone: %v", err)
		}
		wantKind(t, s.Bootstrap([]Server{{ID: s.id, Address: "addr-s1", Voter: true}}), store.KindConflict)

		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = s.Apply(t.Context(), put("late"))
		wantKind(t, err, store.KindNoLeader)
		s.fsm = &listFSM{}
		begin = time.Now()
		c.begin(s)
		c.leader(time.Second)
		mustApply(t, s, "b")
		if d := time.Since(begin); d > 50*time.Millisecond {
			t.Errorf("first write after a restart took %v, want under 50ms", d)
		}
		if got := s.fsm.all(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("list %v, want a b", got)
		}
		if !s.HasState() {
			t.Error("no state after a restart")
		}
	})
}

func TestElectFailOverHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		begin := time.Now()
		c.bootstrap()
		first := c.leader(3 * time.Second)
		if d := time.Since(begin); d > 500*time.Millisecond {
			t.Errorf("first leader after %v, want the bootstrapping server at once", d)
		}
		mustApply(t, first, "a")
		// A follower that has not got the configuration yet would count as one
		// that still hears its leader, and refuse the first vote.
		time.Sleep(time.Second)
		id, addr := first.Leader()
		if id != first.id || addr != "addr-"+first.id {
			t.Errorf("leader is %s at %s, want %s", id, addr, first.id)
		}
		follower := c.others(first)[0]
		if _, err := follower.Apply(t.Context(), put("x")); store.KindOf(err) != store.KindNoLeader {
			t.Errorf("apply on a follower: %v, want KindNoLeader", err)
		}
		wantKind(t, follower.CheckLease(), store.KindNoLeader)
		wantKind(t, follower.VerifyLeader(t.Context()), store.KindNoLeader)

		c.isolate(first)
		cut := time.Now()
		second := c.leader(5 * time.Second)
		// A timer of 750 to 1,500 ms that found a fresh contact runs once more,
		// and both followers must have lost the leader: 2 s in 49 of 50 runs.
		if d := time.Since(cut); d > 4*time.Second {
			t.Errorf("a new leader after %v", d)
		}
		mustApply(t, second, "b")
		wantKind(t, first.CheckLease(), store.KindNoLeader)

		c.heal()
		time.Sleep(3 * time.Second)
		for _, s := range c.servers {
			if got := s.fsm.all(); !slices.Equal(got, []string{"a", "b"}) {
				t.Errorf("%s has %v, want a b", s.id, got)
			}
		}
		if d := c.others(c.leader(time.Second))[0].LastContact(); d > time.Second {
			t.Errorf("last contact of a follower: %v", d)
		}
	})
}

func TestLostQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		mustApply(t, l, "a")
		drain(l.Leadership())
		for _, o := range c.others(l) {
			c.isolate(o)
		}
		begin := time.Now()
		_, err := l.Apply(t.Context(), put("b"))
		wantKind(t, err, store.KindMaybeApplied)
		if !strings.Contains(err.Error(), "leadership lost while committing log") {
			t.Errorf("error %q", err)
		}
		if d := time.Since(begin); d > time.Second {
			t.Errorf("answered after %v, want about a lease (375ms)", d)
		}
		if leads := <-l.Leadership(); leads {
			t.Error("Leadership says true after the loss")
		}
		_, err = l.Apply(t.Context(), put("c"))
		wantKind(t, err, store.KindNoLeader)
		if err.Error() != "No cluster leader" {
			t.Errorf("error %q, want the words clients know", err)
		}
		// Without a quorum Stop still ends: the cleanup checks that.
	})
}

func drain(c <-chan bool) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}

func TestLeaseCountsFromSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		time.Sleep(time.Second)
		if err := l.CheckLease(); err != nil {
			t.Fatalf("lease of a healthy leader: %v", err)
		}
		// Answers are seen 400 ms after their requests were sent, as by a
		// process that stood still: Raft's own lease goes on, ours must not.
		l.wire.hold.Store(int64(400 * time.Millisecond))
		time.Sleep(1200 * time.Millisecond)
		if l.raft.Load().State() != raft.Leader {
			t.Fatal("the leader stepped down; the test needs it to lead")
		}
		err := l.CheckLease()
		wantKind(t, err, store.KindNoLeader)
		if !isLease(err) {
			t.Errorf("cause of %v is not ErrLease", err)
		}
		l.wire.hold.Store(0)
		asked := time.Now()
		if err := l.VerifyLeader(t.Context()); err != nil {
			t.Errorf("VerifyLeader: %v", err)
		}
		if h := l.lease.held.Load(); h == nil || h.sent.Before(asked) {
			t.Errorf("VerifyLeader was content with an answer to an older request: %+v, asked at %v", h, asked)
		}
		if err := l.CheckLease(); err != nil {
			t.Errorf("lease after a fresh answer: %v", err)
		}
		// Cut off, the lease is over before anybody else can be elected.
		c.isolate(l)
		cut := time.Now()
		for l.CheckLease() == nil {
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(cut); d > 375*time.Millisecond {
			t.Errorf("the lease held for %v after the cut, want at most 375ms", d)
		}
	})
}

func isLease(err error) bool { return errors.Is(err, ErrLease) }

func TestNoLeaseAfterTransferBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		time.Sleep(time.Second)
		l.wire.lost.Store(true)
		if err := l.TransferLeadership(t.Context(), ""); err == nil {
			t.Error("a transfer whose request was lost succeeded")
		}
		time.Sleep(time.Second)
		if !l.IsLeader() {
			t.Fatal("the leader is gone; the test needs it to lead on")
		}
		if err := l.CheckLease(); !isLease(err) {
			t.Errorf("lease after a transfer began: %v, want ErrLease", err)
		}
		if err := l.VerifyLeader(t.Context()); err != nil {
			t.Errorf("VerifyLeader: %v", err)
		}
		l.wire.lost.Store(false)
		to := c.others(l)[1]
		if err := l.TransferLeadership(t.Context(), to.id); err != nil {
			t.Fatalf("transfer: %v", err)
		}
		if got := c.leader(time.Second); got != to {
			t.Errorf("leader is %s, want %s", got.id, to.id)
		}
		time.Sleep(time.Second)
		if err := to.CheckLease(); err != nil {
			t.Errorf("lease of the new leader: %v", err)
		}
		wantKind(t, to.TransferLeadership(t.Context(), "nobody"), store.KindInvalid)
	})
}

func TestRestartedVoterWaitsOneLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &voteGuard{StableStore: raft.NewInmemStore(), alone: new(atomic.Bool), until: time.Now().Add(375 * time.Millisecond)}
		begin := time.Now()
		g.SetUint64([]byte("CurrentTerm"), 2)
		if d := time.Since(begin); d != 0 {
			t.Errorf("a term waited %v", d)
		}
		g.SetUint64([]byte("LastVoteTerm"), 2)
		if d := time.Since(begin); d != 375*time.Millisecond {
			t.Errorf("a vote waited %v, want 375ms", d)
		}
		g.SetUint64([]byte("LastVoteTerm"), 3)
		if d := time.Since(begin); d != 375*time.Millisecond {
			t.Errorf("the second vote waited %v", d)
		}
	})
}

// fullLog refuses entries while full is set.
type fullLog struct {
	*raft.InmemStore
	full    atomic.Bool
	refused atomic.Int64
}

func (l *fullLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

func (l *fullLog) StoreLogs(es []*raft.Log) error {
	if err := l.Writable(); err != nil {
		l.refused.Add(1)
		return err
	}
	return l.InmemStore.StoreLogs(es)
}

func (l *fullLog) Writable() error {
	if l.full.Load() {
		return syscall.ENOSPC
	}
	return nil
}

func TestFullDiskOfLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		mustApply(t, l, "a")
		disk := l.stores.Log.(*fullLog)
		disk.full.Store(true)
		_, err := l.Apply(t.Context(), put("b"))
		wantKind(t, err, store.KindInternal)
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "write refused") {
			t.Errorf("error %v, want one that names the full disk", err)
		}
		for l.IsLeader() {
			<-l.LeaderChanged()
		}
		second := c.leader(5 * time.Second)
		if second == l {
			t.Fatal("the server with the full disk leads again")
		}
		mustApply(t, second, "c")
		time.Sleep(10 * time.Second)
		if !second.IsLeader() {
			t.Error("the server with the full disk unseated the leader")
		}
		disk.full.Store(false)
		time.Sleep(10 * time.Second)
		if got := l.fsm.all(); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("with room again: %v, want a c", got)
		}
	})
}

func TestFullDiskAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		c.bootstrap()
		s := c.leader(time.Second)
		disk := s.stores.Log.(*fullLog)
		disk.full.Store(true)
		_, err := s.Apply(t.Context(), put("a"))
		wantKind(t, err, store.KindInternal)
		time.Sleep(10 * time.Second)
		disk.full.Store(false)
		c.leader(5 * time.Second)
		mustApply(t, s, "b")
		if got := s.fsm.all(); !slices.Equal(got, []string{"b"}) {
			t.Errorf("applied %v, want b", got)
		}
	})
}

// A follower so far behind that the log no longer has what it misses.
func TestFollowerCatchesUpBySnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		mustApply(t, l, "first")
		behind := c.others(l)[0]
		c.isolate(behind)
		if err := l.ReloadSnapshots(SnapshotConfig{TrailingLogs: 5}); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			mustApply(t, l, fmt.Sprint(i))
		}
		if err := l.Raft().Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		mustApply(t, l, "last")
		time.Sleep(time.Minute)
		c.heal()
		time.Sleep(time.Second)
		behind.fsm.mu.Lock()
		if behind.fsm.restore != 1 {
			t.Errorf("restored %d times, want 1", behind.fsm.restore)
		}
		behind.fsm.mu.Unlock()
		if got, want := behind.fsm.all(), l.fsm.all(); !slices.Equal(got, want) {
			t.Errorf("%d entries after catching up, want %d", len(got), len(want))
		}
		if !l.IsLeader() {
			t.Error("the returning follower unseated the leader")
		}
	})
}

func TestGroupsKeepOrderAndResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		l.fsm.delay = 5 * time.Millisecond
		const n = 1500
		var wg sync.WaitGroup
		errs := make([]error, n)
		results := make([]store.Result, n)
		for i := range n {
			payload := fmt.Sprintf("w %d", i)
			if i%3 == 2 {
				payload = fmt.Sprintf("cas %d", 2*(i/3+1)+1) // it takes effect only in its right place
			}
			wg.Go(func() { results[i], errs[i] = l.Apply(t.Context(), put(payload)) })
			synctest.Wait() // Apply is in the queue before the next one
		}
		wg.Wait()
		next := store.Index(0)
		for i := range n {
			if errs[i] != nil {
				t.Fatalf("command %d: %v", i, errs[i])
			}
			if results[i].OK {
				next++
			}
			if results[i].Index != next {
				t.Fatalf("command %d has index %d, want %d: order was lost", i, results[i].Index, next)
			}
		}
		time.Sleep(10 * time.Second)
		want := l.fsm.all()
		if len(want) != int(next) {
			t.Errorf("%d applied, want %d", len(want), next)
		}
		for _, o := range c.others(l) {
			if got := o.fsm.all(); !slices.Equal(got, want) {
				t.Errorf("%s differs from the leader", o.id)
			}
		}
		if m := slices.Max(l.fsm.batches); m < 2 || m > maxGroup {
			t.Errorf("largest group %d commands", m)
		}
	})
}

func TestApplyAllSharesAnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		cmds := make([]store.Command, maxGroup+100)
		for i := range cmds {
			cmds[i] = put(fmt.Sprintf("w %d", i))
		}
		applied := len(l.fsm.batches)
		results, errs := l.ApplyAll(t.Context(), cmds)
		for i := range cmds {
			if errs[i] != nil || i > 0 && results[i].Index != results[i-1].Index+1 {
				t.Fatalf("command %d: index %d after %d, %v", i, results[i].Index, results[i-1].Index, errs[i])
			}
		}
		if got := l.fsm.batches[applied:]; !slices.Equal(got, []int{maxGroup, 100}) {
			t.Errorf("groups of %v, want %d and 100", got, maxGroup)
		}
		if results, errs := l.ApplyAll(t.Context(), nil); len(results) != 0 || len(errs) != 0 {
			t.Errorf("nothing gave %v %v", results, errs)
		}
		_, errs = c.others(l)[0].ApplyAll(t.Context(), cmds[:2])
		for _, err := range errs {
			wantKind(t, err, store.KindNoLeader)
		}
		// A caller that leaves leaves with all of them, and those not begun are not made.
		l.fsm.delay = time.Second
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, errs = l.ApplyAll(ctx, cmds[:2])
		wantKind(t, errs[0], store.KindMaybeApplied)
		wantKind(t, errs[1], store.KindMaybeApplied)
	})
}

func TestGroupBounds(t *testing.T) {
	var q queue
	q.init(newMetrics(newReg()).queued)
	push := func(size int) {
		if err := q.push(q.get(store.Command{Payload: make([]byte, size)})); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		push(1)
	}
	if got := len(q.take(nil)); got != 512 {
		t.Errorf("first group has %d commands, want 512", got)
	}
	if got := len(q.take(nil)); got != 488 {
		t.Errorf("second group has %d commands, want 488", got)
	}
	for _, size := range []int{100 << 10, 100 << 10, 100 << 10, 600 << 10, 1, 1} {
		push(size)
	}
	var groups []int
	for _, want := range []int{2, 1, 1, 2} {
		got := len(q.take(nil))
		groups = append(groups, got)
		if got != want {
			t.Fatalf("groups %v, want 2 1 1 2: at most 256 KB, a larger one alone", groups)
		}
	}
	if got := q.take(nil); len(got) != 0 {
		t.Errorf("an empty queue gave %d", len(got))
	}
}

func TestApplyHeedsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		c.bootstrap()
		s := c.leader(time.Second)
		s.fsm.delay = time.Second
		bg := func(payload string) chan error {
			done := make(chan error, 1)
			go func() { _, err := s.Apply(context.Background(), put(payload)); done <- err }()
			synctest.Wait()
			return done
		}
		first, second := bg("a"), bg("b") // both entries on the way
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begin := time.Now()
		_, err := s.Apply(ctx, put("never"))
		wantKind(t, err, store.KindTimeout)
		if d := time.Since(begin); d != 100*time.Millisecond {
			t.Errorf("left after %v, want 100ms", d)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
		if err := <-second; err != nil {
			t.Error(err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = s.Apply(ctx, put("c"))
		wantKind(t, err, store.KindMaybeApplied)
		time.Sleep(5 * time.Second)
		if got := s.fsm.all(); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("applied %v, want a b c", got)
		}
		canceled, cancel2 := context.WithCancel(t.Context())
		cancel2()
		_, err = s.Apply(canceled, put("d"))
		wantKind(t, err, store.KindTimeout)
	})
}

func TestMembership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		s := c.servers[0]
		if err := s.Bootstrap([]Server{{ID: "s1", Address: "addr-s1", Voter: true}}); err != nil {
			t.Fatal(err)
		}
		c.leader(time.Second)
		mustApply(t, s, "a")
		if !s.alone.Load() {
			t.Error("a lone server does not know it is alone")
		}
		if err := s.AddNonvoter(t.Context(), "s2", "addr-s2"); err != nil {
			t.Fatal(err)
		}
		if s.alone.Load() {
			t.Error("alone with a non-voter")
		}
		if err := s.AddVoter(t.Context(), "s2", "addr-s2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := s.CheckLease(); err != nil {
			t.Errorf("lease with two voters: %v", err)
		}
		if err := s.AddNonvoter(t.Context(), "s3", "addr-s3"); err != nil {
			t.Fatal(err)
		}
		want := []Server{{"s1", "addr-s1", true}, {"s2", "addr-s2", true}, {"s3", "addr-s3", false}}
		if got := s.Servers(); !slices.Equal(got, want) {
			t.Errorf("servers %v, want %v", got, want)
		}
		// The non-voter's answers count for nothing.
		c.isolate(c.servers[1])
		time.Sleep(400 * time.Millisecond)
		if err := s.CheckLease(); err == nil {
			t.Error("a lease without the other voter")
		}
		c.heal()
		l := c.leader(5 * time.Second)
		for _, id := range []string{"s2", "s1", "s3"} {
			if id != l.id {
				if err := l.RemoveServer(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		if err := l.CheckLease(); err != nil || !l.alone.Load() {
			t.Errorf("lease alone again: %v", err)
		}
		if err := l.Barrier(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestLifeCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, tr := raft.NewInmemTransport("a")
		cfg := Config{NodeID: "s1", FSM: &listFSM{}, Stores: raftlog.OpenMemory(), Transport: tr, Fatal: func(err error) { t.Error(err) }}
		if _, err := New(Config{Multiplier: 11}); err == nil || !strings.Contains(err.Error(), "raft_multiplier cannot be 11") || !strings.Contains(err.Error(), "Transport is required") {
			t.Errorf("New: %v, want all problems", err)
		}
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if n.IsLeader() || n.LastContact() != 0 || n.Stats() != nil || len(n.Servers()) != 0 {
			t.Error("a node that was not started says something")
		}
		wantKind(t, n.Bootstrap(nil), store.KindNoLeader)
		wantKind(t, n.Barrier(t.Context()), store.KindNoLeader)
		for range 2 {
			if err := n.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := n.Start(t.Context()); err == nil {
			t.Error("Start after Stop succeeded")
		}
		cfg.Registerer = nil
		n, err = New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.Start(t.Context()); err == nil {
			t.Error("second Start succeeded")
		}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := n.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() { n.Apply(t.Context(), put("x")) })
			wg.Go(func() { n.VerifyLeader(t.Context()) })
			wg.Go(func() { n.Barrier(t.Context()) })
		}
		wg.Wait()
	})
}

func TestTimings(t *testing.T) {
	for m, want := range map[int]time.Duration{0: 750, 1: 500, 3: 500, 4: 600, 5: 750, 10: 1500} {
		hb, lease := Timings(m)
		if hb != want*time.Millisecond || lease != hb/2 {
			t.Errorf("Timings(%d) = %v, %v, want %v and half", m, hb, lease, want*time.Millisecond)
		}
	}
}
