package apiclient

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
)

func TestTxnOfKeys(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		kv, root := c.KV(), folder(t)
		op := func(verb api.KVOp, key, value string, index uint64) *api.KVTxnOp {
			return &api.KVTxnOp{Verb: verb, Key: root + key, Value: []byte(value), Index: index}
		}
		run := func(ops ...*api.KVTxnOp) (bool, *api.KVTxnResponse) {
			t.Helper()
			ok, resp, _, err := kv.Txn(ops, nil)
			must(t, err)
			return ok, resp
		}
		ok, resp := run(op(api.KVSet, "a", "1", 0), op(api.KVCAS, "b", "2", 0), op(api.KVCheckNotExists, "c", "", 0))
		if !ok || len(resp.Errors) != 0 || len(resp.Results) != 2 {
			t.Fatalf("first: %t, %+v", ok, resp)
		}
		if a, b := resp.Results[0], resp.Results[1]; a.Key != root+"a" || a.ModifyIndex == 0 || a.ModifyIndex != b.ModifyIndex {
			t.Errorf("results: %+v, %+v, want one ModifyIndex", a, b)
		}
		index := resp.Results[0].ModifyIndex
		ok, resp = run(op(api.KVGet, "a", "", 0), op(api.KVGetTree, "", "", 0), op(api.KVGetOrEmpty, "none", "", 0), op(api.KVCheckIndex, "a", "", index))
		if !ok || len(resp.Results) < 4 || string(resp.Results[0].Value) != "1" || string(resp.Results[2].Value) != "2" || resp.Results[3].Key != root+"none" {
			t.Errorf("reads: %t, %+v", ok, resp)
		}

		// All or nothing, and every reason.
		ok, resp = run(op(api.KVSet, "a", "never", 0), op(api.KVGet, "nope", "", 0), op(api.KVCAS, "b", "never", 1), op(api.KVCheckNotExists, "a", "", 0))
		if ok || len(resp.Errors) != 3 || resp.Errors[0].OpIndex != 1 || resp.Errors[1].OpIndex != 2 || resp.Errors[2].OpIndex != 3 {
			t.Fatalf("failed one: %t, %+v", ok, resp)
		}
		for i, text := range []string{
			fmt.Sprintf("key %q doesn't exist", root+"nope"), fmt.Sprintf("failed to set key %q, index is stale", root+"b"), fmt.Sprintf("key %q exists", root+"a"),
		} {
			if got := resp.Errors[i].What; got != text {
				t.Errorf("error %d is %q, want %q", i, got, text)
			}
		}
		if p, _, err := kv.Get(root+"a", nil); err != nil || string(p.Value) != "1" || p.ModifyIndex != index {
			t.Errorf("after a failed transaction: %+v, %v", p, err)
		}

		// Locks.
		id, _, err := c.Session().CreateNoChecks(&api.SessionEntry{}, nil)
		must(t, err)
		lock := op(api.KVLock, "l", "mine", 0)
		lock.Session = id
		if ok, resp = run(lock); !ok || resp.Results[0].Session != id || resp.Results[0].LockIndex != 1 {
			t.Errorf("lock: %t, %+v", ok, resp)
		}
		held := op(api.KVCheckSession, "l", "", 0)
		held.Session = id
		unlock := op(api.KVUnlock, "l", "free", 0)
		unlock.Session = id
		if ok, resp = run(held, unlock); !ok || resp.Results[len(resp.Results)-1].Session != "" {
			t.Errorf("unlock: %t, %+v", ok, resp)
		}
		if ok, resp = run(held); ok || len(resp.Errors) != 1 || !strings.Contains(resp.Errors[0].What, "failed session check") {
			t.Errorf("check-session: %t, %+v", ok, resp)
		}
		_, err = c.Session().Destroy(id, nil)
		must(t, err)

		if ok, resp = run(op(api.KVDelete, "a", "", 0), op(api.KVDeleteTree, "", "", 0)); !ok || len(resp.Results) != 0 {
			t.Errorf("deletes: %t, %+v", ok, resp)
		}
		if list, _, err := kv.List(root, nil); err != nil || len(list) != 0 {
			t.Errorf("after the deletes: %v, %v", list, err)
		}
		many := make([]*api.KVTxnOp, 129)
		for i := range many {
			many[i] = op(api.KVSet, fmt.Sprint(i), "", 0)
		}
		if _, _, _, err := kv.Txn(many, nil); err == nil || !strings.Contains(err.Error(), "Transaction contains too many operations (129 > 128)") {
			t.Errorf("129 operations: %v", err)
		}
		if ok, _ := run(many[:128]...); !ok {
			t.Error("128 operations are refused")
		}
		_, err = kv.DeleteTree(root, nil)
		must(t, err)
	})
}

