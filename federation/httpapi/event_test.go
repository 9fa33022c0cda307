package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
)

// fires makes the server tell the agent's events at once.
func fires(n *testNode) {
	n.set.Handle(rpc.EventFire, func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
		n.cfg.Local.Events().Receive(req.Body, 5)
		return &rpc.Response{Index: 1}, nil
	})
}

func TestEvents(t *testing.T) {
	n := newNode(t, nil)
	fires(n)
	if w := n.ask(t, "PUT", "/v1/event/fire/", ""); w.Code != 400 || w.Body.String() != "Missing name" {
		t.Errorf("no name: %d %q", w.Code, w.Body)
	}
	list := func(params string) *httptest.ResponseRecorder {
		t.Helper()
		w := n.ask(t, "GET", "/v1/event/list"+params, "")
		if w.Code != 200 || w.Header().Get(hKnownLeader) != "" || w.Header().Get(hLastContact) != "" {
			t.Errorf("list%s: %d, headers %v", params, w.Code, w.Header())
		}
		return w
	}
	if w := list(""); w.Body.String() != "[]" || w.Header().Get(hIndex) != "1" {
		t.Errorf("nothing: %s at %s", w.Body, w.Header().Get(hIndex))
	}
	w := n.ask(t, "PUT", "/v1/event/fire/a%2Fb?service=con&tag=&node=a", "pay\x00load")
	if want := `,"Name":"a/b","Payload":"cGF5AGxvYWQ=","NodeFilter":"a","ServiceFilter":"con","TagFilter":"","Version":1,"LTime":0}`; w.Code != 200 || !strings.HasSuffix(w.Body.String(), want) || w.Header().Get(hIndex) != "" {
		t.Errorf("fire: %d %s", w.Code, w.Body)
	}
	if w := n.ask(t, "PUT", "/v1/event/fire/b", ""); !strings.Contains(w.Body.String(), `"Payload":null`) {
		t.Errorf("fire without payload: %s", w.Body)
	}
	if w := list("?name=b&node=zzz"); strings.Count(w.Body.String(), `"ID"`) != 1 || !strings.Contains(w.Body.String(), `"LTime":5`) {
		t.Errorf("list of b: %s", w.Body)
	}
	for params, want := range map[string]string{"?index=x": "Invalid index", "?wait=9": "Invalid wait time"} {
		if w := n.ask(t, "GET", "/v1/event/list"+params, ""); w.Code != 400 || w.Body.String() != want {
			t.Errorf("%s: %d %s", params, w.Code, w.Body)
		}
	}
}

// A list blocks while its newest event is the one seen, whatever others come.
func TestEventListBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, nil)
		fires(n)
		n.ask(t, "PUT", "/v1/event/fire/mine", "")
		seen := n.ask(t, "GET", "/v1/event/list?name=mine", "").Header().Get(hIndex)
		type answer struct {
			took  time.Duration
			index string
		}
		wait := func(params string) <-chan answer {
			ch := make(chan answer, 1)
			go func() {
				began := time.Now()
				w := n.ask(t, http.MethodGet, "/v1/event/list?name=mine&"+params, "")
				ch <- answer{time.Since(began), w.Header().Get(hIndex)}
			}()
			return ch
		}
		if a := <-wait("index=" + seen + "&wait=10s"); a.took < 10*time.Second || a.took > 11*time.Second || a.index != seen {
			t.Errorf("nothing new: %+v", a)
		}
		if a := <-wait("index=77&wait=10s"); a.took != 0 || a.index != seen {
			t.Errorf("another index: %+v", a)
		}
		blocked := wait("index=" + seen)
		time.Sleep(time.Second)
		n.ask(t, "PUT", "/v1/event/fire/other", "")
		time.Sleep(time.Second)
		n.ask(t, "PUT", "/v1/event/fire/mine", "")
		if a := <-blocked; a.took != 2*time.Second || a.index == seen || a.index == "1" {
			t.Errorf("a new one: %+v, want it after 2 s", a)
		}
	})
}
