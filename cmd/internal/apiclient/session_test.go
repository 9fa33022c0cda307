package apiclient

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

func TestSessionLife(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		s := c.Session()
		node, err := c.Agent().NodeName()
		must(t, err)
		_, before, err := s.List(nil)
		must(t, err)
		listed := make(chan error, 1)
		go func() {
			_, meta, err := s.List(&api.QueryOptions{WaitIndex: before.LastIndex, WaitTime: 20 * time.Second})
			if err == nil && meta.LastIndex <= before.LastIndex {
				err = fmt.Errorf("index %d after %d", meta.LastIndex, before.LastIndex)
			}
			listed <- err
		}()
		time.Sleep(50 * time.Millisecond)
		id, _, err := s.Create(&api.SessionEntry{Name: "mine", TTL: "60s", LockDelay: 7 * time.Second, Behavior: api.SessionBehaviorDelete}, nil)
		must(t, err)
		must(t, <-listed)
		got, meta, err := s.Info(id, nil)
		must(t, err)
		if got == nil || got.ID != id || got.Name != "mine" || got.Node != node || got.TTL != "60s" || got.LockDelay != 7*time.Second ||
			got.Behavior != api.SessionBehaviorDelete || !slices.Equal(got.NodeChecks, []string{"serfHealth"}) || got.CreateIndex == 0 {
			t.Errorf("session: %+v", got)
		}
		if meta.LastIndex < got.CreateIndex {
			t.Errorf("index %d, created at %d", meta.LastIndex, got.CreateIndex)
		}
		for what, list := range map[string]func() ([]*api.SessionEntry, *api.QueryMeta, error){
			"list": func() ([]*api.SessionEntry, *api.QueryMeta, error) { return s.List(nil) },
			"node": func() ([]*api.SessionEntry, *api.QueryMeta, error) { return s.Node(node, nil) },
		} {
			all, _, err := list()
			must(t, err)
			if !slices.ContainsFunc(all, func(e *api.SessionEntry) bool { return e.ID == id }) {
				t.Errorf("%s does not have it: %v", what, all)
			}
		}
		if e, _, err := s.Renew(id, nil); err != nil || e == nil || e.ID != id {
			t.Errorf("renew: %+v, %v", e, err)
		}
		_, err = s.Destroy(id, nil)
		must(t, err)
		if e, _, err := s.Info(id, nil); err != nil || e != nil {
			t.Errorf("info of a destroyed one: %+v, %v", e, err)
		}
		if e, _, err := s.Renew(id, nil); err != nil || e != nil {
			t.Errorf("renew of a destroyed one: %+v, %v", e, err)
		}
		_, err = s.Destroy(id, nil)
		must(t, err)

		_, _, err = s.Create(&api.SessionEntry{TTL: "9s"}, nil)
		refused(t, err, 500, "Invalid Session TTL '9000000000', must be between [10s=24h0m0s]")
		_, _, err = s.Create(&api.SessionEntry{Behavior: "x"}, nil)
		refused(t, err, 500, "Invalid Behavior setting 'x'")
		_, _, err = s.Create(&api.SessionEntry{NodeChecks: []string{"nope"}}, nil)
		refused(t, err, 500, "Missing check 'nope' registration")
		_, _, err = s.Create(&api.SessionEntry{Node: "nope"}, nil)
		refused(t, err, 500, "Missing node registration")
	})
}

