package endpoint

import (
	"slices"
	"testing"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

func sendWrites(t *testing.T, s *Set, writes ...store.CatalogWrite) ([]error, error) {
	t.Helper()
	resp, err := s.Do(t.Context(), &rpc.Request{Method: rpc.CatalogSync, Token: "agent", Body: (&store.CatalogBatch{Writes: writes}).AppendWire(nil)})
	if err != nil {
		return nil, err
	}
	var out store.CatalogOutcome
	if err := out.DecodeWire(resp.Body); err != nil {
		t.Fatal(err)
	}
	return out.Errors, nil
}

func registers(node, service string) store.CatalogWrite {
	return store.CatalogWrite{Register: &store.RegisterCommand{
		Node: store.Node{Node: node, Address: "10.0.0.1"}, Service: &store.Service{Name: service},
	}}
}

func TestCatalogSyncKeepsOrderAndOutcomesApart(t *testing.T) {
	s, raft := newSet(t)
	orphan := store.CatalogWrite{Register: &store.RegisterCommand{
		Node: store.Node{Node: "n"}, SkipNodeUpdate: true, Checks: []*store.Check{{CheckID: "c", ServiceID: "nope"}},
	}}
	errs, err := sendWrites(t, s,
		registers("n", "web"), // before the check below, which would else have no node
		registers("n", ""),
		orphan,
		store.CatalogWrite{Deregister: &store.DeregisterCommand{}},
		registers("n", "gone"),
		store.CatalogWrite{Deregister: &store.DeregisterCommand{Node: "n", ServiceID: "gone"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"", "Must provide service name (Service.Service)", "Unknown service ID 'nope' for check ID 'c'", "Must provide node", "", ""}
	for i := range want {
		got := ""
		if errs[i] != nil {
			got = errs[i].Error()
			if store.KindOf(errs[i]) != store.KindInvalid {
				t.Errorf("write %d: kind %d", i, store.KindOf(errs[i]))
			}
		}
		if got != want[i] {
			t.Errorf("write %d: got %q want %q", i, got, want[i])
		}
	}
	if _, _, list := s.state.NodeServices(nil, "n"); len(list) != 1 || list[0].ID != "web" {
		t.Errorf("services: %v", list)
	}
	// Who does not lead says so for all: the dispatchers on the way ask another.
	raft.mu.Lock()
	raft.leader = false
	raft.mu.Unlock()
	if _, err := sendWrites(t, s, registers("n", "a"), registers("n", "b")); store.KindOf(err) != store.KindNoLeader {
		t.Errorf("without a leader: %v", err)
	}
}

func TestCatalogSyncAsksForTheRightsOfEachWrite(t *testing.T) {
	s, _ := newSet(t)
	tokens := tokensOf(t, map[string]string{"agent": `node "n" { policy = "write" }`, "strong": `service "a" { policy = "write" }`, "weak": ``})
	s.cfg.Tokens = tokens
	strong, weak, own := registers("n", "a"), registers("n", "b"), store.CatalogWrite{Deregister: &store.DeregisterCommand{Node: "n", ServiceID: "x"}}
	node := registers("n", "a")
	node.Register.Service = nil
	strong.Token, weak.Token = "strong", "weak"
	unknown := registers("n", "c")
	unknown.Token = "nobody's"
	if errs, err := sendWrites(t, s, node); err != nil || errs[0] != nil {
		t.Fatal(errs, err)
	}
	errs, err := sendWrites(t, s, strong, weak, own, unknown)
	if err != nil || errs[0] != nil || store.KindOf(errs[1]) != store.KindPermissionDenied || errs[2] != nil || errs[3].Error() != "ACL not found" {
		t.Errorf("got %v %v", errs, err)
	}
	if want := []string{"agent", "agent", "strong", "weak", "nobody's"}; !slices.Equal(tokens.asked, want) {
		t.Errorf("asked %q want %q", tokens.asked, want)
	}
	if _, _, list := s.state.NodeServices(nil, "n"); len(list) != 1 {
		t.Errorf("services: %v", list)
	}
}
