package endpoint

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// place registers a node at x milliseconds on a line, with an instance of web and
// a check; a negative x is a node without coordinate.
func place(t testing.TB, s *Set, raft *fakeRaft, node string, ms float64) {
	t.Helper()
	apply := func(cmd store.Command) {
		if res, err := raft.Apply(t.Context(), cmd); err != nil || res.Err != nil {
			t.Fatal(err, res.Err)
		}
	}
	reg := store.RegisterCommand{
		Node:    store.Node{Node: node, Address: "10.0.0.1", Datacenter: "dc1"},
		Service: &store.Service{ID: "web", Name: "web"},
		Checks:  []*store.Check{{CheckID: "c-" + node, Name: "c", Status: store.Passing, ServiceID: "web"}},
	}
	apply(store.Command{Kind: store.CmdRegister, Payload: reg.AppendWire(nil)})
	if ms < 0 {
		return
	}
	c := &store.Coordinate{Node: node, Coord: store.Coord{Vec: make([]float64, store.CoordinateDimensions)}}
	c.Coord.Vec[0] = ms / 1000
	cmd := store.CoordinatesCommand{Updates: []*store.Coordinate{c}}
	apply(store.Command{Kind: store.CmdCoordinates, Ignorable: true, Payload: cmd.AppendWire(nil)})
}

var nodeNames = regexp.MustCompile(`"Node":"(\w+)"`)

func order(body []byte) string {
	var names []string
	for _, m := range nodeNames.FindAllSubmatch(body, -1) {
		if n := string(m[1]); len(names) == 0 || names[len(names)-1] != n {
			names = append(names, n)
		}
	}
	return strings.Join(names, " ")
}

func TestNear(t *testing.T) {
	s, raft := newSet(t)
	for node, ms := range map[string]float64{"a": 0, "b": 40, "c": 10, "d": 12, "e": -1, "f": -1} {
		place(t, s, raft, node, ms)
	}
	for _, tt := range []struct{ near, want string }{
		{"", "a b c d e f"},
		{"a", "a c d b e f"},
		{"B", "b d c a e f"},
		{"d", "d c a b e f"},
		{"e", "a b c d e f"}, // no coordinate
		{"nobody", "a b c d e f"},
		{"_agent", "a b c d e f"},
	} {
		for _, m := range []struct {
			method rpc.MethodID
			name   string
		}{
			{rpc.CatalogNodes, ""}, {rpc.CatalogServiceNodes, "web"}, {rpc.HealthService, "web"}, {rpc.HealthChecks, "web"}, {rpc.HealthState, store.Passing},
		} {
			for range 2 { // the second time whatever was kept of the first answer is in place
				resp, err := s.Do(t.Context(), &rpc.Request{Method: m.method, Query: store.Query{Name: m.name, Near: tt.near}})
				if err != nil {
					t.Fatal(err)
				}
				if got := order(resp.Body); got != tt.want {
					t.Errorf("%s near %q: %s, want %s", rpc.Lookup(m.method).Name, tt.near, got, tt.want)
				}
			}
		}
	}
}

func TestCoordinateReads(t *testing.T) {
	s, raft := newSet(t)
	ask := func(m rpc.MethodID, name string) *rpc.Response {
		t.Helper()
		resp, err := s.Do(t.Context(), &rpc.Request{Method: m, Query: store.Query{Name: name}})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	if r := ask(rpc.CoordinateNodes, ""); string(r.Body) != "[]" || r.Index != 1 {
		t.Errorf("nobody: %s at %d", r.Body, r.Index)
	}
	if r := ask(rpc.CoordinateDatacenters, ""); string(r.Body) != "[]" {
		t.Errorf("outside the WAN: %s", r.Body)
	}
	place(t, s, raft, "a", 500)
	const row = `{"Node":"a","Segment":"","Coord":{"Vec":[0.5,0,0,0,0,0,0,0],"Error":0,"Adjustment":0,"Height":0}}`
	for _, m := range []rpc.MethodID{rpc.CoordinateNodes, rpc.CoordinateNode} {
		if r := ask(m, "A"); string(r.Body) != "["+row+"]" || r.Index != s.state.Index() {
			t.Errorf("method %d: %s at %d", m, r.Body, r.Index)
		}
	}
	if r := ask(rpc.CoordinateNode, "b"); !r.NotFound {
		t.Errorf("an unknown node answers %s", r.Body)
	}
}

func BenchmarkNear(b *testing.B) {
	s, raft := newSet(b)
	for i := range 100 {
		place(b, s, raft, fmt.Sprintf("n%d", i), float64(i*37%100))
	}
	req := &rpc.Request{Method: rpc.HealthService, Query: store.Query{Name: "web", Near: "n50"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Do(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}
