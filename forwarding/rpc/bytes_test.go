package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// source is a Response.Stream that writes n bytes in pieces, and then fails.
type source struct {
	n, piece int
	err      error
	closed   *atomic.Bool
	delay    time.Duration
}

func (s source) WriteTo(w io.Writer) (int64, error) {
	var sent int64
	for int(sent) < s.n {
		time.Sleep(s.delay)
		k, err := w.Write(pattern(int(sent), min(s.piece, s.n-int(sent))))
		sent += int64(k)
		if err != nil {
			return sent, err
		}
	}
	return sent, s.err
}

func (s source) Close() error {
	if s.closed != nil {
		s.closed.Store(true)
	}
	return nil
}

func pattern(at, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((at + i) * 7 / 3)
	}
	return b
}

// tap is an upload that counts what was read of it and may end in an error.
type tap struct {
	io.Reader
	err    error
	closed chan struct{}
}

func newTap(b []byte, err error) *tap {
	return &tap{Reader: bytes.NewReader(b), err: err, closed: make(chan struct{}, 100)}
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	if err == io.EOF && t.err != nil {
		err = t.err
	}
	return n, err
}

func (t *tap) Close() error { t.closed <- struct{}{}; return nil }

// blocked is an upload that never comes.
type blocked struct{ c chan struct{} }

func (b blocked) Read([]byte) (int, error) { <-b.c; return 0, io.ErrClosedPipe }
func (b blocked) Close() error {
	select {
	case <-b.c:
	default:
		close(b.c)
	}
	return nil
}

func TestStreamOfBytesDown(t *testing.T) {
	for _, size := range []int{0, 1, 32 << 10, 32<<10 + 1, 3 << 20} {
		var closed atomic.Bool
		p := newPair(t, func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
			return &rpc.Response{Index: 7, KnownLeader: true, Body: []byte("b"), Stream: source{n: size, piece: 50_000, closed: &closed}}, nil
		}, setup{})
		resp, err := p.Do(t.Context(), &rpc.Request{Method: rpc.SnapshotSave})
		if err != nil {
			t.Fatal(err)
		}
		if resp.Index != 7 || !resp.KnownLeader || string(resp.Body) != "b" || p.InFlight() != 1 {
			t.Errorf("answer %+v, %d in flight", resp, p.InFlight())
		}
		var got bytes.Buffer
		if n, err := resp.Stream.WriteTo(&got); err != nil || int(n) != size || !bytes.Equal(got.Bytes(), pattern(0, size)) {
			t.Errorf("%d bytes: got %d, %v", size, n, err)
		}
		resp.Stream.Close()
		resp.Stream.Close()
		p.Close()
		p.stop()
		<-p.ended
		if !closed.Load() || p.InFlight() != 0 {
			t.Errorf("source closed: %v, %d in flight", closed.Load(), p.InFlight())
		}
		p.ended <- nil
	}
}

func TestStreamOfBytesUp(t *testing.T) {
	for _, size := range []int{0, 1, 32 << 10, 5 << 20} {
		var got []byte
		p := newPair(t, func(_ context.Context, req *rpc.Request) (resp *rpc.Response, err error) {
			got, err = io.ReadAll(req.Upload)
			return &rpc.Response{Index: 9}, err
		}, setup{})
		up := newTap(pattern(0, size), nil)
		resp, err := p.Do(t.Context(), &rpc.Request{Method: rpc.SnapshotRestore, Upload: up})
		if err != nil || resp.Index != 9 || resp.Stream != nil || !bytes.Equal(got, pattern(0, size)) {
			t.Errorf("%d bytes: %d arrived, %v", size, len(got), err)
		}
		if len(up.closed) == 0 || p.InFlight() != 0 {
			t.Errorf("upload not closed or still in flight")
		}
	}
}

// An error after bytes keeps its kind and its words, and says where.
func TestErrorAfterBytes(t *testing.T) {
	p := newPair(t, func(context.Context, *rpc.Request) (*rpc.Response, error) {
		return &rpc.Response{Stream: source{n: 100_000, piece: 10_000, err: store.Errorf(store.KindTooLarge, "the disk broke")}}, nil
	}, setup{})
	resp, err := p.Do(t.Context(), &rpc.Request{Method: rpc.SnapshotSave})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Stream.Close()
	n, err := resp.Stream.WriteTo(io.Discard)
	if n != 100_000 || store.KindOf(err) != store.KindTooLarge || err.Error() != "the disk broke" {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// A refusal before anything was read reaches a caller who is still sending.
func TestUploadRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(context.Context, *rpc.Request) (*rpc.Response, error) {
			return nil, store.ErrNoLeader
		}, setup{})
		for _, up := range []io.ReadCloser{newTap(pattern(0, 5<<20), nil), blocked{make(chan struct{})}} {
			_, err := p.Do(t.Context(), &rpc.Request{Method: rpc.SnapshotRestore, Upload: up})
			if !errors.Is(err, store.ErrNoLeader) {
				t.Errorf("got %v", err)
			}
		}
		if p.InFlight() != 0 {
			t.Errorf("%d in flight", p.InFlight())
		}
	})
}