// TestTxnOfTheCatalog registers a node, a service and a check in one step.
func TestTxnOfTheCatalog(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		node, svc := name(t, "node"), name(t, "svc")
		service := api.AgentService{ID: svc + "-1", Service: svc, Port: 80}
		check := api.HealthCheck{Node: node, CheckID: svc + "-check", Name: "check", Status: api.HealthPassing, ServiceID: svc + "-1"}
		run := func(ops ...*api.TxnOp) (bool, *api.TxnResponse) {
			t.Helper()
			ok, resp, _, err := c.Txn().Txn(ops, nil)
			must(t, err)
			return ok, resp
		}
		ok, resp := run(
			&api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: node, Address: "192.0.2.20"}}},
			&api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: node, Service: service}},
			&api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: check}},
			&api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVSet, Key: folder(t) + "k", Value: []byte("v")}},
		)
		if !ok || len(resp.Results) != 4 || resp.Results[0].Node.Node != node || resp.Results[1].Service.ID != svc+"-1" ||
			resp.Results[2].Check.CheckID != svc+"-check" || resp.Results[3].KV.ModifyIndex == 0 {
			t.Fatalf("set: %t, %+v", ok, resp)
		}
		entries, _, err := c.Health().Service(svc, "", true, nil)
		must(t, err)
		if len(entries) != 1 || entries[0].Node.Address != "192.0.2.20" || entries[0].Service.Port != 80 {
			t.Errorf("health: %+v", entries)
		}
		stale := check
		stale.ModifyIndex = 1
		ok, resp = run(
			&api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeDelete, Node: api.Node{Node: node}}},
			&api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckCAS, Check: stale}},
			&api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceGet, Node: node + "-none", Service: service}},
		)
		if ok || len(resp.Errors) == 0 {
			t.Errorf("a failing one: %t, %+v", ok, resp)
		}
		if one, _, err := c.Catalog().Node(node, nil); err != nil || one == nil {
			t.Errorf("a failed transaction deleted the node: %v, %v", one, err)
		}
		got := resp.Results
		ok, resp = run(
			&api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeGet, Node: api.Node{Node: node}}},
			&api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceGet, Node: node, Service: service}},
			&api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckGet, Check: check}},
		)
		if !ok || len(resp.Results) != 3 || resp.Results[2].Check.Status != api.HealthPassing || len(got) != 0 {
			t.Errorf("get: %t, %+v (the failed one gave %v)", ok, resp, got)
		}
		if ok, resp = run(&api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeDelete, Node: api.Node{Node: node}}}); !ok {
			t.Errorf("delete: %+v", resp)
		}
		if one, _, err := c.Catalog().Node(node, nil); err != nil || one != nil {
			t.Errorf("after the delete: %v, %v", one, err)
		}
	})
}

// TestTxnInAnotherDatacenter runs a transaction there.
func TestTxnInAnotherDatacenter(t *testing.T) {
	w := theWorld(t)
	key := folder(t) + "k"
	ok, _, _, err := w.client1.client(t).KV().Txn(api.KVTxnOps{{Verb: api.KVSet, Key: key, Value: []byte("far")}}, &api.QueryOptions{Datacenter: "dc2"})
	if err != nil || !ok {
		t.Fatalf("%t, %v", ok, err)
	}
	if p, _, err := w.remote.client(t).KV().Get(key, nil); err != nil || p == nil || string(p.Value) != "far" {
		t.Errorf("dc2 has %v, %v", p, err)
	}
	if p, _, err := w.server.client(t).KV().Get(key, nil); err != nil || p != nil {
		t.Errorf("dc1 has %v, %v", p, err)
	}
}
