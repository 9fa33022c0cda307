package store

import "time"

// AppendJSON appends the configuration as the HTTP API shows it.
func (a *AutopilotConfig) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = fieldBool(b, "CleanupDeadServers", a.CleanupDeadServers)
	b = fieldString(b, "LastContactThreshold", time.Duration(a.LastContactThreshold).String())
	b = fieldUint(b, "MaxTrailingLogs", a.MaxTrailingLogs)
	b = fieldUint(b, "MinQuorum", uint64(a.MinQuorum))
	b = fieldString(b, "ServerStabilizationTime", time.Duration(a.ServerStabilizationTime).String())
	b = fieldString(b, "RedundancyZoneTag", "")
	b = fieldBool(b, "DisableUpgradeMigration", false)
	b = fieldString(b, "UpgradeVersionTag", "")
	b = fieldUint(b, "CreateIndex", uint64(a.CreateIndex))
	b = fieldUint(b, "ModifyIndex", uint64(a.ModifyIndex))
	return append(b, '}')
}