// An upload that ends in an error is one for the server too, never a short body.
func TestUploadBreaksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen error
		p := newPair(t, func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
			_, seen = io.Copy(io.Discard, req.Upload)
			return &rpc.Response{}, seen
		}, setup{})
		_, err := p.Do(t.Context(), &rpc.Request{Method: rpc.SnapshotRestore, Upload: newTap(pattern(0, 100_000), errors.New("the user's cable"))})
		for _, e := range []error{err, seen} {
			if store.KindOf(e) != store.KindBadRequest || !strings.Contains(e.Error(), "the user's cable") {
				t.Errorf("got %v", e)
			}
		}
	})
}

func TestStreamsOfBytesEnd(t *testing.T) {
	for _, tt := range []struct {
		name  string
		end   func(p *pair, cancel context.CancelFunc)
		kind  store.Kind
		words string
	}{
		{"the caller leaves", func(_ *pair, cancel context.CancelFunc) { cancel() }, store.KindInternal, "given up"},
		{"the deadline passes", func(*pair, context.CancelFunc) {}, store.KindTimeout, "time"},
		{"the session is lost", func(p *pair, _ context.CancelFunc) { p.link.B.CloseWithCause(errors.New("cut")) }, store.KindUnreachable, "cut"},
		{"the link falls silent", func(p *pair, _ context.CancelFunc) { p.link.Stall(true) }, store.KindUnreachable, "pings"},
		{"the server stops", func(p *pair, _ context.CancelFunc) { p.stop() }, store.KindUnreachable, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var closed atomic.Bool
				p := newPair(t, func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
					if _, ok := ctx.Deadline(); !ok {
						t.Error("the deadline did not travel")
					}
					return &rpc.Response{Stream: source{n: 1 << 30, piece: 1000, delay: 100 * time.Millisecond, closed: &closed}}, nil
				}, setup{})
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				resp, err := p.Do(ctx, &rpc.Request{Method: rpc.SnapshotSave})
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Stream.Close()
				go func() { time.Sleep(2 * time.Second); tt.end(p, cancel) }()
				_, err = resp.Stream.WriteTo(io.Discard)
				if err == nil || store.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.words) {
					t.Errorf("kind %d, %v; want kind %d, %q", store.KindOf(err), err, tt.kind, tt.words)
				}
				resp.Stream.Close()
				if tt.name == "the link falls silent" {
					p.link.Stall(false)
				}
				time.Sleep(3 * time.Minute)
				if !closed.Load() {
					t.Error("the source was not closed")
				}
			})
		})
	}
}

// Who takes no bytes for a minute loses the stream; the other calls go on.
func TestNobodyTakesTheBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Bool
		p := newPair(t, func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
			if req.Method != rpc.SnapshotSave {
				return &rpc.Response{}, nil
			}
			return &rpc.Response{Stream: source{n: 1 << 30, piece: 1 << 20, closed: &closed}}, nil
		}, setup{})
		resp, err := p.Do(t.Context(), &rpc.Request{Method: rpc.SnapshotSave})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Stream.Close()
		time.Sleep(59 * time.Second)
		if closed.Load() {
			t.Error("given up too early")
		}
		time.Sleep(2 * time.Second)
		if !closed.Load() {
			t.Error("the source is still held")
		}
		if _, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVGet}); err != nil {
			t.Errorf("another call: %v", err)
		}
	})
}

func TestStreamsOfBytesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(context.Context, *rpc.Request) (*rpc.Response, error) {
			return &rpc.Response{Stream: source{n: 1, piece: 1}}, nil
		}, setup{})
		var open []rpc.Stream
		for {
			resp, err := p.Do(t.Context(), &rpc.Request{Method: rpc.SnapshotSave})
			if err != nil {
				if store.KindOf(err) != store.KindRateLimited {
					t.Errorf("got %v", err)
				}
				break
			}
			if open = append(open, resp.Stream); len(open) > 10 {
				t.Fatal("no bound")
			}
		}
		if len(open) != 4 {
			t.Errorf("%d at once", len(open))
		}
		for _, s := range open {
			s.Close()
		}
		synctest.Wait() // the server hears of the ends
		resp, err := p.Do(t.Context(), &rpc.Request{Method: rpc.SnapshotSave})
		if err != nil {
			t.Fatalf("places are not given back: %v", err)
		}
		resp.Stream.Close()
	})
}
