package rpc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"landbridge/store"
	"landbridge/store/wire"
)

func TestRequestRoundTrip(t *testing.T) {
	z := newCompressor(1 << 20)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		want := Request{
			Method:         MethodID(rapid.Uint16().Draw(t, "method")),
			Datacenter:     text.Draw(t, "dc"),
			Token:          text.Draw(t, "token"),
			Consistency:    store.Consistency(rapid.IntRange(0, 2).Draw(t, "consistency")),
			MaxStale:       time.Duration(rapid.Int64().Draw(t, "stale")),
			MinIndex:       store.Index(rapid.Uint64().Draw(t, "index")),
			Wait:           time.Duration(rapid.Int64().Draw(t, "wait")),
			Filter:         text.Draw(t, "filter"),
			Representation: Representation(rapid.IntRange(0, 3).Draw(t, "representation")),
			TranslateWAN:   rapid.Bool().Draw(t, "translate"),
			SourceDC:       text.Draw(t, "source"),
			Hops:           rapid.Byte().Draw(t, "hops"),
			Query:          store.Query{Name: text.Draw(t, "name"), PassingOnly: rapid.Bool().Draw(t, "passing"), Tags: rapid.SliceOfN(text, 1, 3).Draw(t, "tags")},
			Body:           bytes.Repeat([]byte("b"), rapid.IntRange(1, 3000).Draw(t, "body")),
		}
		remaining := time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "remaining"))
		var used *compressor
		if rapid.Bool().Draw(t, "compress") {
			used = z
		}
		var got wireRequest
		if err := got.decode(appendRequest(nil, &want, remaining, used, false)); err != nil {
			t.Fatal(err)
		}
		if got.packed != nil {
			body, err := z.unpack(got.packed, nil)
			if err != nil {
				t.Fatal(err)
			}
			got.Body = body
		}
		if d := cmp.Diff(want, got.Request); d != "" {
			t.Fatalf("-want +got:\n%s", d)
		}
		// Rounded up, so that a caller's last millisecond is not lost.
		if got.remaining < remaining || got.remaining >= remaining+time.Millisecond {
			t.Fatalf("remaining %v became %v", remaining, got.remaining)
		}
	})
}

// A newer agent's fields are skipped; values that change the meaning are not.
func TestRequestFromANewerAgent(t *testing.T) {
	b := appendRequest(nil, &Request{Method: KVGet, Datacenter: "east"}, 0, nil, false)
	b = wire.String(wire.Uint(b, 900, 7), 901, "later")
	var r wireRequest
	if err := r.decode(b); err != nil || r.Datacenter != "east" {
		t.Errorf("unknown fields: %+v, %v", r.Request, err)
	}
	for name, b := range map[string][]byte{
		"method":         wire.Uint(nil, reqMethod, 1<<16),
		"consistency":    wire.Uint(nil, reqConsistency, 3),
		"representation": wire.Uint(nil, reqRepresentation, 4),
	} {
		var r wireRequest
		if err := r.decode(b); store.KindOf(err) != store.KindInvalid || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want a refusal that names it", name, err)
		}
	}
}

func TestUnknownErrorKindIsInternal(t *testing.T) {
	err := decodeError(wire.String(wire.Uint(nil, errKind, 250), errMessage, "from the future"))
	if store.KindOf(err) != store.KindInternal || err.Error() != "from the future" {
		t.Errorf("kind %d, %v", store.KindOf(err), err)
	}
	long := appendError(nil, errors.New(strings.Repeat("x", 1<<20)))
	if len(long) > 2*maxErrorText {
		t.Errorf("an error of 1 MB takes %d bytes", len(long))
	}
}

// Memory follows what arrives, not what a header announces.
func TestDeclaredLengthsAreNotBelieved(t *testing.T) {
	asked := 0
	_, err := readPayload(bufio.NewReaderSize(strings.NewReader("short"), 4096), 60<<20, func(n int) error { asked += n; return nil })
	if !errors.Is(err, io.ErrUnexpectedEOF) || asked > readChunk {
		t.Errorf("%v, %d bytes were asked for", err, asked)
	}
	over := errors.New("no more")
	if _, err := readPayload(bufio.NewReader(strings.NewReader(strings.Repeat("x", 1<<20))), 1<<20, func(int) error { return over }); err != over {
		t.Errorf("got %v", err)
	}
	z := newCompressor(64 << 10)
	bomb, ok := newCompressor(1 << 30).pack(make([]byte, 1<<20))
	if !ok {
		t.Fatal("zeros are not compressed")
	}
	if _, err := z.unpack(bomb, nil); store.KindOf(err) != store.KindTooLarge {
		t.Errorf("1 MB in %d bytes: %v", len(bomb), err)
	}
}

