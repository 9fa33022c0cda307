package state

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"landbridge/store"
)

// sessionModel is sessions, checks, nodes and locks as maps.
type sessionModel struct {
	nodes    map[string]bool
	checks   map[[2]string]string // node, check -> status
	sessions map[string]modelSession
	keys     map[string]modelKey
	delays   map[string][2]int64 // from, length
	index    store.Index
	now      int64

	// What the last command changed.
	changedKeys     map[string]bool
	changedSessions map[string]string // id -> node
}

type modelSession struct {
	node     string
	checks   []string
	delay    int64
	behavior string
}

type modelKey struct {
	value, session string
	lockIndex      uint64
	create, modify store.Index
}

func newSessionModel() *sessionModel {
	return &sessionModel{nodes: map[string]bool{}, checks: map[[2]string]string{}, sessions: map[string]modelSession{},
		keys: map[string]modelKey{}, delays: map[string][2]int64{}, index: firstIndex, now: 1000 * second}
}

func (m *sessionModel) begin() {
	m.index++
	m.changedKeys, m.changedSessions = map[string]bool{}, map[string]string{}
	maps.DeleteFunc(m.delays, func(_ string, d [2]int64) bool { return m.now >= d[0]+d[1] })
}

func (m *sessionModel) write(key string, k modelKey) {
	old, have := m.keys[key]
	k.create, k.modify = old.create, old.modify
	if have && old == k {
		return
	}
	if !have {
		k.create = m.index
	}
	k.modify = m.index
	m.keys[key] = k
	m.changedKeys[key] = true
}

func (m *sessionModel) remove(key string) {
	if _, have := m.keys[key]; have {
		delete(m.keys, key)
		m.changedKeys[key] = true
	}
}

func (m *sessionModel) end(id string) {
	s, ok := m.sessions[id]
	if !ok {
		return
	}
	delete(m.sessions, id)
	m.changedSessions[id] = s.node
	for key, k := range m.keys {
		if k.session != id {
			continue
		}
		if s.delay > 0 {
			m.delays[key] = [2]int64{m.now, s.delay}
		}
		if s.behavior == store.BehaviorDelete {
			m.remove(key)
		} else {
			k.session = ""
			m.write(key, k)
		}
	}
}

func (m *sessionModel) endIf(lost func(modelSession) bool) {
	for id, s := range m.sessions {
		if lost(s) {
			m.end(id)
		}
	}
}

func (m *sessionModel) endWith(node, check string) {
	m.endIf(func(s modelSession) bool { return s.node == node && slices.Contains(s.checks, check) })
}

func (m *sessionModel) lock(key, value, id string) (bool, string) {
	if id == "" {
		return false, "missing session"
	}
	if _, ok := m.sessions[id]; !ok {
		return false, fmt.Sprintf("invalid session %q", id)
	}
	k := m.keys[key]
	switch k.session {
	case id:
	case "":
		if d, ok := m.delays[key]; ok {
			if m.now < d[0] {
				m.delays[key] = [2]int64{m.now, d[1]}
			}
			return false, ""
		}
		k.lockIndex++
	default:
		return false, ""
	}
	k.value, k.session = value, id
	m.write(key, k)
	return true, ""
}

