package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"landbridge/cmd/internal/client"
	. "landbridge/federation/federationtest"
)

// through is the way to a host's HTTP interface.
type through struct{ *Host }

func (h through) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	reply, err := h.Call(req.Context(), req.Method, req.URL.RequestURI(), string(body))
	if req.Context().Err() != nil {
		return nil, req.Context().Err()
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: reply.Code, Header: reply.Header, Body: io.NopCloser(strings.NewReader(reply.Body)), Request: req}, nil
}

// story is a federation with what its locks need.
type story struct {
	*Federation
	dc *Datacenter
}

func tell(t *testing.T, spec Spec, tale func(s *story)) {
	Run(t, func(f *Federation) {
		s := &story{f, f.DC("east")}
		for _, h := range s.dc.Hosts() {
			f.Await(10*time.Second, h.Name+" is in the catalog", func() error { return h.Healthy(h.Name) })
		}
		tale(s)
	}, spec)
}

func (s *story) config(h *Host, limit int) Config {
	cl, err := client.New(client.Options{Transport: through{h}})
	s.Must(err)
	return Config{Client: cl, Prefix: "p", Limit: limit, Name: "test", MonitorRetry: 3}
}

func (s *story) acquire(h *Host, limit int, within time.Duration) (*Held, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return Acquire(ctx, s.config(h, limit))
}

func (s *story) must(h *Host, limit int, within time.Duration) *Held {
	s.T.Helper()
	held, err := s.acquire(h, limit, within)
	if err != nil {
		s.T.Fatalf("at %s: not acquired within %s: %v", s.Now(), within, err)
	}
	return held
}

func (s *story) release(held *Held) {
	s.T.Helper()
	if err := held.Release(context.Background()); err != nil {
		s.T.Errorf("release: %v", err)
	}
}

// nothingLeft fails unless all keys and sessions are gone.
func (s *story) nothingLeft() {
	s.T.Helper()
	for path, want := range map[string]int{"/v1/kv/?keys": http.StatusNotFound, "/v1/session/list": http.StatusOK} {
		r, err := s.dc.Server(0).Call(context.Background(), "GET", path, "")
		if err != nil || r.Code != want || strings.Trim(r.Body, "[]") != "" {
			s.T.Errorf("%s: %v, %v", path, r, err)
		}
	}
}

// die is the end of the process by kill -9.
func (h *Held) die() {
	h.cancel()
	h.done.Wait()
	h.sess.cancel()
	<-h.sess.done
}

func (h *Held) isLost() bool {
	select {
	case <-h.lost:
		return true
	default:
		return false
	}
}

func TestTakingTurns(t *testing.T) {
	for _, limit := range []int{1, 3} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			tell(t, DC("east", 1).Clients(1), func(s *story) {
				var inside, most atomic.Int32
				var all sync.WaitGroup
				start := time.Now()
				for i := range 9 {
					all.Go(func() {
						held := s.must(s.dc.Hosts()[i%2], limit, time.Minute)
						n := inside.Add(1)
						for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
						}
						time.Sleep(time.Second)
						if held.isLost() {
							t.Error("lost:", held.Err())
						}
						inside.Add(-1)
						s.release(held)
					})
				}
				all.Wait()
				if got := int(most.Load()); got != limit {
					t.Errorf("%d inside at once, want %d", got, limit)
				}
				if took := time.Since(start); took > time.Duration(9/limit)*time.Second+2*time.Second {
					t.Errorf("nine turns of a second took %s", took)
				}
				s.nothingLeft()
			})
		})
	}
}

// A holder that was killed is replaced when its session has ended, by its time to
// live and not before, and the lock-delay is over.
func TestHolderDies(t *testing.T) {
	for _, limit := range []int{1, 2} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			tell(t, DC("east", 1), func(s *story) {
				for range limit {
					s.must(s.dc.Server(0), limit, time.Second).die()
				}
				died := time.Now()
				held := s.must(s.dc.Server(0), limit, time.Minute)
				// Behind the semaphore's list is no lock that could be delayed.
				low, high := sessionTTL, 2*sessionTTL+2*time.Second
				if limit == 1 {
					low, high = low+15*time.Second, high+15*time.Second
				}
				if took := time.Since(died); took < low-time.Second || took > high {
					t.Errorf("replaced after %s, want %s to %s", took, low, high)
				}
				s.release(held)
			})
		})
	}
}

// The leader loses its power: who holds a lock keeps it, and nobody else gets it.
func TestLeaderDies(t *testing.T) {
	tell(t, DC("east", 3).Clients(1), func(s *story) {
		held := s.must(s.dc.Client(0), 1, time.Second)
		sem := s.config(s.dc.Client(0), 2)
		sem.Prefix = "sem"
		both, err := Acquire(context.Background(), sem)
		s.Must(err)
		other := s.dc.Followers()[0]
		s.dc.Leader().Crash()
		if h, err := s.acquire(other, 1, 2*time.Minute); err == nil {
			t.Error("a second holder")
			s.release(h)
		}
		if held.isLost() || both.isLost() {
			t.Error("lost with the leader")
		}
		s.release(held)
		s.release(s.must(other, 1, 10*time.Second))
		s.release(both)
	})
}

