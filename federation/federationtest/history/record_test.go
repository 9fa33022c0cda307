package history

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// store is a tiny server of keys, atomic unless it is told to forget.
type store struct {
	mu     sync.Mutex
	index  uint64
	rows   map[string]row
	forget func(row) bool // an acknowledged write that is not carried out
}

type row struct {
	value string
	index uint64
}

func (s *store) call(_ context.Context, method, path, body string) (int, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := url.Parse(path)
	if err != nil {
		return 0, "", err
	}
	key, q := strings.TrimPrefix(u.Path, "/v1/kv/"), u.Query()
	old, found := s.rows[key]
	if method == http.MethodGet {
		if !found {
			return 404, "", nil
		}
		return 200, fmt.Sprintf(`[{"Value":%q,"ModifyIndex":%d}]`, base64.StdEncoding.EncodeToString([]byte(old.value)), old.index), nil
	}
	if q.Has("cas") {
		want, err := strconv.ParseUint(q.Get("cas"), 10, 64)
		if err != nil {
			return 400, err.Error(), nil
		}
		match := want == 0 && !found || found && want == old.index
		if method == http.MethodDelete {
			match = found && want == old.index
			if !found {
				return 200, "true", nil
			}
		}
		if !match {
			return 200, "false", nil
		}
	}
	s.index++
	switch next := (row{body, s.index}); {
	case method == http.MethodDelete:
		delete(s.rows, key)
	case s.forget == nil || !s.forget(next):
		s.rows[key] = next
	}
	return 200, "true", nil
}

// history runs a load for a virtual second.
func history(t *testing.T, s *store) *Recorder {
	t.Helper()
	r := new(Recorder)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		Load{
			Clients: 5, Keys: []string{"a", "b/with slash"}, Seed: 1, Pause: 20 * time.Millisecond, Timeout: time.Second, Block: 0.3,
			Via: func(int, *rand.Rand) Via { return Via{Name: "store", Call: s.call, Params: []string{"consistent"}} },
		}.Run(ctx, r)
	})
	t.Log(r)
	return r
}

func TestLoadOfAnAtomicStore(t *testing.T) {
	r := history(t, &store{rows: map[string]row{}})
	if err := errors.Join(r.Err(), Check(r.Ops(), 10*time.Second)); err != nil {
		t.Error(err)
	}
	kinds := map[Kind]int{}
	for _, op := range r.Ops() {
		kinds[op.Kind]++
	}
	if len(r.Ops()) < 200 || len(kinds) != int(DeleteCAS)+1 {
		t.Errorf("the load is %v of %d operations", kinds, len(r.Ops()))
	}
}

func TestLoadFindsForgottenWrites(t *testing.T) {
	n := 0
	r := history(t, &store{rows: map[string]row{}, forget: func(row) bool { n++; return n%10 == 0 }})
	var v *Violation
	if err := Check(r.Ops(), 10*time.Second); !errors.As(err, &v) {
		t.Errorf("got %v, want a violation", err)
	}
}

// What an operation becomes depends on how it ended.
func TestRecorderOutcomes(t *testing.T) {
	answer := func(code int, reply string, err error) Via {
		return Via{Call: func(context.Context, string, string, string) (int, string, error) { return code, reply, err }}
	}
	for _, c := range []struct {
		name          string
		kind          Kind
		via           Via
		recorded, odd bool
		done          bool
	}{
		{"put", Put, answer(200, "true", nil), true, false, true},
		{"refused connection", Put, answer(0, "", fmt.Errorf("dial: %w", ErrNotSent)), false, false, false},
		{"broken connection", Put, answer(0, "", errors.New("reset")), true, false, false},
		{"cluster trouble", Put, answer(500, "No cluster leader", nil), true, false, false},
		{"failed read", Read, answer(500, "No cluster leader", nil), false, false, false},
		{"missing key", Read, answer(404, "", nil), true, false, true},
		{"nonsense for a read", Read, answer(200, "[]", nil), false, true, false},
		{"a put that answers false", Put, answer(200, "false", nil), true, true, false},
		{"refusal", CAS, answer(400, "Conflicting flags", nil), true, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Recorder
			_, _ = r.Do(t.Context(), c.via, Op{Kind: c.kind, Key: "k"})
			ops := r.Ops()
			if recorded := len(ops) == 1; recorded != c.recorded || (r.Err() != nil) != c.odd || recorded && ops[0].Done != c.done {
				t.Errorf("recorded %v, odd %v", ops, r.Err())
			}
		})
	}
}
