package endpoint

import (
	"errors"
	"strings"
	"testing"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/consensus"
)

func txnRequest(method rpc.MethodID, ops ...store.TxnOp) *rpc.Request {
	return &rpc.Request{Method: method, Body: (&store.TxnCommand{Ops: ops}).AppendWire(nil)}
}

func kvOp(verb store.TxnVerb, key string) store.TxnOp {
	return store.TxnOp{Verb: verb, KV: &store.KVEntry{Key: key, Value: []byte("v")}}
}

// What every server would refuse costs the log nothing, and is an answer.
func TestTxnIsPreparedBeforeTheLog(t *testing.T) {
	s, _ := newSet(t)
	before := s.state.Index()
	resp, err := s.Do(t.Context(), txnRequest(rpc.TxnApply, kvOp(store.TxnSet, "k"), kvOp(store.TxnSet, ""), kvOp(store.TxnGet, "none")))
	if err != nil || !resp.Conflict || string(resp.Body) != `{"Results":null,"Errors":[{"OpIndex":1,"What":"Must provide key"}]}` {
		t.Errorf("got %+v, %v", resp, err)
	}
	if s.state.Index() != before {
		t.Error("it was proposed")
	}
	if resp, err = s.Do(t.Context(), txnRequest(rpc.TxnApply, kvOp(store.TxnSet, "k"), kvOp(store.TxnGet, "none"))); err != nil || !resp.Conflict {
		t.Errorf("got %+v, %v", resp, err)
	}
	if s.state.Index() != before+1 {
		t.Error("it was not proposed")
	}
}

func TestTxnReadsByConsistency(t *testing.T) {
	s, raft := newSet(t)
	put(t, s, "k", "v")
	read := func(c store.Consistency) (string, error) {
		req := txnRequest(rpc.TxnRead, kvOp(store.TxnGet, "k"))
		req.Consistency = c
		resp, err := s.Do(t.Context(), req)
		if err != nil {
			return "", err
		}
		if resp.Conflict || resp.Effective != c {
			t.Errorf("%v: %+v", c, resp)
		}
		return string(resp.Body), nil
	}
	const fresh = `"LastContact":0,"KnownLeader":true,`
	for _, c := range []store.Consistency{store.Default, store.Consistent, store.Stale} {
		if got, err := read(c); err != nil || !strings.Contains(got, `"Value":"dg=="`) || !strings.Contains(got, fresh) {
			t.Errorf("%v: %s, %v", c, got, err)
		}
	}
	if raft.verified != 1 {
		t.Errorf("a quorum was asked %d times, want once: for the consistent read", raft.verified)
	}
	raft.lease = []error{nil, consensus.ErrLease} // it ran out while the state was read
	if _, err := read(store.Default); err != nil || raft.verified != 2 {
		t.Errorf("with a lost lease: %v, a quorum was asked %d times", err, raft.verified)
	}
	raft.lose()
	raft.contact = 1500 * time.Millisecond
	for _, c := range []store.Consistency{store.Default, store.Consistent} {
		if _, err := read(c); !errors.Is(err, store.ErrNoLeader) {
			t.Errorf("%v without leadership: %v", c, err)
		}
	}
	if got, err := read(store.Stale); err != nil || !strings.Contains(got, `"LastContact":1500000000,"KnownLeader":false,`) {
		t.Errorf("stale without leadership: %s, %v", got, err)
	}
	if _, err := s.Do(t.Context(), txnRequest(rpc.TxnApply, kvOp(store.TxnSet, "k"))); !errors.Is(err, store.ErrNoLeader) {
		t.Errorf("a write without leadership: %v", err)
	}
}

func TestTxnRefusals(t *testing.T) {
	s, _ := newSet(t)
	many := make([]store.TxnOp, store.MaxTxnOps+1)
	for i := range many {
		many[i] = kvOp(store.TxnSet, "k")
	}
	raw := txnRequest(rpc.TxnRead)
	raw.Representation = rpc.Raw
	for name, tc := range map[string]struct {
		req  *rpc.Request
		kind store.Kind
		text string
	}{
		"too many":       {txnRequest(rpc.TxnApply, many...), store.KindTooLarge, "Transaction contains too many operations (129 > 128)"},
		"far too many":   {&rpc.Request{Method: rpc.TxnApply, Body: []byte(strings.Repeat("\x0a\x00", 1<<20))}, store.KindInvalid, "a transaction of more than"},
		"writes":         {txnRequest(rpc.TxnRead, kvOp(store.TxnGet, "k"), kvOp(store.TxnSet, "k")), store.KindInvalid, "the transaction writes"},
		"malformed":      {&rpc.Request{Method: rpc.TxnApply, Body: []byte{0x0a, 9}}, store.KindInvalid, "Txn.Apply: malformed"},
		"representation": {raw, store.KindInvalid, "representation"},
	} {
		if _, err := s.Do(t.Context(), tc.req); store.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: got kind %d %v, want kind %d %q", name, store.KindOf(err), err, tc.kind, tc.text)
		}
	}
	if _, e := s.state.KVGet(nil, "k"); e != nil {
		t.Error("a refused transaction wrote")
	}
}

// The node's datacenter is this one, whatever the client wrote.
func TestTxnNodeIsOfThisDatacenter(t *testing.T) {
	s, _ := newSet(t)
	got := body(t, s, txnRequest(rpc.TxnApply, store.TxnOp{Verb: store.TxnSet, Node: &store.Node{Node: "n", Address: "10.0.0.1", Datacenter: "elsewhere"}}))
	if !strings.Contains(got, `"Datacenter":"dc1"`) {
		t.Errorf("got %s", got)
	}
}