// The agent of a holder loses its power: the holder knows before anybody else can
// hold the lock.
func TestAgentDies(t *testing.T) {
	tell(t, DC("east", 3).Clients(1), func(s *story) {
		held := s.must(s.dc.Client(0), 1, time.Second)
		s.dc.Client(0).Crash()
		died := time.Now()
		next := s.must(s.dc.Server(0), 1, 2*time.Minute)
		if !held.isLost() {
			t.Error("two holders")
		}
		t.Logf("replaced after %s", time.Since(died))
		_ = held.Err()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := held.Release(ctx); err == nil {
			t.Error("released through an agent that is dead")
		}
		s.release(next)
	})
}

// Cut off from the servers, a holder knows in time, too.
func TestPartition(t *testing.T) {
	tell(t, DC("east", 3).Clients(1), func(s *story) {
		held := s.must(s.dc.Client(0), 1, time.Second)
		cut := time.Now()
		s.Partition(s.dc.Client(0), Group(s.dc.Servers()))
		<-held.Lost()
		if took := time.Since(cut); took > sessionTTL+time.Second {
			t.Errorf("known after %s", took)
		}
		s.Heal(s.dc.Client(0), Group(s.dc.Servers()))
		s.Await(2*time.Minute, "the agent is back", func() error { return s.dc.Client(0).Put("x", "") })
		s.release(held)
	})
}

func TestLost(t *testing.T) {
	for _, limit := range []int{1, 2} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			tell(t, DC("east", 1), func(s *story) {
				held := s.must(s.dc.Server(0), limit, time.Second)
				time.Sleep(time.Minute)
				if held.isLost() {
					t.Fatal(held.Err())
				}
				_, err := s.dc.Server(0).Call(context.Background(), "PUT", "/v1/session/destroy/"+held.sess.id, "")
				s.Must(err)
				at := time.Now()
				<-held.Lost()
				if took := time.Since(at); took > time.Second {
					t.Errorf("known after %s", took)
				}
				s.release(held)
				s.nothingLeft()
			})
		})
	}
}

// late carries a request for the lock out after two seconds, or, if its caller has left
// by then, right after the release.
type late struct {
	http.RoundTripper
	left, done chan struct{}
}

func (l *late) RoundTrip(req *http.Request) (*http.Response, error) {
	switch q := req.URL.Query(); {
	case q.Has("acquire"):
		select {
		case <-time.After(2 * time.Second):
			return l.RoundTripper.RoundTrip(req)
		case <-req.Context().Done():
		}
		released := make(chan struct{})
		l.left, l.done = released, make(chan struct{})
		go func() {
			defer close(l.done)
			<-released
			_, _ = l.RoundTripper.RoundTrip(req.WithContext(context.WithoutCancel(req.Context())))
		}()
		return nil, req.Context().Err()
	case q.Has("release") && l.left != nil:
		resp, err := l.RoundTripper.RoundTrip(req)
		close(l.left)
		<-l.done
		return resp, err
	}
	return l.RoundTripper.RoundTrip(req)
}

// Whoever gives up while the lock is being given to it leaves it free, without a
// lock-delay.
func TestGivesUpTooLate(t *testing.T) {
	tell(t, DC("east", 1), func(s *story) {
		srv := s.dc.Server(0)
		cfg := s.config(srv, 1)
		var err error
		cfg.Client, err = client.New(client.Options{Transport: &late{RoundTripper: through{srv}}})
		s.Must(err)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := Acquire(ctx, cfg); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a lock that comes too late: %v", err)
		}
		s.release(s.must(srv, 1, time.Second))
		s.nothingLeft()
	})
}

func TestConflicts(t *testing.T) {
	tell(t, DC("east", 1), func(s *story) {
		srv := s.dc.Server(0)
		s.Must(srv.Put("p/.lock", "mine"))
		for _, limit := range []int{1, 2} {
			if _, err := s.acquire(srv, limit, time.Minute); !errors.Is(err, ErrConflict) {
				t.Errorf("%d holders: %v", limit, err)
			}
		}
		s.Must(srv.Expect("p/.lock", "mine"))
		_, err := srv.Call(context.Background(), "DELETE", "/v1/kv/p?recurse", "")
		s.Must(err)

		held := s.must(srv, 2, time.Second)
		if _, err := s.acquire(srv, 3, time.Minute); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "there: 2, here: 3") {
			t.Errorf("another limit: %v", err)
		}
		if _, err := s.acquire(srv, 1, time.Minute); !errors.Is(err, ErrConflict) {
			t.Errorf("a lock on a semaphore: %v", err)
		}
		s.release(held)
		s.nothingLeft()

		held = s.must(srv, 1, time.Second)
		start := time.Now()
		if _, err := s.acquire(srv, 1, 3*time.Second); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 4*time.Second {
			t.Errorf("gave up after %s: %v", time.Since(start), err)
		}
		s.release(held)
		s.nothingLeft()
	})
}

// The list is the one that other programs know.
func TestSemaphoreList(t *testing.T) {
	tell(t, DC("east", 1), func(s *story) {
		held := s.must(s.dc.Server(0), 2, time.Second)
		value, err := s.dc.Server(0).Get("p/.lock")
		s.Must(err)
		var got map[string]any
		if err := json.Unmarshal([]byte(value), &got); err != nil || got["Limit"] != 2.0 || fmt.Sprint(got["Holders"]) != "map["+held.sess.id+":true]" {
			t.Errorf("%s, %v", value, err)
		}
		s.release(held)
	})
}