// Sessions, their checks, nodes and locks must be what the maps say after every
// command, and a watch must fire exactly when what it read has changed.
func TestSessionModel(t *testing.T) {
	nodes := []string{"n1", "n2"}
	checks := []string{"c1", "c2"}
	keys := []string{"a", "a/b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		c := &clocked{t, New(), 0}
		m := newSessionModel()
		ids := []string{"", "never"}
		pick := func(name string, from []string) string { return rapid.SampledFrom(from).Draw(t, name) }
		run := func(kind store.CommandKind, payload wired, ok bool, errText string) {
			t.Helper()
			watches := map[string]*Watch{"list": c.NewWatch()}
			defer func() {
				for _, w := range watches {
					w.Close()
				}
			}()
			c.Sessions(watches["list"])
			for _, n := range nodes {
				watches["node "+n] = c.NewWatch()
				c.NodeSessions(watches["node "+n], strings.ToUpper(n))
			}
			for _, id := range ids {
				watches["session "+id] = c.NewWatch()
				c.Session(watches["session "+id], id)
			}
			for _, k := range keys {
				watches["key "+k] = c.NewWatch()
				c.KVGet(watches["key "+k], k)
			}
			c.now = m.now
			res := c.apply(kind, payload)
			var got string
			if res.Err != nil {
				got = res.Err.Error()
			}
			if res.OK != ok || got != errText {
				t.Fatalf("OK %v, error %q; want %v, %q", res.OK, got, ok, errText)
			}
			for name, w := range watches {
				what, arg, _ := strings.Cut(name, " ")
				want := false
				switch what {
				case "list":
					want = len(m.changedSessions) > 0
				case "node":
					want = slices.Contains(slices.Collect(maps.Values(m.changedSessions)), arg)
				case "session":
					_, want = m.changedSessions[arg]
				case "key":
					want = m.changedKeys[arg]
				}
				if fired(w) != want {
					t.Fatalf("watch of %s: fired %v", name, !want)
				}
			}
		}
		register := func(node string, part ...any) *store.RegisterCommand { return register(node, part...) }
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { m.check(t, c.Store, nodes) },
			"node": func(t *rapid.T) {
				n := pick("node", nodes)
				m.begin()
				m.nodes[n] = true
				run(store.CmdRegister, register(n), true, "")
			},
			"check": func(t *rapid.T) {
				n, k := pick("node", nodes), pick("check", checks)
				status := pick("status", []string{store.Passing, store.Warning, store.Critical})
				m.begin()
				m.nodes[n] = true
				id := [2]string{n, k}
				if status == store.Critical && m.checks[id] != status {
					m.endWith(n, k)
				}
				m.checks[id] = status
				run(store.CmdRegister, register(n, &store.Check{CheckID: k, Status: status}), true, "")
			},
			"check gone": func(t *rapid.T) {
				n, k := pick("node", nodes), pick("check", checks)
				m.begin()
				delete(m.checks, [2]string{n, k})
				m.endWith(n, k)
				run(store.CmdDeregister, &store.DeregisterCommand{Node: n, CheckID: k}, true, "")
			},
			"node gone": func(t *rapid.T) {
				n := pick("node", nodes)
				m.begin()
				delete(m.nodes, n)
				maps.DeleteFunc(m.checks, func(id [2]string, _ string) bool { return id[0] == n })
				m.endIf(func(s modelSession) bool { return s.node == n })
				run(store.CmdDeregister, &store.DeregisterCommand{Node: n}, true, "")
			},
			"create": func(t *rapid.T) {
				s := modelSession{
					node: pick("node", nodes), behavior: pick("behavior", []string{store.BehaviorRelease, store.BehaviorDelete}),
					delay:  rapid.SampledFrom([]int64{0, 5 * second, 15 * second}).Draw(t, "delay"),
					checks: rapid.SliceOfNDistinct(rapid.SampledFrom(checks), 0, 2, rapid.ID[string]).Draw(t, "checks"),
				}
				cut := rapid.IntRange(0, len(s.checks)).Draw(t, "service checks from")
				m.begin()
				id := fmt.Sprintf("s%02d", len(ids))
				ids = append(ids, id)
				var errText string
				if !m.nodes[s.node] {
					errText = "Missing node registration"
				}
				for _, k := range s.checks {
					status, ok := m.checks[[2]string{s.node, k}]
					if errText != "" {
						break
					}
					if !ok {
						errText = fmt.Sprintf("Missing check '%s' registration", k)
					} else if status == store.Critical {
						errText = fmt.Sprintf("Check '%s' is in critical state", k)
					}
				}
				if errText == "" {
					m.sessions[id] = s
					m.changedSessions[id] = s.node
				}
				cmd := &store.SessionCommand{Op: store.SessionCreate, Session: store.Session{ID: id, Node: s.node, Behavior: s.behavior,
					LockDelay: time.Duration(s.delay), NodeChecks: s.checks[:cut], ServiceChecks: s.checks[cut:]}}
				run(store.CmdSession, cmd, errText == "", errText)
			},
			"destroy": func(t *rapid.T) {
				id := pick("session", ids)
				m.begin()
				m.end(id)
				run(store.CmdSession, &store.SessionCommand{Op: store.SessionDestroy, Session: store.Session{ID: id}}, true, "")
			},
			"lock": func(t *rapid.T) {
				key, value, id := pick("key", keys), pick("value", []string{"x", "y"}), pick("session", ids)
				m.begin()
				ok, errText := m.lock(key, value, id)
				run(store.CmdKV, &store.KVCommand{Op: store.KVLock, Entry: store.KVEntry{Key: key, Value: []byte(value), Session: id}}, ok, errText)
			},
			"unlock": func(t *rapid.T) {
				key, value, id := pick("key", keys), pick("value", []string{"x", "y"}), pick("session", ids[1:])
				m.begin()
				k := m.keys[key]
				ok := k.session == id
				if ok {
					k.session, k.value = "", value
					m.write(key, k)
				}
				run(store.CmdKV, &store.KVCommand{Op: store.KVUnlock, Entry: store.KVEntry{Key: key, Value: []byte(value), Session: id}}, ok, "")
			},
			"set": func(t *rapid.T) {
				key, value := pick("key", keys), pick("value", []string{"x", "y"})
				m.begin()
				k := m.keys[key]
				k.value = value
				m.write(key, k)
				run(store.CmdKV, &store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: key, Value: []byte(value)}}, true, "")
			},
			"delete": func(t *rapid.T) {
				key := pick("key", keys)
				m.begin()
				m.remove(key)
				run(store.CmdKV, &store.KVCommand{Op: store.KVDelete, Entry: store.KVEntry{Key: key}}, true, "")
			},
			"time passes": func(t *rapid.T) {
				m.now += rapid.SampledFrom([]int64{1, second, 4 * second, 16 * second, -3 * second, -100 * second}).Draw(t, "step")
			},
			"restart": func(t *rapid.T) { c.Store = copyOf(t, c.Store) },
		})
	})
}

