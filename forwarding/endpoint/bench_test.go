package endpoint

import (
	"fmt"
	"testing"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

func run(b *testing.B, s *Set, req *rpc.Request) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Do(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKVGet(b *testing.B) {
	s, _ := newSet(b)
	put(b, s, "bench/key", "0123456789abcdef0123456789abcdef")
	for _, r := range []struct {
		name string
		rep  rpc.Representation
	}{{"json", rpc.JSON}, {"raw", rpc.Raw}} {
		b.Run(r.name, func(b *testing.B) {
			run(b, s, &rpc.Request{Method: rpc.KVGet, Query: store.Query{Name: "bench/key"}, Representation: r.rep})
		})
	}
}

func BenchmarkHealthService(b *testing.B) {
	for _, n := range []int{3, 100} {
		s, _ := newSet(b)
		for i := range n {
			web(b, s, fmt.Sprintf("node%03d", i), store.Passing, "v1", "primary")
		}
		for _, q := range []struct {
			name string
			req  rpc.Request
		}{
			{"json", rpc.Request{}},
			{"passing", rpc.Request{Query: store.Query{PassingOnly: true}}},
			{"filter", rpc.Request{Filter: `Service.Meta.v == node001`}},
			{"records", rpc.Request{Representation: rpc.Records}},
		} {
			b.Run(fmt.Sprintf("%d/%s", n, q.name), func(b *testing.B) {
				req := q.req
				req.Method, req.Query.Name = rpc.HealthService, "web"
				run(b, s, &req)
			})
		}
	}
}

func BenchmarkTxn(b *testing.B) {
	for _, verb := range []store.TxnVerb{store.TxnSet, store.TxnGet} {
		b.Run(string(verb), func(b *testing.B) {
			s, _ := newSet(b)
			var bodies [2][]byte // values that change, or a write is none
			for i := range bodies {
				c := new(store.TxnCommand)
				for j := range 10 {
					e := &store.KVEntry{Key: fmt.Sprintf("bench/key/%d", j), Value: []byte(fmt.Sprintf("0123456789abcdef0123456789abcd%02d", i))}
					put(b, s, e.Key, "0")
					c.Ops = append(c.Ops, store.TxnOp{Verb: verb, KV: e})
				}
				bodies[i] = c.AppendWire(nil)
			}
			req := &rpc.Request{Method: rpc.TxnApply}
			if verb == store.TxnGet {
				req.Method = rpc.TxnRead
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				req.Body = bodies[n%2]
				n++
				if resp, err := s.Do(b.Context(), req); err != nil || resp.Conflict {
					b.Fatal(resp, err)
				}
			}
		})
	}
}
