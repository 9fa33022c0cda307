package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

func (c *call) raftConfiguration() error {
	req := c.request(rpc.RaftConfiguration)
	if c.p.has(fStale) {
		req.Consistency = store.Stale
	}
	return c.plain(req)
}

// raftRemovePeer takes a server out of the Raft group, named by id or address.
func (c *call) raftRemovePeer() error {
	q := c.r.URL.Query()
	peer := store.RaftPeer{ID: q.Get("id"), Address: q.Get("address")}
	switch {
	case peer.ID == "" && peer.Address == "":
		return badRequest("Must specify either ?id with the server's ID or ?address with IP:port of peer to remove")
	case peer.ID != "" && peer.Address != "":
		return badRequest("Must specify only one of ?id or ?address")
	}
	req := c.request(rpc.RaftRemovePeer)
	req.Body = peer.AppendWire(nil)
	if _, err := c.run(req); err != nil {
		return err
	}
	return c.done()
}

func (c *call) raftTransferLeader() error {
	req := c.request(rpc.RaftTransferLeader)
	req.Query.Name = c.r.URL.Query().Get("id")
	return c.plain(req)
}

func (c *call) autopilotGet() error {
	req := c.request(rpc.AutopilotConfig)
	if c.p.has(fStale) {
		req.Consistency = store.Stale
	}
	return c.plain(req)
}

// autopilotPut replaces the whole configuration.
func (c *call) autopilotPut() error {
	var b struct {
		CleanupDeadServers      bool
		LastContactThreshold    duration
		MaxTrailingLogs         uint64
		MinQuorum               uint
		ServerStabilizationTime duration
		// Of the peer's other edition; clients send back what they read.
		RedundancyZoneTag        string
		DisableUpgradeMigration  bool
		UpgradeVersionTag        string
		CreateIndex, ModifyIndex uint64
	}
	bad := func(err error) error { return badRequest("Error parsing autopilot config: %w", err) }
	if err := c.decodeAs(&b, true, bad); err != nil {
		return err
	}
	for name, d := range map[string]duration{"LastContactThreshold": b.LastContactThreshold, "ServerStabilizationTime": b.ServerStabilizationTime} {
		if d < 0 {
			return bad(fmt.Errorf("%s '%s' must not be negative", name, time.Duration(d)))
		}
	}
	cmd := store.AutopilotCommand{Config: store.AutopilotConfig{
		CleanupDeadServers:      b.CleanupDeadServers,
		LastContactThreshold:    int64(b.LastContactThreshold),
		MaxTrailingLogs:         b.MaxTrailingLogs,
		MinQuorum:               b.MinQuorum,
		ServerStabilizationTime: int64(b.ServerStabilizationTime),
	}}
	if c.p.has(fCAS) {
		index, err := parseUint(c.p.cas)
		if err != nil {
			return badRequest("Error parsing cas value: %w", err)
		}
		cmd.CAS, cmd.Config.ModifyIndex = true, store.Index(index)
	}
	return c.apply(rpc.AutopilotSetConfig, cmd.AppendWire(nil))
}

// autopilotHealth answers with the status that load balancers look at.
func (c *call) autopilotHealth() error {
	resp, err := c.run(c.request(rpc.AutopilotHealth))
	if err != nil {
		return err
	}
	var health struct{ Healthy bool }
	if err := json.Unmarshal(resp.Body, &health); err != nil {
		return fmt.Errorf("autopilot's health: %w", err)
	}
	status := http.StatusOK
	if !health.Healthy {
		status = http.StatusTooManyRequests
	}
	c.json(status, resp.Body)
	return nil
}

func (c *call) autopilotState() error { return c.plain(c.request(rpc.AutopilotState)) }

// usage tells how much the catalog holds, with ?global of all datacenters.
func (c *call) usage() error {
	req := c.request(rpc.OperatorUsage)
	if err := c.query(req, false); err != nil {
		return err
	}
	if q := c.r.URL.Query(); q.Has("global") && q.Get("global") != "false" {
		req.Query.Name = rpc.UsageGlobal
	}
	return c.read(req, true)
}

// federationLeave takes this datacenter out of the federation.
func (c *call) federationLeave() error {
	req := c.request(rpc.FederationLeave)
	req.Query.Name = rpc.StatusDatacenter
	if _, err := c.s.cfg.Do.Do(c.r.Context(), req); err != nil {
		return err
	}
	return c.done()
}

func (c *call) internalFederation() error {
	v, err := c.s.cfg.Agent.Federation(c.r.Context(), c.token)
	if err != nil {
		return err
	}
	return c.encode(200, v)
}
