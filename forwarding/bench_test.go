package forwarding

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/rpc/rpctest"
	"landbridge/store"
)

// near is a datacenter of three servers that are one, behind a session in memory.
type near struct {
	peers  []Peer
	client *rpc.Client
}

func (n *near) Known(string) bool                            { return true }
func (n *near) Servers(string) []Peer                        { return n.peers }
func (n *near) Ready(Peer) rpc.Doer                          { return n.client }
func (n *near) Dial(context.Context, Peer) (rpc.Doer, error) { return n.client, nil }
func (n *near) Loss(string) float64                          { return 0 }
func (n *near) RTT(string) time.Duration                     { return 40 * time.Millisecond }
func (n *near) Report(string, error)                         {}

// BenchmarkRemoteRead is a healthy read of another datacenter, from the dispatcher
// here to the handler there and back; what the session costs is in it.
func BenchmarkRemoteRead(b *testing.B) {
	ours, theirs := rpctest.Pipe()
	srv := rpc.NewServer(rpc.ServerConfig{Handler: rpc.DoerFunc(func(context.Context, *rpc.Request) (*rpc.Response, error) {
		return &rpc.Response{Body: []byte("value")}, nil
	})})
	served := make(chan struct{})
	go func() { defer close(served); srv.ServeSession(context.Background(), theirs, rpc.FromWAN, "us") }()
	client := rpc.NewClient(ours, rpc.ClientConfig{Lanes: 8, Compress: true})
	w := newWorld()
	d := New(Config{
		Datacenter: "dc1", LAN: w, Local: w, WAN: &near{[]Peer{{Name: "r1.dc2"}, {Name: "r2.dc2"}, {Name: "r3.dc2"}}, client},
		HoldTimeout: 7 * time.Second, Limits: Limits{ClientTimeout: time.Minute}, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	req := &rpc.Request{Method: rpc.KVGet, Datacenter: "dc2", Query: store.Query{Name: "app/config/feature"}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := d.Do(context.Background(), req); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	d.Stop(context.Background())
	client.Close()
	<-served
}
