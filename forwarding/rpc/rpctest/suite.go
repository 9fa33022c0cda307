package rpctest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"landbridge/forwarding/rpc"
)

// bound is how long anything of the suite may take in real time.
const bound = 10 * time.Second

// TestSession checks that the two ends of a session behave as rpc.Session says.
// pair makes a connected pair and cleans it up with the test. It runs in real
// time, or in virtual time inside a bubble.
func TestSession(t *testing.T, pair func(t *testing.T) (a, b rpc.Session)) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, a, b rpc.Session)
	}{
		{"bytes travel both ways", echoes},
		{"both sides open", bothOpen},
		{"many streams at once", manyStreams},
		{"a stream nobody reads holds up no other", independent},
		{"closing a stream ends both directions", closeStream},
		{"what was written before a close arrives", writeThenClose},
		{"deadlines", deadlines},
		{"contexts bound open and accept", contexts},
		{"closing the session ends everything", closeSession},
		{"the first cause stays", firstCause},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t)
			defer a.CloseWithCause(errors.New("test is over"))
			defer b.CloseWithCause(errors.New("test is over"))
			c.run(t, a, b)
		})
	}
}

// connect opens a stream from a to b; its first byte makes it exist.
func connect(t *testing.T, a, b rpc.Session) (x, y net.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	x, err := a.OpenStream(ctx)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if _, err := x.Write([]byte{42}); err != nil {
		t.Fatalf("first byte: %v", err)
	}
	y, err = b.AcceptStream(ctx)
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	y.SetReadDeadline(time.Now().Add(bound))
	var first [1]byte
	if _, err := io.ReadFull(y, first[:]); err != nil || first[0] != 42 {
		t.Fatalf("first byte: %d, %v", first[0], err)
	}
	y.SetReadDeadline(time.Time{})
	return x, y
}

func pass(t *testing.T, from, to net.Conn, n int) {
	t.Helper()
	want := make([]byte, n)
	for i := range want {
		want[i] = byte(i * 7 / 3)
	}
	done := make(chan error, 1)
	go func() { _, err := from.Write(want); done <- err }()
	to.SetReadDeadline(time.Now().Add(bound))
	got := make([]byte, n)
	if _, err := io.ReadFull(to, got); err != nil {
		t.Errorf("read %d bytes: %v", n, err)
		from.Close()
	} else if !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived changed", n)
	}
	if err := <-done; err != nil {
		t.Errorf("write %d bytes: %v", n, err)
	}
	to.SetReadDeadline(time.Time{})
}

func echoes(t *testing.T, a, b rpc.Session) {
	x, y := connect(t, a, b)
	defer x.Close()
	defer y.Close()
	for _, n := range []int{1, 1000, 70_000, 1_000_000} {
		pass(t, x, y, n)
		pass(t, y, x, n)
	}
	if x.LocalAddr() == nil || x.RemoteAddr() == nil {
		t.Error("a stream has no addresses")
	}
}

func bothOpen(t *testing.T, a, b rpc.Session) {
	x, y := connect(t, a, b)
	v, w := connect(t, b, a)
	for _, c := range []net.Conn{x, y, v, w} {
		defer c.Close()
	}
	pass(t, x, y, 100)
	pass(t, v, w, 100)
}

func manyStreams(t *testing.T, a, b rpc.Session) {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	const streams = 50
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for range streams {
			c, err := b.AcceptStream(ctx)
			if err != nil {
				t.Errorf("accept: %v", err)
				return
			}
			wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(bound))
				msg := make([]byte, 20_000)
				if _, err := io.ReadFull(c, msg); err != nil {
					t.Errorf("read: %v", err)
				}
				c.Write(msg)
				c.Read(msg) // the other side closes first
			})
		}
	})
	for i := range streams {
		wg.Go(func() {
			c, err := a.OpenStream(ctx)
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(bound))
			msg := bytes.Repeat([]byte{byte(i)}, 20_000)
			if _, err := c.Write(msg); err != nil {
				t.Errorf("write: %v", err)
			}
			got := make([]byte, len(msg))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, msg) {
				t.Errorf("stream %d: other bytes came back, %v", i, err)
			}
		})
	}
}

func independent(t *testing.T, a, b rpc.Session) {
	x, y := connect(t, a, b)
	defer y.Close()
	full := make(chan struct{})
	go func() {
		defer close(full)
		x.Write(make([]byte, 20<<20)) // nobody reads it
	}()
	v, w := connect(t, a, b)
	defer v.Close()
	defer w.Close()
	pass(t, v, w, 100_000)
	pass(t, w, v, 100_000)
	x.Close() // ends its write
	within(t, "the blocked write ends with its stream", full)
}

