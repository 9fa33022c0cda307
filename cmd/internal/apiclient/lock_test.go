package apiclient

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// TestLockExcludes lets several users take the same lock through different agents.
func TestLockExcludes(t *testing.T) {
	w := theWorld(t)
	key := folder(t) + "lock"
	var inside, turns atomic.Int32
	var users sync.WaitGroup
	for i := range 6 {
		c := w.agents()[i%2].client(t)
		users.Go(func() {
			for range 3 {
				l, err := c.LockOpts(&api.LockOptions{Key: key, Value: fmt.Append(nil, i)})
				if err != nil {
					t.Error(err)
					return
				}
				lost, err := l.Lock(nil)
				if err != nil || lost == nil {
					t.Errorf("user %d: %v, %v", i, lost, err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d users have the lock", n)
				}
				time.Sleep(5 * time.Millisecond)
				select {
				case <-lost:
					t.Errorf("user %d lost the lock", i)
				default:
				}
				inside.Add(-1)
				turns.Add(1)
				if err := l.Unlock(); err != nil {
					t.Errorf("user %d: unlock: %v", i, err)
				}
			}
		})
	}
	users.Wait()
	if n := turns.Load(); n != 18 {
		t.Errorf("%d turns, want 18", n)
	}
}

func TestLockRules(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		lock := func(key string) *api.Lock {
			t.Helper()
			l, err := c.LockOpts(&api.LockOptions{Key: folder(t) + key, LockTryOnce: true, LockWaitTime: 200 * time.Millisecond})
			must(t, err)
			return l
		}
		want := func(what string, got, want error) {
			t.Helper()
			if !errors.Is(got, want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		one, two := lock("a"), lock("a")
		want("unlock before lock", one.Unlock(), api.ErrLockNotHeld)
		lost, err := one.Lock(nil)
		if err != nil || lost == nil {
			t.Fatalf("lock: %v, %v", lost, err)
		}
		_, err = one.Lock(nil)
		want("lock twice", err, api.ErrLockHeld)
		if ch, err := two.Lock(nil); ch != nil || err != nil {
			t.Errorf("one try on a held lock: %v, %v, want nothing", ch, err)
		}
		want("destroy of another's", two.Destroy(), api.ErrLockInUse)
		must(t, one.Unlock())
		must(t, one.Destroy())
		if p, _, err := c.KV().Get(folder(t)+"a", nil); err != nil || p != nil {
			t.Errorf("a destroyed lock leaves %v, %v", p, err)
		}
		_, err = c.KV().Put(&api.KVPair{Key: folder(t) + "b", Value: []byte("data"), Flags: 1}, nil)
		must(t, err)
		_, err = lock("b").Lock(nil)
		want("a key with other flags", err, api.ErrLockConflict)

		// The holder is told when somebody takes the lock away.
		lost, err = one.Lock(nil)
		must(t, err)
		p, _, err := c.KV().Get(folder(t)+"a", nil)
		must(t, err)
		if p.Flags != 3304740253564472344 {
			t.Errorf("flags %d are not a lock's", p.Flags)
		}
		_, err = c.Session().Destroy(p.Session, nil)
		must(t, err)
		select {
		case <-lost:
		case <-time.After(5 * time.Second):
			t.Error("the holder does not learn that its session is gone")
		}
	})
}

// TestLockOfAKilledHolder kills a program with kill -9. Its session expires one to
// two TTLs (10s) after the last renewal, which was up to half a TTL ago. The
// client that waits is refused once by the lock-delay then, and waits 5s.
func TestLockOfAKilledHolder(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	key := folder(t) + "lock"
	holder := runHelper(t, "lock", w.client1, key)
	holder.holds(t)
	waiting, err := w.server.client(t).LockOpts(&api.LockOptions{Key: key})
	must(t, err)
	got := make(chan error, 1)
	go func() {
		_, err := waiting.Lock(nil)
		got <- err
	}()
	time.Sleep(500 * time.Millisecond)
	select {
	case err := <-got:
		t.Fatalf("the lock is taken from a living holder: %v", err)
	default:
	}
	holder.kill()
	start := time.Now()
	select {
	case err := <-got:
		must(t, err)
	case <-time.After(30 * time.Second):
		t.Fatal("the lock of a dead holder stays taken")
	}
	took := time.Since(start)
	t.Logf("taken over %s after kill -9", took)
	if took < 5*time.Second || took > 27*time.Second {
		t.Errorf("taken over after %s, want 5s to 20s, and the 5s of the client", took)
	}
	must(t, waiting.Unlock())
}

// TestSemaphore lets five users into a place for two, then kills a holder.
func TestSemaphore(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	prefix := folder(t) + "sem"
	semaphore := func(a *agent) *api.Semaphore {
		t.Helper()
		s, err := a.client(t).SemaphoreOpts(&api.SemaphoreOptions{Prefix: prefix, Limit: 2, SessionTTL: "10s"})
		must(t, err)
		return s
	}
	var inside atomic.Int32
	var users sync.WaitGroup
	for i := range 5 {
		s := semaphore(w.agents()[i%2])
		users.Go(func() {
			for range 2 {
				if _, err := s.Acquire(nil); err != nil {
					t.Errorf("user %d: %v", i, err)
					return
				}
				if n := inside.Add(1); n > 2 {
					t.Errorf("%d users are in a place for two", n)
				}
				time.Sleep(20 * time.Millisecond)
				inside.Add(-1)
				if err := s.Release(); err != nil {
					t.Errorf("user %d: %v", i, err)
				}
			}
		})
	}
	users.Wait()
	if t.Failed() {
		return
	}

	killed, alive := runHelper(t, "semaphore", w.client1, prefix), semaphore(w.client1)
	killed.holds(t)
	_, err := alive.Acquire(nil)
	must(t, err)
	third := semaphore(w.server)
	got := make(chan error, 1)
	go func() {
		_, err := third.Acquire(nil)
		got <- err
	}()
	time.Sleep(500 * time.Millisecond)
	select {
	case err := <-got:
		t.Fatalf("a third is in a place for two: %v", err)
	default:
	}
	killed.kill()
	start := time.Now()
	select {
	case err := <-got:
		must(t, err)
	case <-time.After(45 * time.Second):
		t.Fatal("the place of a dead holder stays taken")
	}
	t.Logf("taken over %s after kill -9", time.Since(start))
	must(t, third.Release())
	must(t, alive.Release())
	if err := third.Destroy(); err != nil {
		t.Errorf("destroy: %v", err)
	}
}

// TestLockOfAKilledAgent kills the agent that a session belongs to; it has no TTL,
// only the health of its node.
func TestLockOfAKilledAgent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := newAgent(dir, "s", "dc1", "127.21.4.1", map[string]any{"server": true, "bootstrap_expect": 1})
	victim := newAgent(dir, "victim", "dc1", "127.21.4.2", map[string]any{"retry_join": []string{"127.21.4.1"}})
	server.run(t)
	victim.run(t)
	c := victim.client(t)
	var session string
	until(t, 20*time.Second, "a session of the agent", func() (err error) {
		session, _, err = c.Session().Create(&api.SessionEntry{LockDelay: time.Second}, nil)
		return err
	})
	key := folder(t) + "lock"
	held, err := c.LockOpts(&api.LockOptions{Key: key, Session: session})
	must(t, err)
	_, err = held.Lock(nil)
	must(t, err)
	waiting, err := server.client(t).LockKey(key)
	must(t, err)
	got := make(chan error, 1)
	go func() {
		_, err := waiting.Lock(nil)
		got <- err
	}()
	time.Sleep(200 * time.Millisecond)
	victim.kill()
	start := time.Now()
	select {
	case err := <-got:
		must(t, err)
	case <-time.After(40 * time.Second):
		t.Fatal("the lock of a dead node stays taken")
	}
	t.Logf("taken over %s after the node died", time.Since(start))
}

