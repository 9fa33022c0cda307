package watch

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeAgent answers one path as an agent does: it blocks until what is asked for
// is newer, or the wait is over.
type fakeAgent struct {
	mu      sync.Mutex
	changed chan struct{}
	status  int
	index   uint64
	hash    string
	body    string
	err     error
	unequal bool // blocks while the index is the same, as event lists do
	queries []string
}

func newFakeAgent(index uint64, body string) *fakeAgent {
	return &fakeAgent{changed: make(chan struct{}), status: http.StatusOK, index: index, body: body}
}

// set changes the answer and wakes who waits.
func (f *fakeAgent) set(edit func(f *fakeAgent)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit(f)
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeAgent) put(index uint64, body string) {
	f.set(func(f *fakeAgent) { f.index, f.body = index, body })
}

func (f *fakeAgent) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.queries)
}

func (f *fakeAgent) Get(ctx context.Context, path string, q url.Values, token string) (*Answer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queries = append(f.queries, path+"?"+q.Encode()+" "+token)
	if q.Has("index") && q.Get("index") == "0" {
		return nil, fmt.Errorf("asked with index 0")
	}
	if f.err != nil {
		return nil, f.err
	}
	index, _ := strconv.ParseUint(q.Get("index"), 10, 64)
	if d, err := time.ParseDuration(q.Get("wait")); err == nil {
		end := time.NewTimer(d)
		defer end.Stop()
		for blocked := true; blocked; {
			switch {
			case q.Has("hash"):
				blocked = f.status == http.StatusOK && f.hash == q.Get("hash")
			case f.unequal:
				blocked = f.index == index
			default:
				blocked = f.index <= index
			}
			if !blocked || f.err != nil {
				break
			}
			changed := f.changed
			f.mu.Unlock()
			select {
			case <-changed:
			case <-end.C:
				blocked = false
			case <-ctx.Done():
				f.mu.Lock()
				return nil, ctx.Err()
			}
			f.mu.Lock()
		}
	}
	if f.err != nil {
		return nil, f.err
	}
	return &Answer{Status: f.status, Index: f.index, Hash: f.hash, Body: []byte(f.body)}, nil
}

// got collects what a handler is given.
type got struct {
	mu   sync.Mutex
	list []string
}

func (g *got) handle(_ context.Context, v Value) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = append(g.list, fmt.Sprintf("%d %s", v.Index, v.JSON))
	return nil
}

func (g *got) values() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.list...)
}

func mustPlan(t *testing.T, s Spec) *Plan {
	t.Helper()
	p, err := NewPlan(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