func closeStream(t *testing.T, a, b rpc.Session) {
	x, y := connect(t, a, b)
	reading := make(chan error, 1)
	go func() { _, err := x.Read(make([]byte, 1)); reading <- err }()
	if _, err := x.Write([]byte("bye")); err != nil {
		t.Fatalf("write: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	x.Close() // again does no harm
	select {
	case err := <-reading:
		if err == nil {
			t.Error("a read on a closed stream succeeded")
		}
	case <-time.After(bound):
		t.Fatal("closing a stream does not end its read")
	}
	if _, err := x.Write([]byte{1}); err == nil {
		t.Error("a write on a closed stream succeeded")
	}
	y.SetReadDeadline(time.Now().Add(bound))
	got, err := io.ReadAll(y)
	if string(got) != "bye" || err != nil {
		t.Errorf("the other side read %q, %v; want bye and the end", got, err)
	}
	y.Close()
}

func writeThenClose(t *testing.T, a, b rpc.Session) {
	x, y := connect(t, a, b)
	defer y.Close()
	want := bytes.Repeat([]byte("0123456789"), 60_000)
	go func() {
		x.Write(want)
		x.Close()
	}()
	y.SetReadDeadline(time.Now().Add(bound))
	got, err := io.ReadAll(y)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes arrived, %v", len(got), len(want), err)
	}
}

func deadlines(t *testing.T, a, b rpc.Session) {
	x, y := connect(t, a, b)
	defer x.Close()
	defer y.Close()
	timedOut := func(what string, err error) {
		t.Helper()
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("%s: got %v, want a timeout", what, err)
		}
	}
	x.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err := x.Read(make([]byte, 1))
	timedOut("read", err)
	x.SetReadDeadline(time.Time{})
	done := make(chan error, 1)
	go func() { _, err := x.Read(make([]byte, 1)); done <- err }()
	time.Sleep(10 * time.Millisecond)
	x.SetReadDeadline(time.Unix(1, 0))
	select {
	case err := <-done:
		timedOut("pending read", err)
	case <-time.After(bound):
		t.Fatal("a deadline does not end a pending read")
	}
	x.SetReadDeadline(time.Time{})
	pass(t, y, x, 10) // still of use
	x.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	_, err = x.Write(make([]byte, 20<<20))
	timedOut("write", err)
}

func contexts(t *testing.T, a, b rpc.Session) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := a.AcceptStream(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("accept: %v", err)
	}
	if _, err := a.OpenStream(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("open: %v", err)
	}
	if err := a.Context().Err(); err != nil {
		t.Errorf("the session ended: %v", err)
	}
	x, y := connect(t, b, a)
	pass(t, x, y, 10)
	x.Close()
	y.Close()
}

func closeSession(t *testing.T, a, b rpc.Session) {
	var xs, ys [4]net.Conn
	for i := range xs {
		xs[i], ys[i] = connect(t, a, b)
	}
	ended := make(chan error)
	wait := 0
	try := func(f func() error) {
		wait++
		go func() { ended <- f() }()
	}
	read := func(c net.Conn) func() error {
		return func() error { _, err := c.Read(make([]byte, 1)); return err }
	}
	write := func(c net.Conn) func() error {
		return func() error { _, err := c.Write(make([]byte, 20<<20)); return err }
	}
	try(read(xs[0]))
	try(read(ys[1]))
	try(write(xs[2]))
	try(write(ys[3]))
	for _, s := range []rpc.Session{a, b} {
		try(func() error { _, err := s.AcceptStream(context.Background()); return err })
	}
	time.Sleep(10 * time.Millisecond)
	cause := errors.New("we had a reason")
	a.CloseWithCause(cause)
	timeout := time.After(bound)
	for range wait {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("something succeeded on a closed session")
			}
		case <-timeout:
			t.Fatal("something outlived its session")
		}
	}
	within(t, "our context ends", a.Context().Done())
	within(t, "the other side's context ends", b.Context().Done())
	if got := context.Cause(a.Context()); !errors.Is(got, cause) {
		t.Errorf("our cause is %v, want %v", got, cause)
	}
	if context.Cause(b.Context()) == nil {
		t.Error("the other side knows no cause")
	}
	for _, s := range []rpc.Session{a, b} {
		if _, err := s.OpenStream(context.Background()); err == nil {
			t.Error("a stream was opened on a closed session")
		}
		if _, err := s.AcceptStream(context.Background()); err == nil {
			t.Error("a stream was accepted on a closed session")
		}
	}
	for i := range xs {
		xs[i].Close()
		ys[i].Close()
	}
}

func firstCause(t *testing.T, a, b rpc.Session) {
	first := errors.New("first")
	var wg sync.WaitGroup
	a.CloseWithCause(first)
	for i := range 4 {
		wg.Go(func() { a.CloseWithCause(fmt.Errorf("later %d", i)) })
		wg.Go(func() { b.CloseWithCause(fmt.Errorf("later %d", i)) })
	}
	wg.Wait()
	if got := context.Cause(a.Context()); !errors.Is(got, first) {
		t.Errorf("cause is %v, want the first", got)
	}
	within(t, "the other side's context ends", b.Context().Done())
}

func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(bound):
		t.Fatalf("%s: not within %v", what, bound)
	}
}
