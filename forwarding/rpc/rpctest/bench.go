package rpctest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// BenchmarkCalls measures calls over a session at several degrees of
// concurrency: ns/op is the time between two answers, cpu-us/op what both ends
// and the kernel spend on one.
func BenchmarkCalls(b *testing.B, cfg rpc.ClientConfig, pair func(b *testing.B) (client, server rpc.Session)) {
	key := &rpc.Request{Method: rpc.KVGet, Datacenter: "east", Query: store.Query{Name: "app/config/feature"}}
	for _, size := range []int{200, 60_000} {
		answer := &rpc.Response{Index: 123456, KnownLeader: true, Body: make([]byte, size)}
		for _, callers := range []int{1, 32, 256} {
			b.Run(fmt.Sprintf("%dB/c=%d", size, callers), func(b *testing.B) {
				x, y := pair(b)
				srv := rpc.NewServer(rpc.ServerConfig{Handler: rpc.DoerFunc(func(context.Context, *rpc.Request) (*rpc.Response, error) {
					return answer, nil
				})})
				served := make(chan struct{})
				go func() { defer close(served); srv.ServeSession(context.Background(), y, rpc.FromLAN, "") }()
				client := rpc.NewClient(x, cfg)
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				run(b, callers, func() error {
					resp, err := client.Do(ctx, key)
					if err == nil && len(resp.Body) != size {
						err = fmt.Errorf("%d bytes came back", len(resp.Body))
					}
					return err
				})
				cancel()
				client.Close()
				<-served
			})
		}
	}
}

func run(b *testing.B, callers int, call func() error) {
	if err := call(); err != nil { // lanes are open
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	begin := cpu()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpu()-begin)/float64(b.N)/1e3, "cpu-us/op")
}

// cpu returns the time the process spent on a processor.
func cpu() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
