package forwarding

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

type words struct {
	ctx    context.Context
	text   string
	closed int
}

func (s *words) WriteTo(w io.Writer) (int64, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	n, err := io.WriteString(w, s.text)
	return int64(n), err
}

func (s *words) Close() error { s.closed++; return nil }

// The context of a stream lives until it is closed, with a deadline.
func TestStreamKeepsItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.elect("self")
		var made *words
		w.answer["self"] = func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
			made = &words{ctx: ctx, text: "archive"}
			return &rpc.Response{Stream: made}, nil
		}
		resp, err := w.dispatcher(t, true, true).Do(t.Context(), &rpc.Request{Method: rpc.SnapshotSave})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute) // longer than any other request may take
		var got strings.Builder
		if _, err := resp.Stream.WriteTo(&got); err != nil || got.String() != "archive" {
			t.Errorf("%q, %v", got.String(), err)
		}
		if at, ok := made.ctx.Deadline(); !ok || time.Until(at) > time.Hour {
			t.Error("no deadline")
		}
		resp.Stream.Close()
		if made.closed != 1 || made.ctx.Err() == nil {
			t.Errorf("closed %d times, context %v", made.closed, made.ctx.Err())
		}
	})
}

// An upload is sent on to the next server as long as nobody read of it.
func TestUploadIsSentOnce(t *testing.T) {
	for _, tt := range []struct {
		name  string
		read  bool
		calls string
	}{
		{"untouched", false, "n1 n2"},
		{"read", true, "n1"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.remote["dc2"] = []Peer{{Name: "n1"}, {Name: "n2", Doubtful: true}} // in this order
			w.answer["n1"] = func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
				if tt.read {
					io.ReadAll(req.Upload)
				}
				return nil, store.Errorf(store.KindUnreachable, "gone")
			}
			w.answer["n2"] = func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
				if b, _ := io.ReadAll(req.Upload); string(b) != "archive" {
					t.Errorf("n2 got %q", b)
				}
				return &rpc.Response{}, nil
			}
			_, err := w.dispatcher(t, true, true).Do(t.Context(), &rpc.Request{Method: rpc.SnapshotRestore, Datacenter: "dc2", Upload: io.NopCloser(strings.NewReader("archive"))})
			if got := strings.Join(w.calls, " "); got != tt.calls || (err != nil) != tt.read {
				t.Errorf("%s: calls %q, %v", tt.name, got, err)
			}
			if tt.read && !errors.Is(err, &store.Error{Kind: store.KindUnreachable}) {
				t.Errorf("%s: %v", tt.name, err)
			}
		})
	}
}
