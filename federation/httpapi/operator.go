package httpapi

import (
	"encoding/json"
	"io"

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

func (c *call) autopilotGet() error {
	req := c.request(rpc.AutopilotConfig)
	if c.p.has(fStale) {
		req.Consistency = store.Stale
	}
	return c.plain(req)
}

// autopilotPut replaces the whole configuration.
func (c *call) autopilotPut() error {
	buf, err := c.body(maxJSONBody, "http_config")
	if err != nil {
		return err
	}
	defer putBuffer(buf)
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
	d := json.NewDecoder(buf)
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		return badRequest("Error parsing autopilot config: %w", err)
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

func (c *call) internalFederation() error {
	v, err := c.s.cfg.Agent.Federation(c.r.Context())
	if err != nil {
		return err
	}
	return c.encode(200, v)
}
