package transport_test

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestReplayHasNoEffect plays everything that was sent to a server again, from the
// same address and from another, while the connection lives and when it has ended:
// nothing of it is taken twice.
func TestReplayHasNoEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		defer b.stop(t)
		w.net.SetDelay(10 * time.Millisecond)
		w.net.Capture()
		ab, ba := session(t, a, b)
		streams := make(chan string, 64)
		go func() {
			for {
				c, err := ba.AcceptStream(t.Context())
				if err != nil {
					close(streams)
					return
				}
				got, err := io.ReadAll(io.LimitReader(c, 1<<20))
				if err != nil {
					got = []byte(err.Error())
				}
				streams <- string(got)
				_ = c.Close()
			}
		}()
		say := func(text string) {
			t.Helper()
			c, err := ab.OpenStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for _, text := range []string{"a write", "another"} {
			say(text)
			if got := <-streams; got != text {
				t.Fatalf("b reads %q, want %q", got, text)
			}
		}
		packets := w.net.Recorded()
		replay := func(from func(netip.AddrPort) netip.AddrPort) {
			n := 0
			for _, p := range packets {
				if p.To == b.addr {
					w.net.Inject(from(p.From), p.To, p.Bytes)
					n++
					time.Sleep(time.Millisecond)
				}
			}
			if n < 4 {
				t.Fatalf("only %d packets were captured", n)
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			select {
			case got, ok := <-streams:
				if ok {
					t.Errorf("b reads %q again", got)
				}
			default:
			}
			select {
			case s := <-b.rpc:
				t.Errorf("b has another session, with %s", s.Peer())
			default:
			}
		}
		same := func(from netip.AddrPort) netip.AddrPort { return from }
		other := func(netip.AddrPort) netip.AddrPort { return addrOf(9) }
		replay(same)
		replay(other)
		say("and on")
		if got := <-streams; got != "and on" {
			t.Errorf("b reads %q after the replay", got)
		}
		_ = ab.CloseWithCause(net.ErrClosed)
		<-ba.Context().Done()
		replay(same)
		replay(other)
		if n := b.count(t, "landbridge_wan_handshakes_unfinished"); n != 0 {
			t.Errorf("%v handshakes are not finished", n)
		}
	})
}
