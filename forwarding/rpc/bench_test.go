package rpc_test

import (
	"testing"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/rpc/rpctest"
)

func BenchmarkPipe(b *testing.B) {
	rpctest.BenchmarkCalls(b, rpc.ClientConfig{}, func(*testing.B) (rpc.Session, rpc.Session) { return rpctest.Pipe() })
}
