package federationtest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
)

type ring struct {
	WAN               bool
	Datacenter        string
	Keys, PrimaryKeys map[string]int
	NumNodes          int
}

// rings lists the keyrings as an agent shows them, one line each.
func rings(f *Federation, h *Host, params string) string {
	f.T.Helper()
	r, err := h.Call(context.Background(), http.MethodGet, "/v1/operator/keyring"+params, "")
	f.Must(err)
	var list []ring
	if err := json.Unmarshal([]byte(r.Body), &list); err != nil {
		f.T.Fatalf("%d %s: %v", r.Code, r.Body, err)
	}
	var lines []string
	for _, r := range list {
		name := r.Datacenter
		if r.WAN {
			name = "WAN of " + name
		}
		lines = append(lines, fmt.Sprintf("%s: %d keys, primary %v, %d agents", name, len(r.Keys), r.PrimaryKeys, r.NumNodes))
	}
	return strings.Join(lines, "\n")
}

// A key is replaced in all datacenters through one client agent, while a datacenter
// that is cut off is named in the error; after it, the new key alone opens the
// federation to a new datacenter.
func TestKeyRotation(t *testing.T) {
	older, newer := []byte("sixteen byte key"), []byte("another key of 32 bytes, as made")
	enc := base64.StdEncoding.EncodeToString
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Must(east.Server(0).Join(west.Server(0)))
		time.Sleep(5 * time.Second)
		do := func(method string, key []byte) (int, string) {
			r, err := east.Client(0).Call(context.Background(), method, "/v1/operator/keyring?relay-factor=1", `{"Key":"`+enc(key)+`"}`)
			f.Must(err)
			return r.Code, string(r.Body)
		}
		want := func(wantCode int, wantText string, code int, text string) {
			t.Helper()
			if code != wantCode || !strings.Contains(text, wantText) {
				t.Errorf("got %d %q, want %d with %q", code, text, wantCode, wantText)
			}
		}
		state := func(keys int, primary []byte) {
			t.Helper()
			want := ""
			for _, r := range []struct {
				name   string
				agents int
			}{{"WAN of east", 3}, {"east", 3}, {"west", 1}} {
				want += fmt.Sprintf("%s: %d keys, primary %v, %d agents\n", r.name, keys, map[string]int{enc(primary): r.agents}, r.agents)
			}
			if got := rings(f, east.Client(0), "") + "\n"; got != want {
				t.Errorf("at %s:\n%swant\n%s", f.Now(), got, want)
			}
		}
		state(1, older)
		code, text := do(http.MethodPut, newer) // nobody has it yet
		want(500, "* west (LAN) error: 1/1 nodes reported failure", code, text)
		code, text = do(http.MethodPost, newer)
		want(200, "", code, text)
		state(2, older)
		code, text = do(http.MethodDelete, older)
		want(500, "\n\t* east-1.east: Removing the primary key is not allowed", code, text)
		state(2, older)

		f.Partition(east, west)
		code, text = do(http.MethodPut, newer)
		want(500, `1 error occurred:
	* west (LAN) error: rpc error`, code, text)
		f.Heal(east, west)
		f.Await(time.Minute, "west answers again", func() error {
			if code, text := do(http.MethodPut, newer); code != 200 {
				return fmt.Errorf("%d %s", code, text)
			}
			return nil
		})
		state(2, newer)
		code, text = do(http.MethodDelete, older)
		want(200, "", code, text)
		state(1, newer)
		if got := rings(f, west.Server(0), "?local-only=true"); strings.Count(got, "\n") != 0 || !strings.HasPrefix(got, "west: 1 keys") {
			t.Errorf("local-only lists\n%s", got)
		}
		for _, h := range f.Hosts() {
			if h.DC() == east || h.DC() == west {
				if err := h.Put("k", "v"); err != nil {
					t.Errorf("%s: %v", h.Name, err)
				}
			}
		}

		if err := f.DC("late").Server(0).Join(east.Server(0)); err == nil {
			t.Error("the old key still opens the federation")
		}
		f.Must(f.DC("north").Server(0).Join(east.Server(1)))
	}, DC("east", 2).Clients(1), DC("west", 1), DC("late", 1), DC("north", 1).Key(newer))
}

