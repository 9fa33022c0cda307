package httpapi

import (
	"net/http"
	"strconv"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// maxKey bounds a key; the peer has no limit, but nothing should carry a
// megabyte of header into the log.
const maxKey = 64 << 10

var errNoKey = badRequest("Missing key name")

func (c *call) kvGet() error {
	req := c.request(rpc.KVGet)
	if err := c.query(req, false); err != nil {
		return err
	}
	req.Query.Name = c.rest
	req.Filter = "" // keys have no filter: the parameter is ignored, as clients expect
	switch {
	case c.p.has(fKeys):
		req.Method = rpc.KVKeys
		req.Query.Separator = c.p.separator
	case c.p.has(fRecurse):
		req.Method = rpc.KVList
	case c.rest == "":
		return errNoKey
	case c.p.has(fRaw):
		return c.kvRaw(req)
	}
	return c.read(req, false)
}

// kvRaw answers with the value's bytes. The headers keep a browser from running
// what somebody stored.
func (c *call) kvRaw(req *rpc.Request) error {
	req.Representation = rpc.Raw
	resp, err := c.direct(req)
	if err != nil {
		c.indexed = true
		return err
	}
	c.indexHeaders(resp, false)
	if resp.NotFound {
		c.send(http.StatusNotFound, nil, nil)
		return nil
	}
	h := c.w.Header()
	h["X-Content-Type-Options"], h["Content-Security-Policy"] = nosniff, sandbox
	c.send(http.StatusOK, typeText, resp.Body)
	return nil
}

func (c *call) kvPut() error {
	if c.rest == "" {
		return errNoKey
	}
	if len(c.rest) > maxKey {
		return badRequest("Key name of %d bytes is too long, at most %d", len(c.rest), maxKey)
	}
	cmd := store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: c.rest}}
	if c.p.has(fFlags) {
		flags, err := parseUint(c.p.flags)
		if err != nil {
			return err
		}
		cmd.Entry.Flags = flags
	}
	conditions := 0
	if c.p.has(fCAS) {
		index, err := parseUint(c.p.cas)
		if err != nil {
			return err
		}
		cmd.Op, cmd.Entry.ModifyIndex = store.KVCAS, store.Index(index)
		conditions++
	}
	if c.p.has(fAcquire) {
		cmd.Op, cmd.Entry.Session = store.KVLock, c.p.acquire
		conditions++
	}
	if c.p.has(fRelease) {
		cmd.Op, cmd.Entry.Session = store.KVUnlock, c.p.release
		conditions++
	}
	if conditions > 1 {
		return c.conflicting()
	}
	buf, err := c.body(c.s.cfg.KVMaxValueSize, "kv_max_value_size")
	if err != nil {
		return err
	}
	defer putBuffer(buf)
	cmd.Entry.Value = buf.Bytes()
	return c.apply(rpc.KVApply, cmd.AppendWire(make([]byte, 0, buf.Len()+len(c.rest)+64)))
}

func (c *call) kvDelete() error {
	cmd := store.KVCommand{Op: store.KVDelete, Entry: store.KVEntry{Key: c.rest}}
	switch {
	case c.p.has(fRecurse) && c.p.has(fCAS):
		return c.conflicting()
	case c.p.has(fRecurse):
		cmd.Op = store.KVDeleteAll
	case c.rest == "":
		return errNoKey
	case c.p.has(fCAS):
		index, err := parseUint(c.p.cas)
		if err != nil {
			return err
		}
		cmd.Op, cmd.Entry.ModifyIndex = store.KVDeleteCAS, store.Index(index)
	}
	return c.apply(rpc.KVApply, cmd.AppendWire(nil))
}

// apply runs a write and answers with its true or false.
func (c *call) apply(method rpc.MethodID, payload []byte) error {
	req := c.request(method)
	req.Body = payload
	return c.plain(req)
}

// conflicting names the query as it was understood, without the token in it; unlike
// other errors it ends in a newline.
func (c *call) conflicting() error {
	q := c.r.URL.Query()
	q.Del("token")
	return badRequest("Conflicting flags: %s\n", q.Encode())
}

// parseUint reads a number of a query. That a bad one is an error of the server
// is what clients know.
func parseUint(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, store.Errorf(store.KindInvalid, "%w", err)
	}
	return n, nil
}
