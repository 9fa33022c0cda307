package agent

import (
	"fmt"
	"testing"

	"landbridge/store"
)

func newEventAgent(t *testing.T) *Agent {
	t.Helper()
	a, err := New(Config{Node: node, NodeInfo: func() *store.Node { return &store.Node{Node: node} }, Registrar: newCatalog()})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func wireOf(ev store.UserEvent) []byte {
	if ev.ID == "" {
		ev.ID = store.NewUUID()
	}
	return ev.AppendWire(nil)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestEventsKeepTheNewest(t *testing.T) {
	e := newEventAgent(t).Events()
	index, list, changed := e.List("")
	if index != 1 || len(list) != 0 {
		t.Fatalf("nothing has index %d and %d events", index, len(list))
	}
	const sent = eventsKept + 44
	for i := range sent {
		name := "odd"
		if i%2 == 0 {
			name = "even"
		}
		if e.Receive(wireOf(store.UserEvent{Name: name, Payload: fmt.Append(nil, i)}), uint64(i)) == nil {
			t.Fatalf("event %d was not taken", i)
		}
	}
	if !isClosed(changed) {
		t.Error("nobody was told")
	}
	index, list, _ = e.List("")
	if len(list) != eventsKept || string(list[0].Payload) != "44" || list[0].LTime != 44 || string(list[eventsKept-1].Payload) != "299" || index != list[eventsKept-1].Index() {
		t.Errorf("%d events from %q to %q at %d", len(list), list[0].Payload, list[len(list)-1].Payload, index)
	}
	even, list, _ := e.List("even")
	if len(list) != eventsKept/2 || string(list[len(list)-1].Payload) != "298" || even == index {
		t.Errorf("%d even ones up to %q, index %d", len(list), list[len(list)-1].Payload, even)
	}
	if len(e.seen) != eventsKept {
		t.Errorf("%d ids are remembered for %d events", len(e.seen), eventsKept)
	}
}

func TestEventsCountOnce(t *testing.T) {
	e := newEventAgent(t).Events()
	b := wireOf(store.UserEvent{Name: "x"})
	if e.Receive(b, 1) == nil {
		t.Fatal("not taken")
	}
	_, _, changed := e.List("")
	if e.Receive(b, 2) != nil || isClosed(changed) {
		t.Error("the same event counts twice")
	}
	if e.Receive([]byte{0xff}, 3) != nil || e.Receive(wireOf(store.UserEvent{NodeFilter: "("}), 4) != nil {
		t.Error("garbage was taken")
	}
	if _, list, _ := e.List(""); len(list) != 1 {
		t.Errorf("%d events", len(list))
	}
}

func TestEventsAreFiltered(t *testing.T) {
	a := newEventAgent(t)
	def := &ServiceDefinition{Name: "web", Tags: []string{"v1", "blue"}}
	if err := a.ReloadDefinitions([]*ServiceDefinition{def}, nil); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ev   store.UserEvent
		want bool
	}{
		{store.UserEvent{NodeFilter: "^" + node + "$"}, true},
		{store.UserEvent{NodeFilter: "other"}, false},
		{store.UserEvent{ServiceFilter: "w.b"}, true},
		{store.UserEvent{ServiceFilter: "db"}, false},
		{store.UserEvent{ServiceFilter: "web", TagFilter: "blue"}, true},
		{store.UserEvent{ServiceFilter: "web", TagFilter: "green"}, false},
		{store.UserEvent{NodeFilter: "other", ServiceFilter: "web"}, false},
	} {
		if got := a.Events().Receive(wireOf(tt.ev), 1) != nil; got != tt.want {
			t.Errorf("%+v: taken %v, want %v", tt.ev, got, tt.want)
		}
	}
}