func TestPackOnlyWhatGains(t *testing.T) {
	z := newCompressor(1 << 20)
	noise := make([]byte, 4096)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		noise[i] = byte(x)
	}
	for name, body := range map[string][]byte{"small": make([]byte, compressMin-1), "noise": noise} {
		if _, ok := z.pack(body); ok {
			t.Errorf("%s was packed", name)
		}
	}
	if _, ok := (*compressor)(nil).pack(make([]byte, 1<<20)); ok {
		t.Error("packed without a compressor")
	}
}

func TestCallContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := &callContext{deadline: time.Now().Add(time.Second)}
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		ran := make(chan time.Duration, 2)
		begin := time.Now()
		context.AfterFunc(ctx, func() { ran <- time.Since(begin) })
		stopped := context.AfterFunc(ctx, func() { t.Error("a stopped function ran") })
		if !stopped() || stopped() {
			t.Error("stop must report true once")
		}
		if ctx.Err() != nil {
			t.Error(ctx.Err())
		}
		<-child.Done()
		if child.Err() != context.DeadlineExceeded || ctx.Err() != context.DeadlineExceeded || <-ran != time.Second {
			t.Errorf("%v, %v", child.Err(), ctx.Err())
		}
		ctx.end(context.Canceled)
		if ctx.Err() != context.DeadlineExceeded {
			t.Error("the first error does not stay")
		}

		// Asked only after its time, it has passed all the same.
		late := &callContext{deadline: time.Now().Add(time.Second)}
		time.Sleep(2 * time.Second)
		if late.Err() != context.DeadlineExceeded || !isClosed(late.Done()) {
			t.Errorf("late: %v", late.Err())
		}
		done := make(chan struct{})
		context.AfterFunc(late, func() { close(done) })
		<-done
	})
}

// The counter of ids turns over beside calls that still wait.
func TestIDsTurnOver(t *testing.T) {
	c := &Client{lanes: make([]*clientLane, 3)}
	for i := range c.lanes {
		c.lanes[i] = newClientLane(c)
		c.lanes[i].started.Store(true) // nobody writes
	}
	m := Lookup(KVGet)
	c.nextID.Store(^uint32(0) - 5)
	seen := map[uint32]bool{0: true}
	for range 20 {
		first := c.newID()
		id, err := c.lane(first).submit(context.Background(), m, first, &call{}, make([]byte, headerSize), frameRequest)
		if err != nil || seen[id] {
			t.Fatalf("id %d again, %v", id, err)
		}
		seen[id] = true
		c.nextID.Store(^uint32(0) - 5) // as if it had come round
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(appendRequest(nil, &Request{Method: KVGet, Query: store.Query{Name: "k", NodeMeta: map[string]string{"a": "b"}}, Body: []byte("x")}, time.Second, nil, false))
	f.Add([]byte{0x82, 0x01, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r wireRequest
		if r.decode(b) != nil {
			return
		}
		var again wireRequest
		if err := again.decode(appendRequest(nil, &r.Request, r.remaining, nil, false)); err != nil {
			t.Fatalf("what was decoded does not decode again: %v", err)
		}
		if again.Method != r.Method || again.Token != r.Token || again.Query.Name != r.Query.Name || !bytes.Equal(again.Body, r.Body) {
			t.Fatalf("%+v became %+v", r.Request, again.Request)
		}
	})
}

func FuzzResponse(f *testing.F) {
	z := newCompressor(1 << 20)
	head, body := appendResponseHead(nil, &Response{Index: 1, Body: make([]byte, 5000)}, z)
	f.Add(append(head, body...))
	head, body = appendResponseHead(nil, &Response{Index: 9, LastContact: 5, Body: []byte("{}")}, nil)
	f.Add(append(head, body...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeResponse(b, z); err == nil && len(r.Body) > 1<<20 && len(b) < 1<<20 {
			t.Fatalf("%d bytes became %d", len(b), len(r.Body))
		}
		if err := decodeError(b); err == nil {
			t.Fatal("an error frame without an error")
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(append(appendHeader(nil, frameHeader{7, frameRequest, 3}), "abcdef"...), 10)
	f.Add(appendHeader(nil, frameHeader{1, frameRequest, 1 << 30}), 1<<20)
	f.Fuzz(func(t *testing.T, b []byte, most int) {
		most = max(0, min(most, 1<<20))
		r := bufio.NewReaderSize(bytes.NewReader(b), 64)
		read := 0
		for {
			h, err := readHeader(r, most)
			if err != nil {
				return
			}
			p, err := readPayload(r, int(h.n), nil)
			if err != nil {
				return
			}
			if len(p) != int(h.n) || len(p) > most || parseHeader(appendHeader(nil, h)) != h {
				t.Fatalf("header %+v, %d bytes", h, len(p))
			}
			read += headerSize + len(p)
			if !bytes.Equal(p, b[read-len(p):read]) {
				t.Fatal("payload differs")
			}
		}
	})
}
