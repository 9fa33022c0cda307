package rpctest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/rpc/rpctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPipe(t *testing.T) {
	rpctest.TestSession(t, func(*testing.T) (rpc.Session, rpc.Session) { return rpctest.Pipe() })
}

func TestLinkWithDelay(t *testing.T) {
	rpctest.TestSession(t, func(*testing.T) (rpc.Session, rpc.Session) {
		l := rpctest.NewLink(time.Millisecond)
		return l.A, l.B
	})
}

// What is held back by a stall arrives, in order, when it is over.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := rpctest.NewLink(10 * time.Millisecond)
		x, err := l.A.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.Stall(true)
		begin := time.Now()
		go func() { time.Sleep(time.Second); l.Stall(false) }()
		if _, err := x.Write([]byte("late")); err != nil {
			t.Fatal(err)
		}
		y, err := l.B.AcceptStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 10)
		n, err := y.Read(b)
		if string(b[:n]) != "late" || err != nil || time.Since(begin) != time.Second {
			t.Errorf("read %q, %v after %v; want late after 1s", b[:n], err, time.Since(begin))
		}
		x.Close()
		y.Close()
	})
}
