package check

import (
	"net"
	"testing"

	"landbridge/store"
)

func TestUDP(t *testing.T) {
	echo, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 100)
		for {
			n, from, err := echo.ReadFrom(buf)
			if err != nil {
				return
			}
			if n == 0 {
				t.Error("an empty datagram: many servers drop those")
			}
			_, _ = echo.WriteTo(make([]byte, 50), from)
		}
	}()
	there := echo.LocalAddr().String()
	wants(t, &UDP{Address: there}, store.Passing, "UDP connect "+there+": Success")
	echo.Close()
	<-done
	wants(t, &UDP{Address: there}, store.Critical, "read udp 127.0.0.1:*")
	r := (&UDP{Address: there}).Run(t.Context())
	if want := "->" + there + ": read: connection refused"; r.Output[len(r.Output)-len(want):] != want {
		t.Errorf("got %q, want an end of %q", r.Output, want)
	}
	wants(t, &UDP{Address: "x"}, store.Critical, "dial udp: address x: missing port in address")
}
