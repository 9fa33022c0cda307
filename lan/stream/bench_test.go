package stream_test

import (
	"context"
	"testing"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/rpc/rpctest"
	"landbridge/lan/stream"
)

func BenchmarkTCP(b *testing.B) { benchmark(b, stream.Config{}) }
func BenchmarkTLS(b *testing.B) { benchmark(b, tlsConfig(b)) }

func benchmark(b *testing.B, cfg stream.Config) {
	p, accepted := listen(b, cfg)
	rpctest.BenchmarkCalls(b, rpc.ClientConfig{}, func(b *testing.B) (rpc.Session, rpc.Session) {
		x, err := p.Dial(context.Background(), p.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		return x, receive(b, accepted, "session")
	})
}
