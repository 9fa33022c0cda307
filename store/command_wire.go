package store

import "landbridge/store/wire"

// AppendWire appends the record's fields.
func (c *Cluster) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, c.ID)
	b = wire.String(b, 2, c.HistoryID)
	return wire.Uint(b, 3, c.Recoveries)
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *Cluster) DecodeWire(b []byte) error {
	*c = Cluster{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			c.ID = d.String()
		case 2:
			c.HistoryID = d.String()
		case 3:
			c.Recoveries = d.Uint()
		}
	}
	return d.Err()
}

// AppendWire appends the record's fields.
func (a *AutopilotConfig) AppendWire(b []byte) []byte {
	b = wire.Bool(b, 1, a.CleanupDeadServers)
	b = wire.Int(b, 2, a.LastContactThreshold)
	b = wire.Uint(b, 3, a.MaxTrailingLogs)
	b = wire.Uint(b, 4, uint64(a.MinQuorum))
	b = wire.Int(b, 5, a.ServerStabilizationTime)
	b = wire.Uint(b, 6, uint64(a.CreateIndex))
	return wire.Uint(b, 7, uint64(a.ModifyIndex))
}

// DecodeWire replaces a by what AppendWire wrote.
func (a *AutopilotConfig) DecodeWire(b []byte) error {
	*a = AutopilotConfig{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			a.CleanupDeadServers = d.Bool()
		case 2:
			a.LastContactThreshold = d.Int()
		case 3:
			a.MaxTrailingLogs = d.Uint()
		case 4:
			a.MinQuorum = uint(d.Uint())
		case 5:
			a.ServerStabilizationTime = d.Int()
		case 6:
			a.CreateIndex = Index(d.Uint())
		case 7:
			a.ModifyIndex = Index(d.Uint())
		}
	}
	return d.Err()
}

// Clone returns a copy.
func (a *AutopilotConfig) Clone() *AutopilotConfig {
	c := *a
	return &c
}

// AppendWire appends the command's fields.
func (c *AutopilotCommand) AppendWire(b []byte) []byte {
	b = wire.Message(b, 1, c.Config.AppendWire)
	return wire.Bool(b, 2, c.CAS)
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *AutopilotCommand) DecodeWire(b []byte) error {
	*c = AutopilotCommand{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			if err := c.Config.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		case 2:
			c.CAS = d.Bool()
		}
	}
	return d.Err()
}