// Without a key the answer says so of every agent.
func TestNoKeyring(t *testing.T) {
	Run(t, func(f *Federation) {
		r, err := f.DC("east").Server(0).Call(context.Background(), http.MethodGet, "/v1/operator/keyring", "")
		f.Must(err)
		want := `4 errors occurred:
	* WAN error: 1/1 nodes reported failure
	* east-1.east: Keyring is empty (encryption not enabled)
	* east (LAN) error: 1/1 nodes reported failure
	* east-1: Keyring is empty (encryption not enabled)

`
		if r.Code != 500 || string(r.Body) != want {
			t.Errorf("got %d\n%s", r.Code, r.Body)
		}
	}, DC("east", 1).Key(nil))
}

type placed struct {
	Node  string
	Coord struct{ Vec []float64 }
}

// Every agent's coordinate is in the catalog's table after 20 seconds, and ?near=
// sorts by it.
func TestCoordinates(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		got := map[string]bool{}
		f.Await(21*time.Second, "all agents told where they are", func() error {
			r, err := east.Client(0).Call(context.Background(), http.MethodGet, "/v1/coordinate/nodes", "")
			if err != nil {
				return err
			}
			var list []placed
			if err := json.Unmarshal([]byte(r.Body), &list); err != nil {
				return err
			}
			clear(got)
			for _, p := range list {
				got[p.Node] = len(p.Coord.Vec) == 8
			}
			if len(got) != 4 {
				return fmt.Errorf("%s", r.Body)
			}
			return nil
		})
		for _, h := range east.Hosts() {
			if !got[h.Name] {
				t.Errorf("%s is not among %v", h.Name, got)
			}
		}
		r, err := east.Client(0).Call(context.Background(), http.MethodGet, "/v1/catalog/nodes?near=_agent", "")
		f.Must(err)
		var list []placed
		if err := json.Unmarshal([]byte(r.Body), &list); err != nil || len(list) != 4 || list[0].Node != east.Client(0).Name {
			t.Errorf("nearest to itself is %s (%v)", r.Body, err)
		}
	}, DC("east", 3).Clients(1))
}

// An event is fired through any agent, reaches all agents of the datacenter it is
// for, and nobody else; a list that waits wakes up.
func TestEvents(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Must(east.Server(0).Join(west.Server(0)))
		list := func(h *Host, params string) (names, index string) {
			t.Helper()
			r, err := h.Call(context.Background(), http.MethodGet, "/v1/event/list"+params, "")
			f.Must(err)
			var events []struct{ Name string }
			if err := json.Unmarshal([]byte(r.Body), &events); err != nil {
				t.Fatalf("%s: %v", r.Body, err)
			}
			var all []string // in no order: they were fired through several servers at once
			for _, e := range events {
				all = append(all, e.Name)
			}
			slices.Sort(all)
			return strings.Join(all, ""), r.Header.Get("X-Consul-Index")
		}
		fire := func(h *Host, event string) {
			t.Helper()
			r, err := h.Call(context.Background(), http.MethodPut, "/v1/event/fire/"+event, "x")
			f.Must(err)
			if r.Code != 200 {
				t.Fatalf("%s: %d %s", event, r.Code, r.Body)
			}
		}
		woken := make(chan time.Duration)
		go func() {
			began := f.Now()
			list(east.Server(1), "?name=b&index=1")
			woken <- f.Now() - began
		}()
		time.Sleep(time.Second)
		fire(east.Client(0), "a?node=client|east-1")
		fire(east.Client(0), "b?dc=east")
		fire(west.Server(0), "c?dc=east")
		fire(east.Client(0), "d?dc=west")
		if took := <-woken; took > 3*time.Second {
			t.Errorf("the waiting list was woken after %s", took)
		}
		time.Sleep(5 * time.Second)
		for _, h := range f.Hosts() {
			want := "bc"
			switch {
			case h.DC() == west:
				want = "d"
			case h == east.Server(0):
				want = "abc"
			}
			if got, _ := list(h, ""); got != want {
				t.Errorf("%s has %q, want %q", h.Name, got, want)
			}
		}
		r, err := east.Client(0).Call(context.Background(), http.MethodPut, "/v1/event/fire/x?dc=south", "")
		f.Must(err)
		if r.Code != 500 || r.Body != "No path to datacenter" {
			t.Errorf("to nowhere: %d %s", r.Code, r.Body)
		}
		// A restarted agent starts with none: events are not kept.
		east.Client(0).Stop()
		east.Client(0).Restart()
		f.Await(20*time.Second, "the client is back", func() error { return east.Client(0).Healthy(east.Client(0).Name) })
		time.Sleep(time.Minute)
		if got, index := list(east.Client(0), ""); got != "" || index != "1" {
			t.Errorf("after a restart: %q at %s", got, index)
		}
	}, DC("east", 2).Clients(1), DC("west", 1))
}
