package httpapi

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
)

// eventFire sends an event to the agents of this datacenter, or of ?dc.
func (c *call) eventFire() error {
	if c.rest == "" {
		return badRequest("Missing name")
	}
	buf, err := c.jsonBody()
	if err != nil {
		return err
	}
	defer putBuffer(buf)
	q := c.r.URL.Query()
	ev := store.UserEvent{
		ID: store.NewUUID(), Name: c.rest, Payload: bytes.Clone(buf.Bytes()),
		NodeFilter: q.Get("node"), ServiceFilter: q.Get("service"), TagFilter: q.Get("tag"),
	}
	req := c.request(rpc.EventFire)
	req.Body = ev.AppendWire(nil)
	if _, err := c.run(req); err != nil {
		return err
	}
	c.json(http.StatusOK, ev.AppendJSON(nil))
	return nil
}

// eventList lists the events that this agent got. It blocks while the newest of
// them is the one that the caller has seen.
func (c *call) eventList() error {
	var req rpc.Request
	if err := c.query(&req, false); err != nil {
		return err
	}
	name := c.r.URL.Query().Get("name")
	events := c.s.cfg.Local.Events()
	index, list, changed := events.List(name)
	if req.MinIndex > 0 && index == req.MinIndex {
		expired := time.NewTimer(req.Wait + rand.N(req.Wait/16+1))
		defer expired.Stop()
		for waits := true; waits && index == req.MinIndex; {
			select {
			case <-changed:
			case <-expired.C:
				waits = false
			case <-c.r.Context().Done():
				waits = false
			}
			index, list, changed = events.List(name)
		}
		if err := c.guarded(c.ep.guard); err != nil { // who asks may be nobody by now
			return err
		}
	}
	b := []byte{'['}
	hidden := false
	for _, ev := range list {
		if !c.who.May(acl.Event, ev.Name, acl.Read) {
			hidden = true
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = ev.AppendJSON(b)
	}
	c.hides(hidden)
	c.w.Header()[hIndex] = []string{strconv.FormatUint(uint64(index), 10)}
	c.json(http.StatusOK, append(b, ']'))
	return nil
}
