package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// The body of a transaction: a list of operations, each of one kind.
type (
	txnOpBody struct {
		KV      *txnKVBody
		Node    *txnNodeBody
		Service *txnServiceBody
		Check   *txnCheckBody
	}
	txnKVBody struct {
		Verb    store.TxnVerb
		Key     string
		Value   []byte
		Flags   uint64
		Index   uint64
		Session string
	}
	txnNodeBody struct {
		Verb store.TxnVerb
		Node nodeBody
	}
	txnServiceBody struct {
		Verb    store.TxnVerb
		Node    string
		Service txnServiceRecord
	}
	txnCheckBody struct {
		Verb  store.TxnVerb
		Check checkBody
	}
	nodeBody struct {
		ID              string
		Node            string
		Address         string
		Datacenter      string
		TaggedAddresses map[string]string
		Meta            map[string]string
		ModifyIndex     uint64
		// Written by clients that send back what they read.
		CreateIndex uint64
		PeerName    string
		Locality    json.RawMessage
	}
	txnServiceRecord struct {
		serviceBody
		// Sent by the Go client, whose type is that of the agent's services.
		ContentHash string
		Datacenter  string
	}
)

// txn runs a transaction. One that only reads is answered like any other read;
// which it is follows from its operations alone.
func (c *call) txn() error {
	cmd, err := c.txnCommand()
	if err != nil {
		return err
	}
	if err := cmd.CheckSize(); err != nil {
		return err
	}
	req := c.request(rpc.TxnApply)
	read := cmd.ReadOnly()
	if read {
		req.Method = rpc.TxnRead
		if err := c.query(req, false); err != nil {
			return err
		}
		req.MinIndex, req.Wait, req.Filter, req.Query.Near = 0, 0, "", "" // a transaction has none of these
	}
	req.Body = cmd.AppendWire(make([]byte, 0, 64*len(cmd.Ops)))
	resp, err := c.run(req)
	if err != nil {
		return err
	}
	if read {
		h := c.w.Header()
		h[hKnownLeader], h[hLastContact] = no, zero
		if resp.KnownLeader {
			h[hKnownLeader] = yes
		}
		if ms := resp.LastContact.Milliseconds(); ms > 0 {
			h[hLastContact] = []string{strconv.FormatInt(ms, 10)}
		}
	}
	status := http.StatusOK
	if resp.Conflict {
		status = http.StatusConflict
	}
	c.json(status, resp.Body)
	return nil
}

// txnCommand reads the body. Nothing of it is judged here but its form and the
// sizes that a key and a value may have.
func (c *call) txnCommand() (*store.TxnCommand, error) {
	buf, err := c.body(c.s.cfg.TxnMaxReqLen, "txn_max_req_len")
	if err != nil {
		return nil, err
	}
	defer putBuffer(buf)
	var ops []txnOpBody
	if err := parseJSON(buf, &ops, true); err != nil {
		return nil, badRequest("Failed to parse body: %w", err)
	}
	cmd := &store.TxnCommand{Ops: make([]store.TxnOp, len(ops))}
	for i := range ops {
		if err := ops[i].record(&cmd.Ops[i], c.s.cfg.KVMaxValueSize); err != nil {
			return nil, err
		}
	}
	return cmd, nil
}

// record fills op from the body. An operation of several kinds, or of none, is
// left to the server to refuse.
func (b *txnOpBody) record(op *store.TxnOp, maxValue int64) error {
	if kv := b.KV; kv != nil {
		if len(kv.Key) > maxKey {
			return badRequest("Key name of %d bytes is too long, at most %d", len(kv.Key), maxKey)
		}
		if int64(len(kv.Value)) > maxValue {
			return store.Errorf(store.KindTooLarge, "Value for key %q is too large (%d > %d bytes)", kv.Key, len(kv.Value), maxValue)
		}
		op.Verb = kv.Verb
		op.KV = &store.KVEntry{Key: kv.Key, Value: kv.Value, Flags: kv.Flags, Session: kv.Session, ModifyIndex: store.Index(kv.Index)}
	}
	if b.Node != nil {
		n := &b.Node.Node
		op.Verb = b.Node.Verb
		op.Node = &store.Node{ID: n.ID, Node: n.Node, Address: n.Address, Datacenter: n.Datacenter,
			TaggedAddresses: n.TaggedAddresses, Meta: n.Meta, ModifyIndex: store.Index(n.ModifyIndex)}
	}
	if b.Service != nil {
		op.Verb = b.Service.Verb
		op.Service = b.Service.Service.record()
		op.Service.Node, op.Service.ModifyIndex = b.Service.Node, store.Index(b.Service.Service.ModifyIndex)
	}
	if b.Check != nil {
		check, err := b.Check.Check.record()
		if err != nil {
			return err
		}
		op.Verb, op.Check = b.Check.Verb, check
		op.Check.ModifyIndex = store.Index(b.Check.Check.ModifyIndex)
	}
	return nil
}
