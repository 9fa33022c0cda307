package state

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"landbridge/store"
)

const benchKeys = 200_000

func benchKey(i int) string { return fmt.Sprintf("bench/key/%07d", i) }

func benchSet(i int, value string) store.Command {
	return command(store.CmdKV, &store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: benchKey(i), Value: []byte(value)}})
}

func heapAlloc() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// filledKV returns a store of n keys written in random order.
func filledKV(n int) *Store {
	s := New()
	order := rand.New(rand.NewPCG(1, 2)).Perm(n)
	value := strings.Repeat("v", 32)
	var cmds []store.Command
	res := make([]store.Result, 64)
	for at, i := range order {
		cmds = append(cmds, benchSet(i, value))
		if len(cmds) == len(res) || at == n-1 {
			s.Apply(cmds, res)
			cmds = cmds[:0]
		}
	}
	return s
}

// filledCatalog returns a catalog of nodes with instances of services, ten times
// as many services as nodes, each with a check, and serfHealth on each node.
func filledCatalog(t testing.TB, nodes, services int) *Store {
	s := New()
	for n := range nodes {
		c := register(fmt.Sprintf("node-%04d", n), &store.Check{CheckID: store.SerfHealth, Name: "Serf Health Status", Status: store.Passing, Output: "Agent alive and reachable"})
		c.Node.ID = fmt.Sprintf("%08d-0000-4000-8000-000000000000", n)
		c.Node.TaggedAddresses = map[string]string{"lan": "10.0.0.1", "wan": "10.0.0.1"}
		c.Node.Meta = map[string]string{"consul-network-segment": "", "consul-version": "1.21.4"}
		must(t, s, store.CmdRegister, c)
	}
	for i := range services {
		name := fmt.Sprintf("service-%d", i/10)
		must(t, s, store.CmdRegister, register(fmt.Sprintf("node-%04d", i*7%nodes),
			&store.Service{ID: fmt.Sprintf("%s-%d", name, i), Name: name, Tags: []string{"v1", "primary"}, Port: 8080,
				Meta: map[string]string{"version": "1"}},
			&store.Check{CheckID: fmt.Sprintf("service:%s-%d", name, i), Name: "http", ServiceID: fmt.Sprintf("%s-%d", name, i), Status: store.Passing, Type: "http"}))
	}
	return s
}

// Memory is a promise (200,000 keys well under 150 MB, with their JSON read
// once): a test, not only a benchmark.
func TestMemory(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("fills 200,000 keys and measures the heap")
	}
	before := heapAlloc()
	s := filledKV(benchKeys)
	bare := heapAlloc() - before
	_, list := s.KVList(nil, "")
	for _, e := range list {
		e.JSON()
	}
	list = nil
	read := heapAlloc() - before
	t.Logf("%d keys: %d MB, %d B each; with JSON %d MB", benchKeys, bare>>20, bare/benchKeys, read>>20)
	if read > 120<<20 {
		t.Errorf("%d MB for %d keys", read>>20, benchKeys)
	}
	runtime.KeepAlive(s)
	s = nil

	before = heapAlloc()
	s = filledCatalog(t, 1000, 10_000)
	bare = heapAlloc() - before
	for i := range 1000 {
		_, l := s.ServiceInstances(nil, fmt.Sprintf("service-%d", i))
		for j := range l {
			l[j].AppendJSON(nil)
		}
	}
	read = heapAlloc() - before
	t.Logf("10,000 services on 1,000 nodes: %d MB; with views and JSON %d MB", bare>>20, read>>20)
	if read > 60<<20 {
		t.Errorf("%d MB for 10,000 services", read>>20)
	}
	runtime.KeepAlive(s)
}

func BenchmarkKVWriteBatch64(b *testing.B) {
	for _, watchers := range []int{0, 5000} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			s := filledKV(benchKeys)
			for i := range watchers {
				w := s.NewWatch()
				defer w.Close()
				s.KVGet(w, fmt.Sprintf("other/%d", i))
				s.KVList(w, fmt.Sprintf("prefix/%05d/", i))
			}
			values := []string{strings.Repeat("a", 32), strings.Repeat("b", 32)}
			var batches [64][]store.Command
			r := rand.New(rand.NewPCG(3, 4))
			for i := range batches {
				for range 64 {
					batches[i] = append(batches[i], benchSet(r.IntN(benchKeys), values[0]))
				}
			}
			res := make([]store.Result, 64)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n%64 == 0 && n/64%64 == 0 { // other values on each round, or nothing would be written
					b.StopTimer()
					values[0], values[1] = values[1], values[0]
					for i := range batches {
						for j := range batches[i] {
							batches[i][j] = benchSet(r.IntN(benchKeys), values[0])
						}
					}
					b.StartTimer()
				}
				if n%64 == 0 {
					s.Apply(batches[n/64%64], res)
				}
				n++
			}
		})
	}
}