func (m *sessionModel) check(t *rapid.T, s *Store, nodes []string) {
	_, list := s.Sessions(nil)
	var got []string
	for _, sess := range list {
		got = append(got, sess.ID)
		want := m.sessions[sess.ID]
		all := slices.Concat(sess.NodeChecks, sess.ServiceChecks)
		if sess.Node != want.node || sess.Behavior != want.behavior || int64(sess.LockDelay) != want.delay || !slices.Equal(all, want.checks) {
			t.Fatalf("session %s, want %+v", sess.JSON(), want)
		}
		if _, one := s.Session(nil, sess.ID); one != sess {
			t.Fatalf("session %s is %v in the list", sess.ID, one)
		}
		// What a session leans on is there and not critical.
		for _, k := range all {
			if status, ok := m.checks[[2]string{sess.Node, k}]; !ok || status == store.Critical || !m.nodes[sess.Node] {
				t.Fatalf("session %s lives on with check %q %q", sess.ID, k, status)
			}
		}
	}
	if want := slices.Sorted(maps.Keys(m.sessions)); !slices.Equal(got, want) {
		t.Fatalf("sessions %q, want %q", got, want)
	}
	n := 0
	for _, node := range nodes {
		_, list := s.NodeSessions(nil, node)
		n += len(list)
	}
	if n != len(got) {
		t.Fatalf("%d sessions by node, %d in all", n, len(got))
	}
	_, entries := s.KVList(nil, "")
	if len(entries) != len(m.keys) {
		t.Fatalf("%d keys, want %d", len(entries), len(m.keys))
	}
	for _, e := range entries {
		k := m.keys[e.Key]
		if have := (modelKey{string(e.Value), e.Session, e.LockIndex, e.CreateIndex, e.ModifyIndex}); have != k {
			t.Fatalf("key %q: %+v, want %+v", e.Key, have, k)
		}
		if _, ok := m.sessions[e.Session]; e.Session != "" && !ok {
			t.Fatalf("key %q is held by session %q, which is gone", e.Key, e.Session)
		}
	}
	if s.Counts().LockDelays != len(m.delays) {
		t.Fatalf("%d delays, want %d", s.Counts().LockDelays, len(m.delays))
	}
}
