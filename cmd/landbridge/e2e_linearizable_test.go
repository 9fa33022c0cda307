//go:build e2e

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"landbridge/federation/federationtest/history"
)

// via asks this agent. A refused connection means that nothing was sent.
func (a *agentProcess) via(params ...string) history.Via {
	return history.Via{Name: a.Name, Params: params, Call: func(ctx context.Context, method, path, body string) (int, string, error) {
		req, err := http.NewRequestWithContext(ctx, method, a.url(path), strings.NewReader(body))
		if err != nil {
			return 0, "", err
		}
		resp, err := httpClient.Do(req)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return 0, "", fmt.Errorf("%w: %w", history.ErrNotSent, err)
		} else if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		reply, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(reply), err
	}}
}

// record lets twelve users work on three keys and two dozen more read them while
// faults happen, and reads every key through every agent at the end. The readers
// are there to be found in the sockets of a server that goes on after a freeze.
func record(t *testing.T, agents []*agentProcess, ask func(user int, rng *rand.Rand) history.Via, faults func()) *history.Recorder {
	t.Helper()
	r := new(history.Recorder)
	load := history.Load{
		Clients: 12, Readers: 24, Keys: []string{"a", "b", "c"}, Seed: rand.Uint64(), Block: 0.2,
		Pause: 30 * time.Millisecond, Timeout: 6 * time.Second,
		Via: ask,
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() { load.Run(ctx, r); close(done) }()
	faults()
	for _, a := range agents {
		until(t, 20*time.Second, a.Name+" writes", func() bool { _, body := a.do("PUT", "/v1/kv/over", "x"); return body == "true" })
	}
	cancel()
	<-done
	for _, a := range agents {
		if err := load.ReadAll(t.Context(), r, a.via()); err != nil {
			t.Error(err)
		}
	}
	t.Log(r)
	return r
}

// TestLinearizable freezes and kills real servers, the leader above all, while
// users read and write through all of them. A frozen leader has requests in its
// sockets, and answers them when it goes on, seconds after another one was elected.
func TestLinearizable(t *testing.T) {
	servers := cluster(t, t.TempDir(), "dc1", 40, 3, nil)
	// Every other user stays with a server: those who roam soon all wait for the
	// frozen one, and somebody has to go on with the others.
	ask := func(user int, rng *rand.Rand) history.Via {
		a := servers[rng.IntN(3)]
		if user%2 == 0 {
			a = servers[user/2%3]
		}
		if rng.IntN(3) == 0 {
			return a.via("consistent")
		}
		return a.via()
	}
	leader := func() *agentProcess {
		var led *agentProcess
		until(t, 15*time.Second, "all agree on a leader", func() bool {
			led = nil
			for _, s := range servers {
				status, body := s.do("GET", "/v1/status/leader", "")
				if status != 200 || len(body) < 3 {
					return false
				}
				for _, one := range servers {
					if strings.HasPrefix(body, `"`+one.IP+":") {
						if led != nil && led != one {
							return false
						}
						led = one
					}
				}
			}
			return led != nil
		})
		return led
	}
	signal := func(a *agentProcess, sig syscall.Signal) {
		if err := a.cmd.Process.Signal(sig); err != nil {
			t.Error(err)
		}
	}
	r := record(t, servers, ask, func() {
		for i := range 4 {
			time.Sleep(700 * time.Millisecond)
			frozen := leader()
			signal(frozen, syscall.SIGSTOP)
			time.Sleep([]time.Duration{300 * time.Millisecond, 2 * time.Second, 4 * time.Second, 3 * time.Second}[i])
			signal(frozen, syscall.SIGCONT)
		}
		for range 2 {
			time.Sleep(700 * time.Millisecond)
			killed := leader()
			killed.kill()
			time.Sleep(2 * time.Second)
			killed.start()
		}
		// One that was frozen and missed an election is frozen again as a follower,
		// while the leader is killed.
		time.Sleep(700 * time.Millisecond)
		led := leader()
		other := servers[0]
		if other == led {
			other = servers[1]
		}
		signal(other, syscall.SIGSTOP)
		time.Sleep(500 * time.Millisecond)
		led.kill()
		signal(other, syscall.SIGCONT)
		time.Sleep(time.Second)
		led.start()
		leader()
	})
	err := errors.Join(r.Err(), history.Check(r.Ops(), 30*time.Second))
	if err != nil {
		t.Error(err)
	}
	if n := len(r.Ops()); n < 1000 {
		t.Errorf("only %d operations: the history shows little", n)
	}
	var v *history.Violation
	if errors.As(err, &v) {
		page, err := os.Create(filepath.Join(t.ArtifactDir(), "history.html"))
		if err != nil {
			t.Fatal(err)
		}
		defer page.Close()
		if err := v.Picture(page); err != nil {
			t.Error(err)
		}
	}
}

// TestLinearizableFindsStaleReads shows that the check above can fail: a server
// that was frozen answers from what it has, as if that were a default read.
func TestLinearizableFindsStaleReads(t *testing.T) {
	servers := cluster(t, t.TempDir(), "dc1", 41, 3, nil)
	led := leaderOf(t, servers)
	var rest []*agentProcess
	for _, s := range servers {
		if s != led {
			rest = append(rest, s)
		}
	}
	ask := func(_ int, rng *rand.Rand) history.Via {
		if rng.IntN(3) > 0 {
			return led.via()
		}
		v := rest[0].via()
		honest := v.Call
		v.Call = func(ctx context.Context, method, path, body string) (int, string, error) {
			return honest(ctx, method, path+"&stale", body)
		}
		return v
	}
	r := record(t, servers, ask, func() {
		for range 3 {
			time.Sleep(300 * time.Millisecond)
			_ = rest[0].cmd.Process.Signal(syscall.SIGSTOP)
			time.Sleep(time.Second)
			_ = rest[0].cmd.Process.Signal(syscall.SIGCONT)
		}
	})
	var v *history.Violation
	if err := errors.Join(r.Err(), history.Check(r.Ops(), 30*time.Second)); !errors.As(err, &v) {
		t.Errorf("got %v, want a violation", err)
	}
}