// TestSessionAndKeys is what acquire and release do, and how a session's end
// shows in the keys it holds.
func TestSessionAndKeys(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		kv, s, root := c.KV(), c.Session(), folder(t)
		session := func(behavior string, delay time.Duration) string {
			t.Helper()
			id, _, err := s.CreateNoChecks(&api.SessionEntry{Behavior: behavior, LockDelay: delay}, nil)
			must(t, err)
			t.Cleanup(func() { _, _ = s.Destroy(id, nil) })
			return id
		}
		read := func(key string) *api.KVPair {
			t.Helper()
			p, _, err := kv.Get(root+key, nil)
			must(t, err)
			return p
		}
		acquire := func(key, id, value string, want bool) {
			t.Helper()
			ok, _, err := kv.Acquire(&api.KVPair{Key: root + key, Value: []byte(value), Session: id}, nil)
			must(t, err)
			if ok != want {
				t.Errorf("acquire of %s is %t, want %t", key, ok, want)
			}
		}
		one, two := session(api.SessionBehaviorRelease, time.Second), session(api.SessionBehaviorDelete, 0)
		acquire("a", one, "1", true)
		acquire("a", one, "1 again", true)
		acquire("a", two, "2", false)
		if p := read("a"); p.Session != one || p.LockIndex != 1 || string(p.Value) != "1 again" {
			t.Errorf("held: %+v", p)
		}
		ok, _, err := kv.Release(&api.KVPair{Key: root + "a", Session: two}, nil)
		if err != nil || ok {
			t.Errorf("release by another is %t, %v", ok, err)
		}
		ok, _, err = kv.Release(&api.KVPair{Key: root + "a", Value: []byte("free"), Session: one}, nil)
		if err != nil || !ok {
			t.Errorf("release is %t, %v", ok, err)
		}
		if p := read("a"); p.Session != "" || p.LockIndex != 1 || string(p.Value) != "free" {
			t.Errorf("released: %+v", p)
		}
		acquire("a", two, "2", true) // a release has no lock-delay
		if p := read("a"); p.Session != two || p.LockIndex != 2 {
			t.Errorf("held by the second: %+v", p)
		}
		acquire("b", one, "", true)
		_, _, err = kv.Acquire(&api.KVPair{Key: root + "a", Session: "4a5d594c-0000-0000-0000-000000000000"}, nil)
		refused(t, err, 500, "invalid session")

		held := read("b")
		woken := make(chan error, 1)
		go func() {
			p, _, err := kv.Get(root+"b", &api.QueryOptions{WaitIndex: held.ModifyIndex, WaitTime: 20 * time.Second})
			if err == nil && p.Session != "" {
				err = fmt.Errorf("still held: %+v", p)
			}
			woken <- err
		}()
		time.Sleep(50 * time.Millisecond)
		for _, id := range []string{one, two} {
			_, err = s.Destroy(id, nil)
			must(t, err)
		}
		ended := time.Now()
		must(t, <-woken)
		if p := read("a"); p != nil {
			t.Errorf("behavior delete leaves %+v", p)
		}
		third := session(api.SessionBehaviorRelease, 0)
		acquire("b", third, "", false)
		until(t, 5*time.Second, "the lock-delay passes", func() error {
			ok, _, err := kv.Acquire(&api.KVPair{Key: root + "b", Session: third}, nil)
			if err == nil && !ok {
				err = errNotYet
			}
			return err
		})
		if took := time.Since(ended); took < 900*time.Millisecond || took > 3*time.Second {
			t.Errorf("a lock-delay of 1s took %s", took)
		}
	})
}

// TestSessionOfACheck ends with the check it depends on.
func TestSessionOfACheck(t *testing.T) {
	c := theWorld(t).client1.client(t)
	check := name(t, "beat")
	must(t, c.Agent().CheckRegister(&api.AgentCheckRegistration{
		ID: check, Name: check, AgentServiceCheck: api.AgentServiceCheck{TTL: "1h", Status: api.HealthPassing},
	}))
	t.Cleanup(func() { _ = c.Agent().CheckDeregister(check) })
	id, _, err := c.Session().Create(&api.SessionEntry{NodeChecks: []string{"serfHealth", check}}, nil)
	must(t, err)
	must(t, c.Agent().WarnTTL(check, "hm"))
	time.Sleep(300 * time.Millisecond)
	if e, _, err := c.Session().Info(id, nil); err != nil || e == nil {
		t.Fatalf("a warning ended the session: %v, %v", e, err)
	}
	must(t, c.Agent().FailTTL(check, "gone"))
	until(t, 5*time.Second, "the session ends", func() error {
		e, _, err := c.Session().Info(id, nil)
		if err == nil && e != nil {
			err = errNotYet
		}
		return err
	})
}

// TestSessionTTL expires between one and two TTLs after the last renewal, and
// lives as long as it is renewed.
func TestSessionTTL(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	c := w.client1.client(t)
	renewed, _, err := c.Session().CreateNoChecks(&api.SessionEntry{TTL: "10s"}, nil)
	must(t, err)
	done, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- c.Session().RenewPeriodic("10s", renewed, nil, done) }()
	left, _, err := w.server.client(t).Session().CreateNoChecks(&api.SessionEntry{TTL: "10s"}, nil)
	must(t, err)
	start := time.Now()
	until(t, 25*time.Second, "the session that nobody renews expires", func() error {
		e, _, err := c.Session().Info(left, nil)
		if err == nil && e != nil {
			err = errNotYet
		}
		return err
	})
	if took := time.Since(start); took < 10*time.Second || took > 21*time.Second {
		t.Errorf("expired after %s, want 10s to 20s", took)
	}
	if e, _, err := c.Session().Info(renewed, nil); err != nil || e == nil {
		t.Errorf("the renewed one is %v, %v", e, err)
	}
	close(done)
	must(t, <-ended) // RenewPeriodic destroys the session
	if e, _, err := c.Session().Info(renewed, nil); err != nil || e != nil {
		t.Errorf("the destroyed one is %v, %v", e, err)
	}
	gone := make(chan struct{})
	defer close(gone)
	if err := c.Session().RenewPeriodic("10s", left, nil, gone); !errors.Is(err, api.ErrSessionExpired) {
		t.Errorf("renewing what expired: %v, want ErrSessionExpired", err)
	}
}
