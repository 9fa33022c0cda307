// Package consensus runs hashicorp/raft for the servers of one datacenter:
// start and bootstrap, apply, barrier, leases, membership and leadership.
//
// # Writes
//
// Apply takes one command and returns its result. Waiting commands are joined
// into one Raft entry (group commit: up to 512 commands or 256 KB, at most two
// entries on the way, no timer: what arrives while two are on the way makes the
// next group). Commands enter the log in the order in which Apply was called on
// this server. An error means:
//
//   - KindNoLeader: this server does not lead; the command is not in the log;
//   - KindTimeout: the caller's context ended before the command was sent;
//   - KindMaybeApplied: it was sent, and leadership or the context ended first;
//   - KindInternal: the log refused it (full disk); it is not in the log.
//
// A refusal by the state machine is not an error of Apply: see Result.Err.
//
// # Reads
//
// CheckLease costs no message. It holds only if this server leads, has applied
// everything of earlier terms, and a quorum acknowledged a request that was
// SENT less than one lease ago. It must be asked before and after reading, so
// that a process resumed after a freeze does not answer from a lease that
// others have since taken. Three things others leave to luck are guarded:
//
//   - a leadership transfer lets voters ignore their leader, so in a term in
//     which one was begun no lease is given (VerifyLeader still works);
//   - a voter that restarts has forgotten whom it follows, so it does not vote
//     before one lease has passed since its start;
//   - time is measured on the monotonic and on the wall clock, and the longer
//     one counts, since the monotonic clock may stand still with the machine.
//
// If CheckLease gives ErrLease, VerifyLeader asks a quorum and is the way to
// answer anyway.
//
// # Life
//
// New, Start, Stop. Stop resolves what is under way before Raft stops, and
// closes the transport (Raft does that), but not the stores. All methods are
// safe for concurrent use after Start.
//
// # Disk
//
// An entry that the leader's log refuses (full disk) fails with KindInternal and
// costs it the leadership; it does not stand for election again while there is
// no room and there are others. See store/raftlog for what is final.
//
// A disk that hangs is not an error: the append simply does not end, while
// heartbeats, which need no disk, keep the followers content. A leader whose append
// takes longer than two heartbeat time-outs, while a quorum of followers answers,
// has one of them elected and refuses requests until its own append has ended.
//
// # Restore
//
// Restore replaces the state of all servers. No command is on its way meanwhile:
// those given before are applied, those that come wait.
//
// # Recovery
//
// A group that lost its majority for good is made anew from what one server has:
// by Recover on the stores of a stopped server, or at Start by raft/peers.json, which
// is read once. RecoveryDue tells, over restarts, that the state does not count it
// yet; whoever leads next writes it and says RecoveryDone.
//
// What is outside: the encoding of commands (store/fsm), who should be a member
// (lan/leader), where requests are forwarded (forwarding).
package consensus
