package state

import (
	"fmt"
	"testing"

	"landbridge/store"
)

type tb interface {
	Helper()
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

var _ tb = (*testing.T)(nil)

type wired interface{ AppendWire([]byte) []byte }

func command(kind store.CommandKind, payload wired) store.Command {
	return store.Command{Kind: kind, Payload: payload.AppendWire(nil)}
}

// apply applies one command and returns its result.
func apply(s *Store, kind store.CommandKind, payload wired) store.Result {
	var res [1]store.Result
	s.Apply([]store.Command{command(kind, payload)}, res[:])
	return res[0]
}

// must is apply for a command that has to be accepted.
func must(t tb, s *Store, kind store.CommandKind, payload wired) store.Index {
	t.Helper()
	res := apply(s, kind, payload)
	if res.Err != nil || !res.OK {
		t.Fatalf("command %d: ok %v, %v", kind, res.OK, res.Err)
	}
	return res.Index
}

func put(t tb, s *Store, key, value string) store.Index {
	t.Helper()
	return must(t, s, store.CmdKV, &store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: key, Value: []byte(value)}})
}

func del(t tb, s *Store, key string) store.Index {
	t.Helper()
	return must(t, s, store.CmdKV, &store.KVCommand{Op: store.KVDelete, Entry: store.KVEntry{Key: key}})
}

// register builds a registration from short words.
func register(node string, parts ...any) *store.RegisterCommand {
	c := &store.RegisterCommand{Node: store.Node{Node: node, Address: "10.0.0.1"}}
	for _, p := range parts {
		switch p := p.(type) {
		case *store.Service:
			c.Service = p
		case *store.Check:
			c.Checks = append(c.Checks, p)
		default:
			panic(fmt.Sprintf("register: %T", p))
		}
	}
	return c
}

// uuid returns a UUID whose first letters are those of prefix.
func uuid(prefix string) string {
	return prefix + "00000000-0000-4000-8000-000000000000"[len(prefix):]
}

func fired(w *Watch) bool {
	select {
	case <-w.C():
		return true
	default:
		return false
	}
}

// copyOf sends a store through a snapshot.
func copyOf(t tb, s *Store) *Store {
	t.Helper()
	sn := s.Snapshot()
	im := NewImage(sn.Header())
	if err := sn.Encode(im.Add); err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	c := New()
	c.Restore(im)
	return c
}
