package transport_test

import (
	"io"
	"testing"
	"time"

	"landbridge/wan/transport"

	"github.com/hashicorp/memberlist"
)

// BenchmarkStreamRoundTrip is the floor of a small call: 200 bytes there and
// back on one long-lived stream.
func BenchmarkStreamRoundTrip(b *testing.B) {
	x, y := loopback(b)
	s, err := x.DialRPC(b.Context(), y.addr, y.name)
	if err != nil {
		b.Fatal(err)
	}
	go serveEcho(b, <-y.rpc)
	c, err := s.OpenStream(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func serveEcho(b *testing.B, s *transport.Session) {
	for {
		c, err := s.AcceptStream(b.Context())
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
	}
}

// BenchmarkOpenStream opens a stream for 200 bytes there and back.
func BenchmarkOpenStream(b *testing.B) {
	x, y := loopback(b)
	s, err := x.DialRPC(b.Context(), y.addr, y.name)
	if err != nil {
		b.Fatal(err)
	}
	go serveEcho(b, <-y.rpc)
	buf := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		c, err := s.OpenStream(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		_, _ = c.Write(buf)
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}

// BenchmarkDial is both ends of a handshake, resumed after the first.
func BenchmarkDial(b *testing.B) {
	x, y := loopback(b)
	b.ReportAllocs()
	for b.Loop() {
		s, err := x.DialRPC(b.Context(), y.addr, y.name)
		if err != nil {
			b.Fatal(err)
		}
		_ = (<-y.rpc).CloseWithCause(nil)
		<-s.Context().Done()
	}
}

// BenchmarkGossipSend is what a packet costs memberlist's goroutine.
func BenchmarkGossipSend(b *testing.B) {
	x, y := loopback(b)
	addr := memberlist.Address{Addr: y.addr.String(), Name: y.name}
	_, _ = x.Gossip().WriteToAddress([]byte("x"), addr)
	select {
	case <-y.Gossip().PacketCh():
	case <-time.After(5 * time.Second):
		b.Fatal("no packet")
	}
	go func() {
		for {
			select {
			case <-y.Gossip().PacketCh():
			case <-b.Context().Done():
				return
			}
		}
	}()
	buf := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = x.Gossip().WriteToAddress(buf, addr)
	}
}
