package transport_test

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"landbridge/wan/transport"
)

func to(h *host) memberlist.Address {
	return memberlist.Address{Addr: h.addr.String(), Name: h.name}
}

// packet waits for the next packet to h, at most d; nil if none came.
func (h *host) packet(d time.Duration) *memberlist.Packet {
	select {
	case p := <-h.Gossip().PacketCh():
		return p
	case <-time.After(d):
		return nil
	}
}

func send(t *testing.T, from, dest *host, b []byte) {
	t.Helper()
	began := time.Now()
	if _, err := from.Gossip().WriteToAddress(b, to(dest)); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d != 0 {
		t.Errorf("sending blocked for %s", d)
	}
}

func TestGossipPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		defer b.stop(t)
		w.net.SetDelay(10 * time.Millisecond)
		for _, size := range []int{1, 1140, 5_000, 60_000} {
			want := bytes.Repeat([]byte{byte(size)}, size)
			send(t, a, b, want)
			p := b.packet(5 * time.Second)
			if p == nil || !bytes.Equal(p.Buf, want) {
				t.Fatalf("packet of %d bytes did not arrive", size)
			}
			if p.From.String() != a.addr.String() || p.Timestamp.IsZero() {
				t.Errorf("packet from %s at %s, want from %s", p.From, p.Timestamp, a.addr)
			}
		}
		if n := a.count(t, "landbridge_wan_gossip_packets_sent_total", "datagram"); n != 2 {
			t.Errorf("datagrams sent = %v, want 2", n)
		}
		if n := b.count(t, "landbridge_wan_gossip_packets_received_total", "stream"); n != 2 {
			t.Errorf("packets received on streams = %v, want 2", n)
		}
		send(t, a, b, make([]byte, 65<<10))
		if p := b.packet(time.Second); p != nil {
			t.Errorf("a packet of 65 KB arrived as %d bytes", len(p.Buf))
		}
		if n := a.count(t, "landbridge_wan_gossip_packets_dropped_total", "too_large"); n != 1 {
			t.Errorf("too large packets = %v, want 1", n)
		}
		// The answer takes the same connection: none is dialed back.
		send(t, b, a, []byte("ack"))
		if p := a.packet(time.Second); p == nil || string(p.Buf) != "ack" {
			t.Error("the answer did not arrive")
		}
		if n := b.count(t, "landbridge_wan_dials_total", "ok", "gossip"); n != 0 {
			t.Errorf("dials back = %v, want 0", n)
		}
	})
}

func TestGossipStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		defer b.stop(t)
		// A bare address, as in a join: whoever of the federation answers will do.
		ours, err := a.Gossip().DialTimeout(b.addr.String(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		state := bytes.Repeat([]byte("state"), 40_000)
		go func() {
			_, _ = ours.Write(state)
		}()
		theirs := <-b.Gossip().StreamCh()
		got := make([]byte, len(state))
		if _, err := io.ReadFull(theirs, got); err != nil || !bytes.Equal(got, state) {
			t.Errorf("push: %v", err)
		}
		_, _ = theirs.Write([]byte("pull"))
		_ = theirs.Close()
		if b, err := io.ReadAll(ours); string(b) != "pull" || err != nil {
			t.Errorf("pull = %q, %v", b, err)
		}
		_ = ours.Close()
		for i := range 200 { // closed streams do not count against any limit
			c, err := a.Gossip().DialAddressTimeout(to(b), time.Second)
			if err != nil {
				t.Fatalf("stream %d: %v", i, err)
			}
			_, _ = c.Write([]byte("x"))
			_ = (<-b.Gossip().StreamCh()).Close()
			_ = c.Close()
		}
		if n := a.count(t, "landbridge_wan_dials_total", "ok", "gossip"); n != 1 {
			t.Errorf("connections dialed = %v, want 1 for all streams", n)
		}
	})
}

func TestGossipToAnotherNameIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		defer b.stop(t)
		wrong := memberlist.Address{Addr: b.addr.String(), Name: "n7.dc7"}
		if _, err := a.Gossip().DialAddressTimeout(wrong, time.Second); err == nil {
			t.Error("a stream to a member was opened to another one")
		}
		// Also when a connection to that address, under its own name, is open.
		send(t, a, b, []byte("hello"))
		_ = b.packet(time.Second)
		_, _ = a.Gossip().WriteToAddress([]byte("secret of n7"), wrong)
		if p := b.packet(10 * time.Second); p != nil {
			t.Errorf("a packet for another member arrived: %q", p.Buf)
		}
	})
}

func TestGossipNeverBlocksAndDropsTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		defer b.stop(t)
		w.net.Silence(b.addr, true)
		for i := range 200 {
			send(t, a, b, fmt.Appendf(nil, "%d", i))
		}
		time.Sleep(time.Second)
		w.net.Silence(b.addr, false) // while the dial is still trying
		var got []string
		for p := b.packet(5 * time.Second); p != nil; p = b.packet(time.Second) {
			got = append(got, string(p.Buf))
		}
		if len(got) < 64 || got[len(got)-1] != "199" || got[len(got)-64] != "136" {
			t.Errorf("arrived: %d packets, the last %v; want the newest 64", len(got), got[max(0, len(got)-3):])
		}
		if n := a.count(t, "landbridge_wan_gossip_packets_dropped_total", "queue_full"); int(n) != 200-len(got) {
			t.Errorf("dropped = %v, want %d", n, 200-len(got))
		}

		w.net.Silence(b.addr, true)
		c := w.host(3) // whom nobody knows yet
		defer c.stop(t)
		w.net.Silence(c.addr, true)
		send(t, a, c, []byte("lost"))
		time.Sleep(5500 * time.Millisecond) // the dial has failed: a pause
		send(t, a, c, []byte("lost too"))
		synctest.Wait()
		if n := a.count(t, "landbridge_wan_gossip_packets_dropped_total", "unreachable"); n != 2 {
			t.Errorf("unreachable = %v, want 2", n)
		}
		w.net.Silence(c.addr, false)
		time.Sleep(time.Second)
		send(t, a, c, []byte("found"))
		if p := c.packet(time.Second); p == nil || string(p.Buf) != "found" {
			t.Errorf("after the pause: %v, want the packet", p)
		}
	})
}

func TestGossipAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		w.net.SetDelay(50 * time.Millisecond)
		send(t, a, b, []byte("before"))
		if b.packet(time.Second) == nil {
			t.Fatal("no packet before the restart")
		}
		time.Sleep(5 * time.Second)
		b = w.restart(b, 2)
		defer b.stop(t)
		began := time.Now()
		for time.Since(began) < 10*time.Second {
			send(t, a, b, make([]byte, 100))
			if b.packet(200*time.Millisecond) != nil {
				break
			}
		}
		if d := time.Since(began); d > 1500*time.Millisecond {
			t.Errorf("gossip reached the restarted peer after %s, want about a second", d)
		}
	})
}

// TestSimultaneousDials: both sides dial at once and settle on one connection.
func TestSimultaneousDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		defer b.stop(t)
		w.net.SetDelay(50 * time.Millisecond)
		for range 30 {
			send(t, a, b, []byte("a"))
			send(t, b, a, []byte("b"))
			if a.packet(900*time.Millisecond) == nil || b.packet(100*time.Millisecond) == nil {
				t.Fatal("a packet was lost")
			}
			time.Sleep(time.Second)
		}
		for _, h := range []*host{a, b} {
			n := h.count(t, "landbridge_wan_connections", "gossip", "dialed") + h.count(t, "landbridge_wan_connections", "gossip", "accepted")
			if n != 1 {
				t.Errorf("%s has %v gossip connections, want 1", h.name, n)
			}
			if n := h.count(t, "landbridge_wan_dials_total", "ok", "gossip"); n != 1 {
				t.Errorf("%s dialed %v times, want once", h.name, n)
			}
		}
	})
}

// TestNewerConnectionReplaces: the peer was restarted without its secret, so only
// its own new connection tells that the old one is dead.
func TestNewerConnectionReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		send(t, a, b, []byte("before"))
		_ = b.packet(time.Second)
		time.Sleep(10 * time.Second)
		b = w.restart(b, 2, withSecret("another secret, also long"))
		defer b.stop(t)
		send(t, b, a, []byte("I am back"))
		if a.packet(time.Second) == nil {
			t.Fatal("the restarted peer is not heard")
		}
		send(t, a, b, []byte("welcome"))
		if p := b.packet(time.Second); p == nil || string(p.Buf) != "welcome" {
			t.Error("the answer went to the dead connection")
		}
		time.Sleep(20 * time.Second)
		if n := a.count(t, "landbridge_wan_connections", "gossip", "dialed"); n != 0 {
			t.Errorf("the replaced connection is still open")
		}
	})
}

func TestGossipShutdownLeavesRPCAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		defer b.stop(t)
		s, _ := session(t, a, b)
		send(t, a, b, []byte("x"))
		_ = b.packet(time.Second)
		if err := a.Gossip().Shutdown(); err != nil {
			t.Fatal(err)
		}
		if err := a.Gossip().Shutdown(); err != nil {
			t.Fatal(err)
		}
		send(t, a, b, []byte("y"))
		if p := b.packet(time.Second); p != nil {
			t.Errorf("packet after shutdown: %q", p.Buf)
		}
		if _, err := a.Gossip().DialAddressTimeout(to(b), time.Second); err == nil {
			t.Error("stream after shutdown")
		}
		if s.Context().Err() != nil {
			t.Errorf("rpc session ended: %v", cause(s))
		}
	})
}

// A member of our own datacenter is reached where Nearby says, in place of what it
// advertises, for packets and streams alike, and must still prove its name.
func TestGossipNearby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b, c := w.host(2), w.host(3)
		a := w.host(1, func(cfg *transport.Config) {
			cfg.Nearby = func(peer string) (netip.AddrPort, bool) { return b.addr, peer == b.name }
		})
		defer a.stop(t)
		defer b.stop(t)
		defer c.stop(t)
		advertised := memberlist.Address{Addr: "198.51.100.7:18302", Name: b.name}
		_, _ = a.Gossip().WriteToAddress([]byte("probe"), advertised)
		if p := b.packet(time.Second); p == nil || string(p.Buf) != "probe" {
			t.Error("the packet did not arrive")
		}
		st, err := a.Gossip().DialAddressTimeout(advertised, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = st.Close()
		if n := a.count(t, "landbridge_wan_dials_total", "ok", "gossip"); n != 1 {
			t.Errorf("connections dialed = %v, want 1", n)
		}
		if _, err := a.Gossip().DialAddressTimeout(memberlist.Address{Addr: advertised.Addr, Name: c.name}, time.Second); err == nil {
			t.Error("a member of another datacenter answered where it is not")
		}
		// Whoever is there has to be the member.
		again := w.host(4, func(cfg *transport.Config) {
			cfg.Nearby = func(string) (netip.AddrPort, bool) { return c.addr, true }
		})
		defer again.stop(t)
		if _, err := again.Gossip().DialAddressTimeout(advertised, time.Second); err == nil {
			t.Error("another server answered for a member nearby")
		}
	})
}
