package consensus

import (
	"github.com/hashicorp/raft"
)

// A restarted server has, of what it knew before, the newest snapshot: what its log
// holds beyond is not known to be committed until a leader says so, and without a
// majority none does. But the log has noted how far that was known (raftlog), so that
// a lone survivor answers stale reads from what it had, not from an older state, or
// from none.

// applyKnown tells Raft up to where its log is committed, by the message that a leader
// would send, which Raft takes from any server of its term. It says nothing of who
// leads. (raft.Config.RestoreCommittedLogs is of no use here: NewRaft would wait
// forever for a state machine that is not running yet if there is much to apply.)
func (n *Node) applyKnown() {
	r := n.raft.Load()
	if id, _ := n.Leader(); id != "" {
		return // it says so itself
	}
	args := raft.AppendEntriesRequest{
		RPCHeader:         raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax},
		Term:              r.CurrentTerm(),
		PrevLogEntry:      r.LastIndex(),
		LeaderCommitIndex: n.known,
	}
	var last raft.Log
	err := n.cfg.Stores.Log.GetLog(args.PrevLogEntry, &last)
	var resp raft.AppendEntriesResponse
	if err == nil {
		args.PrevLogTerm = last.Term
		err = n.cfg.Transport.AppendEntries(raft.ServerID(n.cfg.NodeID), n.transport.addr, &args, &resp)
	}
	if err != nil {
		n.logger.Warn("entries known to be committed wait for a leader", "index", n.known, "err", err)
		return
	}
	// If it was not taken, there is a newer term, and thus a leader or soon one.
	n.logger.Info("entries known to be committed are applied", "index", n.known, "taken", resp.Success)
}

// Restored reports whether the state machine holds at least what this server knew
// before its restart, as far as it noted that.
func (n *Node) Restored() bool {
	r := n.raft.Load()
	return r != nil && (n.known == 0 || r.CommitIndex() >= n.known && n.CaughtUp())
}
