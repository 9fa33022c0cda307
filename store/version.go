package store

// Versions of what servers tell each other and keep. Every server says its own in
// its gossip tags, and reads everything up to them; servers of neighbouring releases
// run side by side while a datacenter is upgraded.
//
// A new kind of command, or an old one with a field that the state depends on, takes
// the next CommandVersion, and Since says which: a leader proposes it only when all
// servers of the Raft group have that version.
const (
	// CommandVersion is that of the commands in the Raft log (tag lb_cmd).
	CommandVersion = 3
	// WireVersion is that of calls between agents (tag lb_rpc). Fields are tagged and
	// unknown ones skipped, so it changes only with frames or handshakes.
	WireVersion = 1
	// DiskVersion is that of log entries and snapshots (tag lb_disk): a server reads
	// what has its own version or a lower one.
	DiskVersion = 2
)

// Since returns the version of commands that the kind came with; for a kind that
// this version does not know, one that it does not have.
func (k CommandKind) Since() int {
	switch {
	case k >= CmdCluster && k <= CmdACLBootstrap:
		return 1
	case k == CmdKVReplicate:
		return 2
	case k == CmdPromotion:
		return 3
	}
	return CommandVersion + 1
}
