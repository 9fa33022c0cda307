package consensus

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"landbridge/store"
	"landbridge/store/fsm"
	"landbridge/store/raftlog"
	"landbridge/store/state"
)

func BenchmarkApply(b *testing.B) {
	for _, where := range []string{"memory", "disk"} {
		for _, callers := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("%s/c=%d", where, callers), func(b *testing.B) {
				st := raftlog.OpenMemory()
				if where == "disk" {
					var err error
					if st, err = raftlog.Open(b.TempDir(), raftlog.Options{RaftID: "s1", Fatal: func(err error) { b.Error(err) }}); err != nil {
						b.Fatal(err)
					}
				}
				s := benchServer(b, "s1", st)
				if err := s.Bootstrap([]Server{{ID: "s1", Address: "addr-s1", Voter: true}}); err != nil {
					b.Fatal(err)
				}
				s.ready(b)
				runApply(b, s, callers)
			})
		}
	}
}

// BenchmarkApplyThree has three servers in one process, in memory: what the
// protocol costs, without a network and a disk.
func BenchmarkApplyThree(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("c=%d", callers), func(b *testing.B) {
			var servers []*server
			var members []Server
			for _, id := range []string{"s1", "s2", "s3"} {
				servers = append(servers, benchServer(b, id, raftlog.OpenMemory()))
				members = append(members, Server{ID: id, Address: "addr-" + id, Voter: true})
			}
			for _, x := range servers {
				for _, y := range servers {
					if x != y {
						x.wire.Connect(y.wire.LocalAddr(), y.wire.InmemTransport)
					}
				}
			}
			if err := servers[0].Bootstrap(members); err != nil {
				b.Fatal(err)
			}
			servers[0].ready(b)
			runApply(b, servers[0], callers)
		})
	}
}

func benchServer(b *testing.B, id string, st *raftlog.Stores) *server {
	_, tr := raft.NewInmemTransport(raft.ServerAddress("addr-" + id))
	s := &server{id: id, stores: st, wire: &wire{InmemTransport: tr}}
	var err error
	s.Node, err = New(Config{NodeID: id, FSM: fsm.New(state.New(), discard()), Stores: st, Transport: s.wire,
		Fatal: func(err error) { b.Error(err) }})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.end(b) })
	return s
}

// runApply writes keys of 18 bytes with values of 150 from as many callers.
func runApply(b *testing.B, s *server, callers int) {
	payloads := make([][]byte, 4096)
	for i := range payloads {
		kv := store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: fmt.Sprintf("bench/key/%08d", i), Value: make([]byte, 150)}}
		payloads[i] = kv.AppendWire(nil)
	}
	var next atomic.Int64
	lat := make([]time.Duration, 0, callers)
	var mu sync.Mutex
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			var worst time.Duration
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					break
				}
				start := time.Now()
				res, err := s.Apply(context.Background(), store.Command{Kind: store.CmdKV, Payload: payloads[i%4096]})
				worst = max(worst, time.Since(start))
				if err != nil || res.Err != nil {
					b.Errorf("apply: %v, %v", err, res.Err)
					return
				}
			}
			mu.Lock()
			lat = append(lat, worst)
			mu.Unlock()
		})
	}
	wg.Wait()
	b.StopTimer()
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := func(r syscall.Rusage) int64 { return syscall.TimevalToNsec(r.Utime) + syscall.TimevalToNsec(r.Stime) }
	b.ReportMetric(float64(cpu(after)-cpu(before))/1e3/float64(b.N), "cpu-us/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}

func BenchmarkLease(b *testing.B) {
	l := newLease(375*time.Millisecond, "s1", func() raft.Configuration { return raft.Configuration{} })
	l.held.Store(&heldLease{term: 3, sent: time.Now().Add(time.Hour)})
	b.ReportAllocs()
	for b.Loop() {
		if !l.valid(3, time.Now()) {
			b.Fatal("not valid")
		}
	}
}
