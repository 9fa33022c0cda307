package endpoint

import (
	"fmt"
	"strings"
	"testing"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// Records of a list are the very same bytes until it changes, however many there
// are: DNS knows by that that it has decoded them.
func TestLargeRecordsAreKept(t *testing.T) {
	s, _ := newSet(t)
	for i := range 400 {
		register(t, s, &store.RegisterCommand{Node: store.Node{Node: fmt.Sprintf("n%d", i), Address: "10.0.0.1", Meta: map[string]string{"text": strings.Repeat("x", 500)}},
			Service: &store.Service{ID: "big", Name: "big", Meta: map[string]string{"text": strings.Repeat("y", 500)}}})
	}
	records := func() []byte {
		resp, err := s.Do(t.Context(), &rpc.Request{Method: rpc.HealthService, Representation: rpc.Records, Consistency: store.Stale, Query: store.Query{Name: "big"}})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Body
	}
	first := records()
	if len(first) <= bodyLimit {
		t.Fatalf("%d bytes test nothing", len(first))
	}
	if again := records(); &again[0] != &first[0] {
		t.Error("the same list was encoded twice")
	}
	register(t, s, &store.RegisterCommand{Node: store.Node{Node: "n0", Address: "10.0.0.2"}})
	list, err := store.DecodeInstances(records())
	if err != nil || len(list) != 400 {
		t.Fatalf("%d instances, %v", len(list), err)
	}
	moved := 0
	for i := range list {
		if list[i].Node.Address == "10.0.0.2" {
			moved++
		}
	}
	if moved != 1 {
		t.Errorf("%d instances at the new address, want 1", moved)
	}
}
