package store

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestUserEventWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := &UserEvent{ID: NewUUID(), Name: genString().Draw(t, "Name"), Payload: genBytes(t, "Payload", 40),
			NodeFilter: genString().Draw(t, "Node"), ServiceFilter: genString().Draw(t, "Service"), TagFilter: genString().Draw(t, "Tag")}
		roundTrip(t, in, &UserEvent{Name: "left over", LTime: 7})
	})
	for name, ev := range map[string]UserEvent{"no id": {Name: "x"}, "another id": {ID: "x", Name: "x"}} {
		if err := new(UserEvent).DecodeWire(ev.AppendWire(nil)); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
}

func TestUserEventJSON(t *testing.T) {
	ev := UserEvent{ID: "fc601a8a-9f6d-4229-8579-95382ed51e42", Name: "a<b", NodeFilter: "n", ServiceFilter: "s", TagFilter: "t", LTime: 9}
	want := `{"ID":"fc601a8a-9f6d-4229-8579-95382ed51e42","Name":"a\u003cb","Payload":null,"NodeFilter":"n","ServiceFilter":"s","TagFilter":"t","Version":1,"LTime":9}`
	if diff := cmp.Diff(want, string(ev.AppendJSON(nil))); diff != "" {
		t.Error(diff)
	}
	ev.Payload = []byte("payload")
	var back struct{ Payload []byte }
	if err := json.Unmarshal(ev.AppendJSON(nil), &back); err != nil || string(back.Payload) != "payload" {
		t.Errorf("payload %q, %v", back.Payload, err)
	}
	// What clients compute from the same id.
	if got, want := ev.Index(), Index(8726163750655646827); got != want {
		t.Errorf("index %d, want %d", got, want)
	}
	if got := (&UserEvent{ID: "00000000-0000-0001-0000-000000000001"}).Index(); got != 1 {
		t.Errorf("index %d of halves that are equal, want 1", got)
	}
}

func TestEventFilter(t *testing.T) {
	for _, tt := range []struct {
		ev            UserEvent
		node, service bool
		err           string
	}{
		{UserEvent{}, true, true, ""},
		{UserEvent{NodeFilter: "^web"}, true, true, ""},
		{UserEvent{NodeFilter: "^eb"}, false, true, ""},
		{UserEvent{ServiceFilter: "ap"}, true, true, ""},
		{UserEvent{ServiceFilter: "db"}, true, false, ""},
		{UserEvent{ServiceFilter: "api", TagFilter: "^v1$"}, true, true, ""},
		{UserEvent{ServiceFilter: "api", TagFilter: "^v$"}, true, false, ""},
		{UserEvent{NodeFilter: "("}, false, false, "Invalid node filter: error parsing regexp: missing closing ): `(`"},
		{UserEvent{ServiceFilter: "("}, false, false, "Invalid service filter: error parsing regexp: missing closing ): `(`"},
		{UserEvent{ServiceFilter: "a", TagFilter: "["}, false, false, "Invalid tag filter: error parsing regexp: missing closing ]: `[`"},
		{UserEvent{TagFilter: "a"}, false, false, "Cannot provide tag filter without service filter"},
	} {
		f, err := tt.ev.Filter()
		if tt.err != "" {
			if err == nil || err.Error() != tt.err || KindOf(err) != KindInvalid {
				t.Errorf("%+v: %v, want %q", tt.ev, err, tt.err)
			}
			continue
		}
		if got := f.MatchNode("web-1"); err != nil || got != tt.node {
			t.Errorf("%+v: node matches %v, %v", tt.ev, got, err)
		}
		if got := f.AnyService() || f.MatchService("api", []string{"v0", "v1"}); got != tt.service {
			t.Errorf("%+v: service matches %v", tt.ev, got)
		}
	}
}
