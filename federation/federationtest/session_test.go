package federationtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
)

// session creates a session on a host's own node.
func session(f *Federation, h *Host, body string) (id string) {
	f.T.Helper()
	f.Await(10*time.Second, "a session", func() error {
		r, err := h.Call(context.Background(), http.MethodPut, "/v1/session/create", body)
		if err != nil {
			return err
		}
		var got struct{ ID string }
		if err := json.Unmarshal([]byte(r.Body), &got); err != nil || r.Code != http.StatusOK {
			return fmt.Errorf("%d %s", r.Code, r.Body)
		}
		id = got.ID
		return nil
	})
	return id
}

// sessions returns an error unless the number of sessions is want.
func sessions(h *Host, want int) error {
	r, err := h.Call(context.Background(), http.MethodGet, "/v1/session/list", "")
	if err != nil {
		return err
	}
	var list []struct{ ID string }
	if err := json.Unmarshal([]byte(r.Body), &list); err != nil || r.Code != http.StatusOK {
		return fmt.Errorf("%d %s", r.Code, r.Body)
	}
	if len(list) != want {
		return fmt.Errorf("%d sessions, want %d", len(list), want)
	}
	return nil
}

var errRefused = errors.New("answers false")

// acquire locks a key.
func acquire(h *Host, key, id string) error {
	r, err := h.Call(context.Background(), http.MethodPut, "/v1/kv/"+key+"?acquire="+id, "")
	switch {
	case err != nil:
		return err
	case r.Code != http.StatusOK:
		return fmt.Errorf("%d %s", r.Code, r.Body)
	case r.Body != "true":
		return errRefused
	}
	return nil
}

// A lock-delay goes on under the next leader: it neither ends with the one that
// began it, nor begins anew.
func TestLockDelayOutlivesTheLeader(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		h := east.Followers()[0]
		holder, next := session(f, h, `{"NodeChecks":[]}`), session(f, h, `{"NodeChecks":[]}`)
		f.Must(acquire(h, "k", holder))
		r, err := h.Call(context.Background(), http.MethodPut, "/v1/session/destroy/"+holder, "")
		if err != nil || r.Body != "true" {
			t.Fatal(r, err)
		}
		lost := f.Now()
		time.Sleep(5 * time.Second)
		east.Leader().Crash()
		f.Await(20*time.Second, "the delay ends", func() error { return acquire(h, "k", next) })
		if took := f.Now() - lost; took < 15*time.Second || took > 16*time.Second {
			t.Errorf("locked again after %s, want 15 s", took)
		}
	}, DC("east", 3))
}

// A session that is not renewed ends between one and two times to live, plus the
// time of a change of leader; one that is renewed through any server lives on.
func TestSessionsOverAChangeOfLeader(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		h := east.Client(0)
		renewed := session(f, h, `{"TTL":"10s","NodeChecks":[]}`)
		session(f, h, `{"TTL":"10s","NodeChecks":[]}`)
		start := f.Now()
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				// Failures during the election are ridden out, as clients do.
				r, err := h.Call(context.Background(), http.MethodPut, "/v1/session/renew/"+renewed, "")
				if err == nil && r.Code == http.StatusNotFound {
					t.Errorf("at %s: %s", f.Now(), r.Body)
				}
				select {
				case <-stop:
					return
				case <-time.After(3 * time.Second):
				}
			}
		}()
		time.Sleep(5 * time.Second)
		crashed := f.Now()
		east.Leader().Crash()
		east.AwaitLeader(10 * time.Second)
		failover := f.Now() - crashed
		f.Await(30*time.Second, "the session nobody renews ends", func() error { return sessions(h, 1) })
		if life := f.Now() - start; life < 10*time.Second || life > 20*time.Second+failover {
			t.Errorf("it lived %s, want 10 s to 20 s and %s", life, failover)
		}
		time.Sleep(time.Minute)
		f.Must(sessions(h, 1))
		close(stop)
		<-stopped
		f.Await(21*time.Second, "the other one ends", func() error { return sessions(h, 0) })
	}, DC("east", 3).Clients(1))
}

// A node that leaves, or is given up by gossip, takes its sessions along.
func TestSessionsEndWithTheirNode(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		server := east.Server(0)
		for _, h := range []*Host{east.Client(0), east.Client(1)} {
			f.Await(10*time.Second, "the node is healthy", func() error { return h.Healthy(h.Name) })
			session(f, h, "")
		}
		f.Must(sessions(server, 2))
		f.Must(east.Client(0).Leave())
		f.Await(10*time.Second, "the session ends with a leave", func() error { return sessions(server, 1) })
		east.Client(1).Crash()
		f.Await(time.Minute, "the session ends with the check of a dead node", func() error { return sessions(server, 0) })
	}, DC("east", 1).Clients(2))
}