// TestLockAcrossLeaders keeps a lock and the wait for it while the leader dies.
func TestLockAcrossLeaders(t *testing.T) {
	t.Parallel()
	dir, ips := t.TempDir(), []string{"127.21.5.1", "127.21.5.2", "127.21.5.3"}
	var servers []*agent
	for i, ip := range ips {
		a := newAgent(dir, fmt.Sprintf("s%d", i+1), "dc1", ip, map[string]any{"server": true, "bootstrap_expect": 3, "retry_join": ips})
		a.run(t)
		servers = append(servers, a)
	}
	user := newAgent(dir, "user", "dc1", "127.21.5.9", map[string]any{"retry_join": ips})
	user.run(t)
	c := user.client(t)
	key := folder(t) + "lock"
	lock := func() *api.Lock {
		t.Helper()
		l, err := c.LockOpts(&api.LockOptions{Key: key, SessionTTL: "10s", MonitorRetries: 5, MonitorRetryTime: 500 * time.Millisecond})
		must(t, err)
		return l
	}
	held, waiting := lock(), lock()
	var lost <-chan struct{}
	until(t, 30*time.Second, "the lock", func() (err error) { lost, err = held.Lock(nil); return err })
	got := make(chan error, 1)
	go func() {
		_, err := waiting.Lock(nil)
		got <- err
	}()
	time.Sleep(300 * time.Millisecond)
	leader, err := c.Status().Leader()
	must(t, err)
	for _, s := range servers {
		if s.IP+":8300" == leader {
			s.kill()
		}
	}
	select {
	case <-lost:
		t.Error("the holder lost the lock with the leader")
	case err := <-got:
		t.Errorf("the other got the lock with the leader: %v", err)
	case <-time.After(12 * time.Second): // longer than the session's TTL
	}
	if now, err := c.Status().Leader(); err != nil || now == leader || now == "" {
		t.Fatalf("leader %q, %v, was %q", now, err, leader)
	}
	must(t, held.Unlock())
	select {
	case err := <-got:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Error("the one who waits does not get a released lock")
	}
}
