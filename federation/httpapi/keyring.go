package httpapi

import (
	"net/http"
	"strconv"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

func (c *call) keyringList() error    { return c.keyring(store.KeyringList) }
func (c *call) keyringInstall() error { return c.keyring(store.KeyringInstall) }
func (c *call) keyringUse() error     { return c.keyring(store.KeyringUse) }
func (c *call) keyringRemove() error  { return c.keyring(store.KeyringRemove) }

// keyring runs an operation on the rings of all datacenters; ?dc means nothing.
func (c *call) keyring(op store.KeyringOp) error {
	body := store.KeyringRequest{Op: op}
	q := c.r.URL.Query()
	if v := q.Get("relay-factor"); v != "" {
		n, err := strconv.ParseUint(v, 10, 8)
		if err != nil {
			return badRequest("Error parsing relay factor: %w", err)
		}
		if n > 5 {
			return badRequest("Invalid relay-factor: Relay factor must be in range: [0, 5]")
		}
		body.Relay = uint8(n)
	}
	if v := q.Get("local-only"); v != "" {
		local, err := strconv.ParseBool(v)
		if err != nil {
			return badRequest("Error parsing local-only: %w", err)
		}
		if local && op != store.KeyringList {
			return badRequest("Invalid local-only: it can only be used to list keys")
		}
		body.LocalOnly = local
	}
	if op != store.KeyringList {
		var b struct{ Key string }
		if err := c.decode(&b); err != nil {
			return err
		}
		body.Key = b.Key
	}
	req := c.local(rpc.KeyringRings)
	req.Body = body.AppendWire(nil)
	resp, err := c.run(req)
	if err != nil {
		return err
	}
	if op == store.KeyringList {
		c.json(http.StatusOK, resp.Body)
		return nil
	}
	return c.done()
}
