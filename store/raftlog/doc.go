// Package raftlog keeps what a server must not forget: the Raft log, its
// stable values (term and vote) and its snapshots.
//
// On disk, below the data folder:
//
//	raft/wal/         hashicorp/raft-wal: segments and wal-meta.db
//	raft/snapshots/   <term>-<index>-<ms>.snap: checksummed, two kept
//	raft/lock         held while a process uses the folder
//	raft/peers.json, peers.info, recovery.json   see store/consensus
//	raft.marker       "this server had state": see below
//
// What it promises: an entry for which StoreLogs returned nil survives the loss
// of power; one for which StoreLogsAhead did (AheadLog) does so a sync later. An error from fsync is final (what the kernel dropped cannot be
// asked for again): it is handed to Options.Fatal, which must stop the process,
// and every later write is refused. A full disk is not final: the write is
// refused, Raft's leader steps down, and writes are taken again when there is
// room, without a restart.
//
// The marker lies outside raft/ and is written after the first durable entry.
// A server that finds a marker but no log, or a log older than the marker,
// lost its state: it may have voted and acknowledged entries it no longer
// knows, so Open refuses with ErrStateMissing instead of serving "empty" as
// truth. Only a completed leave (Forget on Stores) or the operator (Forget)
// removes it. It also holds the cluster's id and count of recoveries, known before
// the log is applied, and whether a recovery left this server out: Open refuses
// then with ErrOverruled.
//
// Each append also notes how far the log was known to be committed (TrackCommit), in
// the Extensions of its last entry, for a server that restarts among servers that do
// not answer.
//
// All methods are safe for concurrent use. Encoding of entries is not this
// package's business (store/fsm).
package raftlog