func BenchmarkKVInsertBatch64(b *testing.B) {
	b.ReportAllocs()
	var s *Store
	var cmds []store.Command
	res := make([]store.Result, 64)
	order := rand.New(rand.NewPCG(1, 2)).Perm(benchKeys)
	n := 0
	for b.Loop() {
		if n%benchKeys == 0 {
			b.StopTimer()
			s, cmds = New(), nil
			for _, i := range order {
				cmds = append(cmds, benchSet(i, "value of some thirty-two bytes.."))
			}
			b.StartTimer()
		}
		if at := n % benchKeys; at%64 == 0 {
			s.Apply(cmds[at:min(at+64, benchKeys)], res)
		}
		n++
	}
}

func BenchmarkKVGet(b *testing.B) {
	s := filledKV(benchKeys)
	keys := make([]string, 1<<16)
	for i := range keys {
		keys[i] = benchKey(rand.IntN(benchKeys))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, e := s.KVGet(nil, keys[i&(len(keys)-1)]); e == nil {
			b.Fatal("missing")
		}
		i++
	}
}

func BenchmarkKVList100(b *testing.B) {
	s := filledKV(benchKeys)
	b.ReportAllocs()
	for b.Loop() {
		if _, l := s.KVList(nil, "bench/key/00012"); len(l) != 100 {
			b.Fatal(len(l))
		}
	}
}

func BenchmarkHealth100(b *testing.B) {
	s := New()
	for i := range 100 {
		must(b, s, store.CmdRegister, register(fmt.Sprintf("node-%03d", i), &store.Service{Name: "web", Port: 80, Tags: []string{"v1", "primary"}, Meta: map[string]string{"version": "1"}},
			&store.Check{CheckID: store.SerfHealth, Name: "Serf Health Status", Status: store.Passing, Output: "Agent alive and reachable"},
			&store.Check{CheckID: "web", Name: "http", ServiceID: "web", Status: store.Passing, Type: "http"}))
	}
	var buf []byte
	join := func() {
		_, l := s.ServiceInstances(nil, "web")
		buf = buf[:0]
		for i := range l {
			buf = l[i].AppendJSON(buf)
		}
	}
	b.Run("unchanged", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			join()
		}
		b.SetBytes(int64(len(buf)))
	})
	b.Run("one check changes", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			b.StopTimer()
			must(b, s, store.CmdRegister, register("node-050", &store.Check{CheckID: "web", ServiceID: "web", Status: store.Passing, Output: fmt.Sprint(i)}))
			i++
			b.StartTimer()
			join()
		}
	})
}

func BenchmarkCheckUpdate(b *testing.B) {
	s := filledCatalog(b, 1000, 10_000)
	cmds := [2]store.Command{}
	for i, st := range []string{store.Passing, store.Critical} {
		cmds[i] = command(store.CmdRegister, &store.RegisterCommand{Node: store.Node{Node: "node-0007"}, SkipNodeUpdate: true,
			Checks: []*store.Check{{CheckID: "service:service-0-1", ServiceID: "service-0-1", Status: st}}})
	}
	var res [1]store.Result
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		s.Apply(cmds[n&1:n&1+1], res[:])
		if res[0].Err != nil {
			b.Fatal(res[0].Err)
		}
		n++
	}
}

// Wakes of readers that each wait for a key of their own.
func BenchmarkWatchAndWake(b *testing.B) {
	s := filledKV(5000)
	watches := make([]*Watch, 5000)
	for i := range watches {
		watches[i] = s.NewWatch()
		defer watches[i].Close()
	}
	var res [1]store.Result
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		i := n % len(watches)
		s.KVGet(watches[i], benchKey(i))
		s.Apply([]store.Command{benchSet(i, fmt.Sprint(n))}, res[:])
		<-watches[i].C()
		n++
	}
}

// A transaction of ten operations beside the same as ten commands of one batch.
func BenchmarkTxn(b *testing.B) {
	const ops = 10
	for _, kind := range []string{"set", "fails", "commands", "get"} {
		b.Run(kind, func(b *testing.B) {
			s := filledKV(benchKeys)
			value := []byte(strings.Repeat("w", 32))
			// Two that follow each other write the same keys: all of them change.
			var txns [16][]store.Command
			for i := range txns {
				c := new(store.TxnCommand)
				for j := range ops {
					e := &store.KVEntry{Key: benchKey((i/2*7919 + j) % benchKeys), Value: append(value[:len(value):len(value)], byte(i), byte(j))}
					verb := store.TxnSet
					switch {
					case kind == "get":
						verb = store.TxnGet
					case kind == "fails" && j == ops-1:
						verb = store.TxnCheckNotExists
					case kind == "commands":
						txns[i] = append(txns[i], command(store.CmdKV, &store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: e.Key, Value: e.Value}}))
						continue
					}
					c.Ops = append(c.Ops, store.TxnOp{Verb: verb, KV: e})
				}
				if kind != "commands" {
					txns[i] = []store.Command{command(store.CmdTxn, c)}
				}
			}
			var res [ops]store.Result
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				cmds := txns[n%len(txns)]
				s.Apply(cmds, res[:])
				if res[0].OK == (kind == "fails") {
					b.Fatalf("%+v", res[0])
				}
				n++
			}
		})
	}
}
