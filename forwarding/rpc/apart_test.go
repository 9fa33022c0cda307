package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/rpc/rpctest"
	"landbridge/store"
)

const roundTrip = 80 * time.Millisecond

func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// bulk is a network with a server that gives large answers, and a pool with
// connections for these.
func bulk(t *testing.T, reg prometheus.Registerer, do rpc.DoerFunc) (*network, *rpc.Pool) {
	net := newNetwork(t, do)
	net.srv = rpc.NewServer(rpc.ServerConfig{Handler: do, Registerer: reg})
	net.delay, net.latency = roundTrip, roundTrip/2
	return net, net.pool(rpc.PoolConfig{Client: rpc.ClientConfig{Lanes: 2, Bulk: 4, Compress: true}})
}

// kept is how many bytes of answers a server keeps apart.
func kept(t *testing.T, reg *prometheus.Registry) float64 {
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "landbridge_rpc_server_apart_bytes" {
			return f.Metric[0].GetGauge().GetValue()
		}
	}
	t.Fatal("no such metric")
	return 0
}

func TestLargeAnswersHaveConnectionsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, size := range []int{300_000, 3_000_001} {
			body := noise(size)
			reg := prometheus.NewRegistry()
			net, pool := bulk(t, reg, func(context.Context, *rpc.Request) (*rpc.Response, error) {
				return &rpc.Response{Index: 7, Body: body}, nil
			})
			c := get(t, pool)
			if err := c.Ping(t.Context()); err != nil { // the round trip is known
				t.Fatal(err)
			}
			resp, err := c.Do(t.Context(), &rpc.Request{Method: rpc.KVGet})
			if err != nil {
				t.Fatal(err)
			}
			if resp.Index != 7 || !bytes.Equal(resp.Body, body) {
				t.Errorf("%d bytes: index %d and %d bytes came", size, resp.Index, len(resp.Body))
			}
			dials := int(net.dials.Load())
			if size < 1<<20 && dials != 2 || size > 1<<20 && (dials < 3 || dials > 5) {
				t.Errorf("%d bytes: %d connections were opened", size, dials)
			}
			// The next answer uses them from the beginning, and the server keeps nothing.
			began := time.Now()
			if resp, err = c.Do(t.Context(), &rpc.Request{Method: rpc.KVGet}); err != nil || !bytes.Equal(resp.Body, body) {
				t.Errorf("again: %v", err)
			}
			if took := time.Since(began); took > 8*roundTrip {
				t.Errorf("%d bytes took %v over connections that were there", size, took)
			}
			time.Sleep(roundTrip)
			if n := kept(t, reg); n != 0 {
				t.Errorf("the server keeps %v bytes of answers that arrived", n)
			}
			var listed int
			pool.Each(func(string, string, *rpc.Client) { listed++ })
			if listed != 1 {
				t.Errorf("%d clients are listed", listed)
			}
		}
	})
}

func TestLargeAnswersOutliveTheirConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := noise(3 << 20)
		net, pool := bulk(t, nil, func(context.Context, *rpc.Request) (*rpc.Response, error) {
			return &rpc.Response{Body: body}, nil
		})
		c := get(t, pool)
		go func() {
			time.Sleep(6 * roundTrip)
			net.mu.Lock()
			defer net.mu.Unlock()
			for _, l := range net.links[1:] {
				l.B.CloseWithCause(errors.New("cut"))
			}
		}()
		if resp, err := c.Do(t.Context(), &rpc.Request{Method: rpc.KVGet}); err != nil || !bytes.Equal(resp.Body, body) {
			t.Errorf("after the cut: %v", err)
		}

		// Nothing but the call's own connection can be had.
		gone := errors.New("no more")
		net.err.Store(&gone)
		if resp, err := c.Do(t.Context(), &rpc.Request{Method: rpc.KVGet}); err != nil || !bytes.Equal(resp.Body, body) {
			t.Errorf("without more connections: %v", err)
		}
	})
}

// Connections for large answers belong to the client whose calls these answer: one of
// later has its own, and they are closed.
func TestLargeAnswersComeTheWayOfTheirCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := noise(300_000)
		net := newNetwork(t, func(context.Context, *rpc.Request) (*rpc.Response, error) {
			return &rpc.Response{Body: body}, nil
		})
		var of []rpc.Session
		var opened []*rpctest.Link
		pool := net.pool(rpc.PoolConfig{Client: rpc.ClientConfig{Lanes: 2, Bulk: 4}, DialBulk: func(ctx context.Context, addr, name string, calls rpc.Session) (rpc.Session, error) {
			sess, err := net.dial(ctx, addr, name)
			net.mu.Lock()
			defer net.mu.Unlock()
			of, opened = append(of, calls), append(opened, net.links[len(net.links)-1])
			return sess, err
		}})
		var calls []*rpctest.Link
		for range 2 {
			c := get(t, pool)
			calls = append(calls, net.links[len(net.links)-1])
			for range 2 {
				if resp, err := c.Do(t.Context(), &rpc.Request{Method: rpc.KVGet}); err != nil || !bytes.Equal(resp.Body, body) {
					t.Fatal(err)
				}
			}
			pool.Retire("10.0.0.1:8300", "n1", time.Second)
			synctest.Wait()
		}
		if len(of) != 2 || of[0] != calls[0].A || of[1] != calls[1].A {
			t.Errorf("%d connections were opened for large answers, want one of each of two clients", len(of))
		}
		for i, l := range opened {
			if l.A.Context().Err() == nil {
				t.Errorf("connection %d of a client that is gone is open", i)
			}
		}
	})
}

// A caller that leaves ends the fetching, the server forgets the answer, and a
// connection that ends takes the call with it.
func TestLargeAnswersNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := noise(8 << 20)
		reg := prometheus.NewRegistry()
		net, pool := bulk(t, reg, func(context.Context, *rpc.Request) (*rpc.Response, error) {
			return &rpc.Response{Body: body}, nil
		})
		c := get(t, pool)
		ctx, cancel := context.WithTimeout(t.Context(), 5*roundTrip)
		defer cancel()
		if _, err := c.Do(ctx, &rpc.Request{Method: rpc.KVGet}); store.KindOf(err) != store.KindTimeout {
			t.Errorf("a caller without time got %v", err)
		}
		if n := kept(t, reg); n < 8<<20 {
			t.Errorf("%v bytes are kept while they are fetched", n)
		}
		time.Sleep(15 * time.Second)
		if n := kept(t, reg); n != 0 {
			t.Errorf("%v bytes are kept for nobody", n)
		}

		go func() {
			time.Sleep(4 * roundTrip)
			net.links[0].B.CloseWithCause(errors.New("cut"))
		}()
		began := time.Now()
		if _, err := c.Do(t.Context(), &rpc.Request{Method: rpc.KVGet}); store.KindOf(err) != store.KindUnreachable {
			t.Errorf("a call whose connection ended got %v", err)
		}
		if took := time.Since(began); took > 5*roundTrip {
			t.Errorf("it was told after %v", took)
		}
	})
}
